"""Numbers at some of the places from 0 on: a frozen value that is cheap to change a little.

Of a plan of ten thousand subtasks each event moves a few marks. The numbers stand in blocks, of
which a change copies those that it touches, and each block knows its least: so the first mark, the
least number, and all marks up to a number are found without a look at the others.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, compress, count

_WIDE = 64
"""Places in a block."""
_NONE = 1 << 100
"""Where there is no mark; above all times and counts."""
_EMPTY = (_NONE,) * _WIDE


class Marks:  # noqa: PLW1641 - compared, and never looked up
    """Made empty, changed by `changed`; equal where the same places have the same numbers."""

    __slots__ = ("_blocks", "_count", "_leasts")

    def __init__(
        self,
        blocks: tuple[tuple[int, ...], ...] = (),
        leasts: tuple[int, ...] = (),
        count: int = 0,
    ) -> None:
        """Without arguments: no marks."""
        self._blocks, self._leasts, self._count = blocks, leasts, count

    def changed(self, numbers: Mapping[int, int | None]) -> "Marks":
        """The same with these numbers at these places; None takes a mark away."""
        blocks, leasts, marked = list(self._blocks), list(self._leasts), self._count
        touched: dict[int, list[int]] = {}
        for place, number in numbers.items():
            at, within = divmod(place, _WIDE)
            if at not in touched:
                if (more := at + 1 - len(blocks)) > 0:
                    blocks += [_EMPTY] * more
                    leasts += [_NONE] * more
                touched[at] = list(blocks[at])
            block = touched[at]
            new = _NONE if number is None else number
            marked += (new != _NONE) - (block[within] != _NONE)
            block[within] = new
        for at, block in touched.items():
            blocks[at], leasts[at] = tuple(block), min(block)
        while leasts and leasts[-1] == _NONE:  # equal marks are made in one way
            leasts.pop()
            blocks.pop()
        return Marks(tuple(blocks), tuple(leasts), marked)

    def __len__(self) -> int:
        """How many places are marked."""
        return self._count

    def __getitem__(self, place: int) -> int:
        """The number at a place, 0 where there is none."""
        at, within = divmod(place, _WIDE)
        number = self._blocks[at][within] if at < len(self._blocks) else _NONE
        return 0 if number == _NONE else number

    def places(self, most: int = _NONE - 1) -> Iterator[int]:
        """The places whose numbers are not above `most`, in order."""
        is_found = most.__ge__  # and compress, not a loop: most blocks have nothing to say
        for at in compress(count(), map(is_found, self._leasts)):
            first = at * _WIDE
            yield from compress(range(first, first + _WIDE), map(is_found, self._blocks[at]))

    def least(self, above: int | None = None) -> int | None:
        """The least number, or the least that is above another."""
        found = min(self._leasts, default=_NONE)
        if above is not None and found <= above:
            blocks = compress(self._blocks, (least != _NONE for least in self._leasts))
            found = min(
                (number for number in chain.from_iterable(blocks) if number > above),
                default=_NONE,
            )
        return None if found == _NONE else found

    def __eq__(self, other: object) -> bool:
        """Whether the same places have the same numbers."""
        return isinstance(other, Marks) and self._blocks == other._blocks

    def __repr__(self) -> str:
        """The numbers by their places."""
        return f"Marks({ {place: self[place] for place in self.places()} })"
