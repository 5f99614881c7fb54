"""Whose turn it is: high before normal before low, and none of them never. Pure."""

from atlas.contracts.tasks import Priority

_HIGH_FIRST = (Priority.HIGH, Priority.NORMAL, Priority.LOW)
_NORMAL_FIRST = (Priority.NORMAL, Priority.HIGH, Priority.LOW)
_LOW_FIRST = (Priority.LOW, Priority.HIGH, Priority.NORMAL)
_CYCLE = 16


def precedence(turn: int) -> tuple[Priority, ...]:
    """Which priority is served first at this turn, and which when it has nothing to do.

    Of sixteen turns twelve begin with high, three with normal and one with low, so that a flood of
    urgent work slows the rest down and does not stop it.
    """
    place = turn % _CYCLE
    if place == _CYCLE - 1:
        return _LOW_FIRST
    return _NORMAL_FIRST if place % 4 == 3 else _HIGH_FIRST  # noqa: PLR2004 - three of four
