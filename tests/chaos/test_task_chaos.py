"""Many tasks, and every process dying under them: the second promise of Atlas.

`make chaos SEEDS="1 2 3"` runs five hundred tasks for each seed.
"""

from pathlib import Path

import pytest

from tests.chaos.shared import report
from tests.chaos.task_plan import FEW_PROCESSES, PROCESSES, task_plan_of
from tests.chaos.task_verdict import tally_of, violations_of
from tests.chaos.task_world import task_world

_IN_A_CLUSTER = 60
"""Tasks at most where everything is written three times."""


@pytest.mark.timeout(500)
@pytest.mark.parametrize("servers", [1, 3], ids=lambda count: f"{count} NATS servers")
async def test_every_accepted_task_ends_once_and_no_result_counts_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int, tasks: int, servers: int
):
    plan = task_plan_of(seed, tasks if servers == 1 else min(tasks, _IN_A_CLUSTER), servers)
    log = tmp_path / "services.log"
    with log.open("wb") as output:
        async with task_world(plan, tmp_path, output) as running:
            outcome = await running.run()
    wrong = [*outcome.errors]
    wrong += [f"{one}: no end within the time given" for one in outcome.unended]
    for task in plan.tasks:
        wrong += [f"{task.task_id}: {one}" for one in violations_of(task, outcome)]
    wrong += [
        f"{count} messages are left in {name}" for name, count in outcome.left.items() if count
    ]
    happened = tally_of(outcome.logs)
    again = f"SEEDS={plan.seed} TASKS={len(plan.tasks)}"
    told = report(
        capsys, happened=outcome.happened, counted=happened, wrong=wrong, log=log, again=again
    )
    assert not wrong, told
    assert happened["task.completed"] > happened["task.failed"] + happened["task.cancelled"]


@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize(("count", "processes"), [(25, FEW_PROCESSES), (500, PROCESSES)])
def test_every_process_is_struck_and_the_plan_is_that_of_its_seed(
    count: int, processes: tuple[str, ...], servers: int
):
    plan = task_plan_of(7, count, servers)
    assert plan == task_plan_of(7, count, servers)
    assert plan != task_plan_of(8, count, servers)
    struck = {fault.victim for fault in plan.faults if fault.kind != "kill nats"}
    assert struck == set(range(len(processes)))
    killed = {fault.victim % servers for fault in plan.faults if fault.kind == "kill nats"}
    assert killed == set(range(servers))
