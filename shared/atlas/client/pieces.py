"""What a restart does to text that was already given. Pure.

`async for text in stream` gives pieces as they come. When an attempt's text is dropped, the new
attempt is compared with what was already given: what both have in common is not given again, so
that an attempt that says the same (or more) just goes on. Where it says something else, one piece
comes with `restart` set, and it holds the whole text so far: everything given before it is void.
So, always, the pieces from the last `restart` on are the final text, and nothing is given twice.
"""

from typing import Self

from atlas.contracts.streams import StreamCompleted, StreamEvent, TextDelta
from atlas.reading import Reading


class Piece(str):
    """A piece of text. `restart` says that the pieces before it are void."""

    __slots__ = ("restart",)
    restart: bool

    def __new__(cls, text: str, *, restart: bool = False) -> Self:
        """A piece that follows the ones before it, unless `restart`."""
        piece = super().__new__(cls, text)
        piece.restart = restart
        return piece


class Pieces:
    """The pieces of one reader, made of the events that it took."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._given: list[str] = []
        self._restarts = 0

    def skip(self, event: StreamEvent) -> None:
        """Count an event that was just folded as given."""
        if self._reading.restarts != self._restarts:
            self._given, self._restarts = [self._reading.text], self._reading.restarts
        elif isinstance(event, TextDelta):
            self._given.append(event.text)

    def of(self, event: StreamEvent) -> Piece | None:
        """The piece that an event brings, after it was folded."""
        if isinstance(event, TextDelta):
            if self._reading.restarts != self._restarts:
                return self._beyond(self._reading.text)
            self._given.append(event.text)
            return Piece(event.text)
        if isinstance(event, StreamCompleted) and self._reading.is_whole():
            return self._beyond(self._reading.text)
        return None

    def _beyond(self, text: str) -> Piece | None:
        """What of `text` was not given yet; all of it, with `restart`, where it says otherwise."""
        given = "".join(self._given)
        if given != text and given.startswith(text) and self._reading.terminal is None:
            return None  # still saying again what was given
        self._restarts = self._reading.restarts
        self._given = [text]
        if text == given:
            return None
        if text.startswith(given):
            return Piece(text[len(given) :])
        return Piece(text, restart=True)
