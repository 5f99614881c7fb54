"""Where the boxes and lines of a task's graph go: rows from top to bottom. Pure.

The layered layout of Sugiyama, Tagawa and Toda (1981) in its simplest form: an edge that crosses
rows has a bend in each of them, and each row is put in the order of what its members hang on, a
few times down and up, which takes most crossings out.
"""

from dataclasses import dataclass
from itertools import batched, pairwise

from atlas.cli.graph import Graph

BOX_WIDTH = 256
BOX_HEIGHT = 66
_BEND_WIDTH = 14
_GAP_X = 22
_GAP_Y = 46
_MARGIN = 16
_MOST_IN_ROW = 8
"""Boxes side by side; a layer with more goes on in the next row."""
_MOST_BENDS = 4_000
"""Above that long edges go straight, behind the boxes: nobody could follow them anyway."""
_SWEEPS = 4

type Edge = tuple[str, str]
type Point = tuple[float, float]
type Bend = tuple[str, str, int]
type Cell = str | Bend
"""A box by its subtask, or where an edge passes a row."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in pixels, from the upper left corner."""

    width: float
    height: float
    boxes: dict[str, Point]
    """The upper left corner of each subtask's box."""
    lines: dict[Edge, tuple[tuple[Point, Point], ...]]
    """The curves of each edge, from row to row: where each begins and ends."""


def layout_of(graph: Graph) -> Layout:
    """A layout in which every edge goes downwards and no two boxes meet."""
    rows: list[list[Cell]] = [
        [node.subtask_id for node in part]
        for layer in graph.layers
        for part in batched(layer, _MOST_IN_ROW)
    ]
    row_of = {cell: number for number, row in enumerate(rows) for cell in row}
    courses = _courses(list(graph.edges), row_of, rows)
    _put_in_order(rows, list(courses.values()))
    width = max(map(_width_of, rows), default=0) + 2 * _MARGIN
    height = len(rows) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN if rows else 2 * _MARGIN
    middles = {cell: middle for row in rows for cell, middle in _middles(row, width)}
    tops = [_MARGIN + number * (BOX_HEIGHT + _GAP_Y) for number in range(len(rows))]
    boxes = {
        cell: (middles[cell] - BOX_WIDTH / 2, float(tops[number]))
        for number, row in enumerate(rows)
        for cell in row
        if isinstance(cell, str)
    }
    lines = {
        edge: tuple(
            (
                (middles[above], float(tops[_row(above, row_of)] + BOX_HEIGHT)),
                (middles[below], float(tops[_row(below, row_of)])),
            )
            for above, below in pairwise(course)
        )
        for edge, course in courses.items()
    }
    return Layout(width, height, boxes, lines)


def _courses(
    edges: list[Edge], row_of: dict[Cell, int], rows: list[list[Cell]]
) -> dict[Edge, list[Cell]]:
    """Each edge as the cells that it passes; its bends are put into their rows."""
    bends = sum(row_of[after] - row_of[before] - 1 for before, after in edges)
    courses: dict[Edge, list[Cell]] = {}
    for before, after in edges:
        between: list[Cell] = []
        if bends <= _MOST_BENDS:
            between = [(before, after, row) for row in range(row_of[before] + 1, row_of[after])]
        for row, bend in enumerate(between, row_of[before] + 1):
            rows[row].append(bend)
        courses[before, after] = [before, *between, after]
    return courses


def _row(cell: Cell, row_of: dict[Cell, int]) -> int:
    return row_of[cell] if isinstance(cell, str) else cell[2]


def _put_in_order(rows: list[list[Cell]], courses: list[list[Cell]]) -> None:
    """Sort each row by where what its cells hang on stands, downwards and upwards in turn."""
    above: dict[Cell, list[Cell]] = {}
    below: dict[Cell, list[Cell]] = {}
    for course in courses:
        for upper, lower in pairwise(course):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    place: dict[Cell, float] = {}
    for row in rows:
        _note_places(row, place)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        hangs_on = above if downwards else below
        for row in rows if downwards else reversed(rows):
            wanted = {
                cell: sum(place[one] for one in others) / len(others)
                if (others := hangs_on.get(cell))
                else place[cell]
                for cell in row
            }
            row.sort(key=wanted.__getitem__)
            _note_places(row, place)


def _note_places(row: list[Cell], place: dict[Cell, float]) -> None:
    for number, cell in enumerate(row):
        place[cell] = (number + 0.5) / len(row)


def _width(cell: Cell) -> int:
    return BOX_WIDTH if isinstance(cell, str) else _BEND_WIDTH


def _width_of(row: list[Cell]) -> float:
    return sum(map(_width, row)) + _GAP_X * (len(row) - 1)


def _middles(row: list[Cell], width: float) -> list[tuple[Cell, float]]:
    """The row in the middle of the picture: where the middle of each cell is."""
    left = (width - _width_of(row)) / 2
    found = []
    for cell in row:
        found.append((cell, left + _width(cell) / 2))
        left += _width(cell) + _GAP_X
    return found
