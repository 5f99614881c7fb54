"""What does not fit a message goes into the object store, as far as that helps."""

from typing import Any

from agent_controller.scheduling.large import fit_event, fit_work
from atlas import subjects
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskFailed
from atlas.contracts.work import Subtask
from atlas.objects import Objects

MOST_BYTES = 1_000_000


def subtask(inputs: dict[str, object], goal: str = "g") -> Subtask:
    return Subtask(
        task_id="t1",
        subtask_id="s1",
        attempt=1,
        capability="general",
        instruction="do it",
        goal=goal,
        inputs=inputs,
        stream_id="x",
        idempotency_key="t1:s1:1",
    )


def referred(inputs: dict[str, Any]) -> set[str]:
    return {name for name, value in inputs.items() if "output_ref" in value}


async def test_the_largest_inputs_go_by_reference_until_goal_and_the_rest_fit(bus):
    inputs: dict[str, object] = {"a": "x" * 300_000, "b": "x" * 200_000, "c": "x" * 100_000}
    fitting = await fit_work(Objects(bus), "default", subtask(inputs, goal="g" * 450_000))
    assert referred(fitting.inputs) == {"a"}
    assert len(fitting.to_json()) < MOST_BYTES
    assert await Objects(bus).get("default.t1.s1.inputs.a") == inputs["a"]


async def test_names_count_as_well_as_values(bus):
    inputs: dict[str, object] = {f"{number:060}": "x" * 160 for number in range(4_500)}
    fitting = await fit_work(Objects(bus), "default", subtask(inputs))
    assert len(fitting.to_json()) < MOST_BYTES
    assert 0 < len(referred(fitting.inputs)) < 4_500


async def test_a_value_shorter_than_its_reference_stays_where_it_is(bus):
    inputs: dict[str, object] = {f"n{number}": "x" for number in range(100_000)}
    fitting = await fit_work(Objects(bus), "default", subtask(inputs))
    assert fitting.inputs == inputs
    assert (await bus.jetstream.stream_info(f"OBJ_{subjects.OBJECTS}")).state.messages == 0


async def test_thousands_of_small_outputs_of_a_failed_task_go_by_one_reference(bus):
    outputs: dict[str, object] = {f"n{number}": "x" * 100 for number in range(8_000)}
    error = InvalidRequestError("one of them failed").to_info()
    end = TaskFailed(
        task_id="t1", version=9, at_ms=1, error=error, outputs=outputs, usage=Usage(), cost=Cost()
    )
    fitting = await fit_event(Objects(bus), "default", end)
    assert isinstance(fitting, TaskFailed)
    assert await Objects(bus).get(str(fitting.outputs["output_ref"])) == outputs
