"""Patterns from the door to the end of a task, against real NATS."""

from atlas.contracts.errors import ProviderAuthError
from tests.integration.test_tasks import User, controller, working


async def test_each_element_of_a_list_is_mapped_by_a_worker_and_one_joins_what_they_made(
    bus, nats_server
):
    def do(subtask) -> object:
        if subtask.subtask_id == "reduce":
            return sorted(subtask.inputs.items())
        return f"{subtask.inputs['task']['lakes']} in {subtask.inputs['task']['unit']}"

    user = User(bus)
    async with (
        controller(nats_server.url),
        working(bus, do, capabilities=("analysis", "draft")),
    ):
        task_id = await user.submit(
            pattern="map_reduce",
            pattern_options={"over": "lakes"},
            inputs={"lakes": ["Zug", "Thun"], "unit": "km"},
        )
        status = await user.end(task_id)
    assert status.output == [
        ["map-1", "Zug in km"],
        ["map-2", "Thun in km"],
        ["task", {"unit": "km"}],
    ]


async def test_a_vote_goes_on_with_its_quorum_and_tells_who_is_missing(bus, nats_server):
    def do(subtask) -> object:
        if subtask.subtask_id == "vote-2":
            return ProviderAuthError("no key")
        if subtask.subtask_id == "verdict":
            return {
                "of": sorted(subtask.inputs),
                "told": "no result of vote-2" in subtask.instruction,
            }
        return "yes"

    user = User(bus)
    async with (
        controller(nats_server.url),
        working(bus, do, capabilities=("analysis", "review")),
    ):
        task_id = await user.submit(pattern="vote", on_failure="quorum", quorum=2)
        status = await user.end(task_id)
        *_, end = await user.log(task_id)
    assert status.output == {"of": ["vote-1", "vote-3"], "told": True}
    assert (status.lost, end.lost) == (["vote-2"], ["vote-2"])
    assert "no key" in end.cause.message
