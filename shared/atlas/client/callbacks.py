"""Functions that are called while a stream is read, for whoever would rather be told than ask."""

from collections import deque
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from atlas.client.pieces import Piece, Pieces
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.streams import StreamEvent, StreamState
from atlas.reading import Reading

type Callback[T] = Callable[[T], Awaitable[object] | object]
"""A function or a coroutine function; what it gives is ignored."""


class Callbacks:
    """The callbacks of one stream, and the calls that are due.

    Args:
        on_state: Gets each new state.
        on_text: Gets each piece of text, as `async for` gives it.

    Raises:
        InvalidRequestError: One of them cannot be called.
    """

    def __init__(
        self, on_state: Callback[StreamState] | None, on_text: Callback[Piece] | None
    ) -> None:
        for name, given in (("on_state", on_state), ("on_text", on_text)):
            if given is not None and not callable(given):
                raise InvalidRequestError(
                    f"{name}: {given!r} is no function; give one that takes one argument, or None"
                )
        self._on_state = on_state
        self._on_text = on_text
        self._state = StreamState.QUEUED
        self._pieces: Pieces | None = None
        self._due: deque[tuple[str, Callable[[], object]]] = deque()

    def __bool__(self) -> bool:
        return self._on_state is not None or self._on_text is not None

    def take(self, event: StreamEvent, reading: Reading, *, passes: bool) -> None:
        """Note what an event that was just folded calls for."""
        pieces = self._pieces = self._pieces or Pieces(reading)
        if not passes:
            pieces.skip(event)
            return
        on_state, on_text, state = self._on_state, self._on_text, reading.state
        if on_text is not None and (piece := pieces.of(event)) is not None:
            self._due.append(("on_text", lambda: on_text(piece)))
        if on_state is not None and state is not self._state:
            self._due.append(("on_state", lambda: on_state(state)))
        self._state = state

    async def run(self, where: str) -> None:
        """Make the calls that are due, each once, in their order.

        Raises:
            Exception: What a callback raised, with a note. The calls after it are still due.
        """
        while self._due:
            name, call = self._due.popleft()
            try:
                given = call()
                if isawaitable(given):
                    await given
            except Exception as error:
                error.add_note(
                    f"raised by {name} at {where}; the stream is unharmed: "
                    "read on, and nothing is missing"
                )
                raise
