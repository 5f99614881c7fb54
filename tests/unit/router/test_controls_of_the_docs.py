"""The table of docs/streams.md says what a control does in each state, as the router does it."""

import re

import pytest
from tests.support.documents import DOCS

from atlas.contracts.errors import InvalidTransitionError
from atlas.contracts.streams import ControlAction, StreamControl, StreamState
from provider_router.streaming.controls import ControlState, check_terminal

ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)
TABLE = {
    (StreamState(state), action): cell
    for states, *cells in ROW.findall((DOCS / "streams.md").read_text())
    for state in re.findall(r"`(\w+)`", states)
    for action, cell in zip(ControlAction, cells, strict=True)
}
ENDED = (StreamState.COMPLETED, StreamState.ERROR, StreamState.CANCELLED)
HELD = {StreamState.INITIALIZING: False, StreamState.ACTIVE: False, StreamState.PAUSED: True}


def _after(held: ControlState, state: StreamState) -> str:
    """What a router answers then: the first word of a cell."""
    if held.cancelled is not None:
        return "cancelled"
    return "paused" if held.is_paused else {StreamState.PAUSED: "active"}.get(state, state)


def test_it_has_every_state_and_action():
    states = set(StreamState) - {StreamState.NOT_FOUND}
    assert TABLE.keys() == {(state, action) for state in states for action in ControlAction}


@pytest.mark.parametrize("action", ControlAction)
@pytest.mark.parametrize("state", ENDED)
def test_after_the_end_only_the_cancel_that_ended_it_may_be_repeated(
    state: StreamState, action: ControlAction
):
    try:
        check_terminal(state, StreamControl(action=action))
    except InvalidTransitionError:
        assert TABLE[state, action] == "`invalid_transition`"
    else:
        assert TABLE[state, action] == "no change"


@pytest.mark.parametrize("action", ControlAction)
@pytest.mark.parametrize("state", HELD)
def test_while_it_runs_a_control_leads_where_the_table_says(
    state: StreamState, action: ControlAction
):
    before = ControlState(is_paused=HELD[state])
    after = before.after(StreamControl(action=action))
    said = "no change" if after == before else f"`{_after(after, state)}`"
    assert TABLE[state, action].startswith(said)
