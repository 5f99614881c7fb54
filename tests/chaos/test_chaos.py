"""Many streams, random watchers, and every process dying under them: the first promise of Atlas.

`make chaos SEEDS="1 2 3"` runs two hundred streams for each seed.
"""

from pathlib import Path

import pytest

from tests.chaos.plan import plan_of
from tests.chaos.shared import report
from tests.chaos.verdict import tally, violations
from tests.chaos.world import world


@pytest.mark.timeout(400)
async def test_every_watcher_of_every_stream_ends_with_the_same_whole_text_or_the_same_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int, streams: int
):
    plan = plan_of(seed, streams)
    log = tmp_path / "routers.log"
    with log.open("wb") as output:
        async with world(plan, tmp_path, output) as running:
            outcome = await running.run()
    wrong = [*outcome.errors]
    wrong += [f"{one}: no end within the time given" for one in outcome.unended]
    for stream in plan.streams:
        wrong += [f"{stream.stream_id}: {one}" for one in violations(stream, outcome)]
    if outcome.open_answers:
        wrong.append(f"{outcome.open_answers} connections to the provider are still open")
    if outcome.queued_requests:
        wrong.append(f"{outcome.queued_requests} requests are still in the queue")
    happened = tally(outcome.stored)
    again = f"SEEDS={plan.seed} STREAMS={len(plan.streams)}"
    told = report(
        capsys, happened=outcome.happened, counted=happened, wrong=wrong, log=log, again=again
    )
    assert not wrong, told
    assert happened["stream.adopted"] > 0, "nothing was taken over, so nothing was shown"
    assert happened["stream.completed"] > happened["stream.failed"]


@pytest.mark.parametrize("count", [30, 200])
def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another(count: int):
    assert plan_of(7, count) == plan_of(7, count)
    assert plan_of(7, count) != plan_of(8, count)
    kinds = {fault.kind for fault in plan_of(7, count).faults}
    assert kinds == {"kill", "stop", "kill nats", "break providers"}
