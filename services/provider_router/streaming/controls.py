"""What a control does to a stream: a pure state machine (contract A3).

Repeating an action is fine; one that the state does not allow changes nothing and is answered
with `invalid_transition`; cancel is final.
"""

from dataclasses import dataclass, replace

from atlas.contracts.errors import InvalidTransitionError
from atlas.contracts.streams import ControlAction, StreamControl, StreamState

ENDS = {
    "stream.completed": StreamState.COMPLETED,
    "stream.failed": StreamState.ERROR,
    "stream.cancelled": StreamState.CANCELLED,
}
"""The state that each terminal event leaves a stream in."""


@dataclass(frozen=True, slots=True)
class ControlState:
    """What was asked of a stream so far."""

    is_paused: bool = False
    cancelled: StreamControl | None = None

    def after(self, control: StreamControl) -> "ControlState":
        """The state after one more control.

        Raises:
            InvalidTransitionError: The state does not allow it.
        """
        if self.cancelled is not None:
            if control.action is ControlAction.CANCEL:
                return self
            raise InvalidTransitionError(
                f"cannot {control.action.value}: the stream is cancelled, and that is final"
            )
        match control.action:
            case ControlAction.PAUSE:
                return replace(self, is_paused=True)
            case ControlAction.RESUME:
                return replace(self, is_paused=False)
            case ControlAction.CANCEL:
                return replace(self, cancelled=control)


def fold(controls: list[StreamControl]) -> ControlState:
    """What kept controls come to, in their order; those that were refused change nothing."""
    state = ControlState()
    for control in controls:
        try:
            state = state.after(control)
        except InvalidTransitionError:
            continue
    return state


def check_terminal(state: StreamState, control: StreamControl) -> None:
    """Check a control of a stream that has ended.

    Raises:
        InvalidTransitionError: It is no repeat of the cancel that ended the stream.
    """
    is_repeat = state is StreamState.CANCELLED and control.action is ControlAction.CANCEL
    if not is_repeat:
        raise InvalidTransitionError(
            f"cannot {control.action.value}: the stream has ended as {state.value}"
        )
