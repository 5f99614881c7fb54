"""Patterns from the door to the end of a task, against real NATS."""

from typing import Any

import pytest

from atlas.contracts.errors import InvalidRequestError, ProviderAuthError
from atlas.contracts.tasks import TaskRequest
from tests.support.tasks import SETTINGS, User, controller, working


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


def drafts(request: TaskRequest) -> Any:
    """A pattern of one's own, as a user writes it."""
    options: Any = request.pattern_options
    count = options["drafts"]
    ids = [f"draft-{number}" for number in range(count)]
    plan = [{"id": one, "capability": "draft", "instruction": "Write it."} for one in ids]
    best = {"id": "best", "capability": "review", "instruction": "Choose the best."}
    return [*plan, {**best, "depends_on": ids}]


async def test_a_pattern_of_ones_own_is_declared_in_the_settings_and_named_in_a_request(
    bus, nats_server
):
    own = SETTINGS.controller.model_copy(update={"patterns": {"drafts": f"{__name__}:drafts"}})
    settings = SETTINGS.model_copy(update={"controller": own})
    user = User(bus)
    async with (
        controller(nats_server.url, settings=settings),
        working(bus, lambda one: sorted(one.inputs), capabilities=("draft", "review")),
    ):
        status = await user.end(await user.submit(pattern="drafts", pattern_options={"drafts": 2}))
        with pytest.raises(InvalidRequestError, match="did you mean 'drafts'"):
            await user.submit(pattern="draft")
        with pytest.raises(InvalidRequestError, match="it failed with KeyError: 'drafts'"):
            await user.submit(pattern="drafts", pattern_options={"number": 2})
    assert status.pattern == "drafts"
    assert status.output == ["draft-0", "draft-1"]
