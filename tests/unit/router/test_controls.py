"""The table of controls: each state and action."""

import pytest

from atlas.contracts.errors import InvalidTransitionError
from atlas.contracts.streams import StreamControl, StreamState
from provider_router.streaming.controls import ControlState, check_terminal, fold


def control(action: str, by: str | None = None) -> StreamControl:
    return StreamControl.model_validate({"action": action, "by": by})


FLOWING, PAUSED = ControlState(), ControlState(is_paused=True)
CANCELLED = ControlState(cancelled=control("cancel", "first"))


@pytest.mark.parametrize(
    ("state", "action", "after"),
    [
        (FLOWING, "pause", PAUSED),
        (FLOWING, "resume", FLOWING),
        (FLOWING, "cancel", CANCELLED),
        (PAUSED, "pause", PAUSED),
        (PAUSED, "resume", FLOWING),
        (PAUSED, "cancel", ControlState(is_paused=True, cancelled=CANCELLED.cancelled)),
        (CANCELLED, "cancel", CANCELLED),
    ],
)
def test_a_control_that_the_state_allows_leads_to_the_next(
    state: ControlState, action: str, after: ControlState
):
    assert state.after(control(action, "first")) == after


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_a_cancelled_stream_takes_nothing_but_another_cancel(action: str):
    with pytest.raises(InvalidTransitionError, match="final"):
        CANCELLED.after(control(action))


def test_the_first_cancel_is_the_one_that_counts():
    assert CANCELLED.after(control("cancel", "second")).cancelled == control("cancel", "first")


def test_kept_controls_come_to_their_last_and_refused_ones_change_nothing():
    kept = [control(one) for one in ("pause", "resume", "pause", "cancel", "resume")]
    assert fold(kept[:1]) == PAUSED
    assert fold(kept[:2]) == FLOWING
    assert fold(kept) == ControlState(is_paused=True, cancelled=control("cancel"))


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
@pytest.mark.parametrize("state", [StreamState.COMPLETED, StreamState.ERROR, StreamState.CANCELLED])
def test_an_ended_stream_takes_only_a_repeat_of_the_cancel_that_ended_it(
    state: StreamState, action: str
):
    if (state, action) == (StreamState.CANCELLED, "cancel"):
        check_terminal(state, control(action))
        return
    with pytest.raises(InvalidTransitionError, match=f"has ended as {state.value}"):
        check_terminal(state, control(action))
