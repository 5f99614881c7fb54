"""A task's plan as text, as Mermaid and as a picture."""

import html
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas.cli.board import Board, Row
from atlas.cli.graph import Graph, graph_of
from atlas.cli.graph_layout import BOX_HEIGHT, BOX_WIDTH, layout_of
from atlas.cli.graph_mermaid import as_mermaid
from atlas.cli.graph_svg import as_svg
from atlas.cli.graph_text import as_text
from atlas.cli.graphs import format_of
from atlas.cli.options import FORMATS
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.tasks import SubtaskState, TaskState

_SVG = "{http://www.w3.org/2000/svg}"
_NOW = 60_000


def _row(name: str, *depends_on: str, state: SubtaskState = SubtaskState.WAITING) -> Row:
    return Row(name, "research", list(depends_on), state)


def _board(*rows: Row, goal: str = "a report") -> Board:
    board = Board("t1", goal, TaskState.RUNNING, started_at_ms=_NOW - 12_300)
    board.rows = {row.subtask_id: row for row in rows}
    return board


@st.composite
def _plans(draw: st.DrawFn) -> Graph:
    """The graph of any valid plan, as its log may leave it."""
    count = draw(st.integers(0, 200))
    rows = []
    for number in range(count):
        before = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        state = draw(st.sampled_from(SubtaskState))
        rows.append(_row(f"n{number}", *(f"n{one}" for one in before), state=state))
        rows[-1].note = draw(st.none() | st.text(max_size=20))
    order = draw(st.permutations(rows)) if count < 20 else rows
    return graph_of(_board(*order, goal=draw(st.text(max_size=40))), _NOW)


def _wide(depth: int, width: int) -> Graph:
    """Layers in which everything waits for everything before it."""
    rows: list[Row] = []
    for layer in range(depth):
        before = [row.subtask_id for row in rows]
        rows += [_row(f"n{layer}_{number}", *before) for number in range(width)]
    return graph_of(_board(*rows), _NOW)


@pytest.mark.parametrize("drawn", [as_text, as_mermaid, as_svg])
def test_why_a_plan_was_changed_stands_above_it(drawn):
    board = _board(_row("a"), _row("b", "a"))
    assert "changed" not in drawn(graph_of(board, _NOW))
    board.changes = ["the source is gone"]
    assert "the plan was changed" in drawn(graph_of(board, _NOW))
    assert "the source is gone" in drawn(graph_of(board, _NOW))


@given(_plans())
@example(_wide(1, 200))
@example(_wide(200, 1))
@example(_wide(8, 10))
@settings(deadline=None, max_examples=40)
def test_every_subtask_and_every_edge_is_told_once_in_each_format(graph: Graph):
    nodes = [node.subtask_id for node in graph.nodes]
    edges = sorted(graph.edges)
    assert len(set(edges)) == len(edges)
    for told in (_in_text, _in_mermaid, _in_svg):
        found_nodes, found_edges = told(graph)
        assert found_nodes == nodes
        assert sorted(found_edges) == edges


def _in_text(graph: Graph) -> tuple[list[str], list[tuple[str, str]]]:
    notes = sum(bool(node.note) for node in graph.nodes)
    lines = [one for one in as_text(graph).splitlines()[3:] if re.match(r" *\d* [·?○▶↻✓✗⊘] n", one)]
    assert len(as_text(graph).split("\n")) == 3 + len(lines) + notes
    nodes = [re.findall(r"[·?○▶↻✓✗⊘] (\w+)", line)[0] for line in lines]
    edges = [
        (before, node)
        for node, line in zip(nodes, lines, strict=True)
        for before in filter(None, line.partition("← ")[2].split(", "))
    ]
    return nodes, edges


def _in_mermaid(graph: Graph) -> tuple[list[str], list[tuple[str, str]]]:
    """Read as Mermaid would: a declaration a line, and nothing that is neither."""
    lines = as_mermaid(graph).splitlines()
    begin = lines.index("flowchart TD")
    names, edges = {}, []
    for line in lines[begin + 1 :]:
        if box := re.fullmatch(r'  (n\d+)\["[^"]? ?([\w-]+)(?:<br/>[^"<>]*)*"\]:::\w+', line):
            assert box[1] not in names
            names[box[1]] = box[2]
        elif edge := re.fullmatch(r"  (n\d+) --> (n\d+)", line):
            edges.append((names[edge[1]], names[edge[2]]))
        else:
            assert re.fullmatch(r"  classDef \w+ [\w:#,]+", line), line
    return list(names.values()), edges


def _in_svg(graph: Graph) -> tuple[list[str], list[tuple[str, str]]]:
    root = ET.fromstring(as_svg(graph))
    nodes = [
        one.attrib["data-subtask"] for one in root.iter(f"{_SVG}g") if "data-subtask" in one.attrib
    ]
    paths = [one for one in root.iter(f"{_SVG}path") if one.get("class") == "edge"]
    return nodes, [(one.attrib["data-from"], one.attrib["data-to"]) for one in paths]


@given(_plans())
@example(_wide(8, 10))
@settings(deadline=None, max_examples=40)
def test_every_line_goes_down_and_no_two_boxes_meet(graph: Graph):
    layout = layout_of(graph)
    boxes = list(layout.boxes.values())
    for x, y in boxes:
        assert 0 <= x <= layout.width - BOX_WIDTH
        assert 0 <= y <= layout.height - BOX_HEIGHT
    for number, (x, y) in enumerate(boxes):
        for other_x, other_y in boxes[:number]:
            assert abs(x - other_x) >= BOX_WIDTH or abs(y - other_y) >= BOX_HEIGHT
    for (before, after), parts in layout.lines.items():
        (begin_x, begin_y), (end_x, end_y) = parts[0][0], parts[-1][1]
        assert (begin_x - BOX_WIDTH / 2, begin_y - BOX_HEIGHT) == layout.boxes[before]
        assert (end_x - BOX_WIDTH / 2, end_y) == layout.boxes[after]
        assert all(top[1] < bottom[1] for top, bottom in parts)


def test_a_line_goes_round_the_boxes_between_its_ends():
    layout = layout_of(graph_of(_board(_row("a"), _row("b", "a"), _row("c", "a", "b")), _NOW))
    (_, (x, _)), _ = layout.lines["a", "c"]
    left, _ = layout.boxes["b"]
    assert not left < x < left + BOX_WIDTH


@given(st.text())
@example('"]; click n1 "javascript:alert(1)" <script>alert(1)</script> %%{init: {}}%% &amp; --- \n')
def test_what_comes_from_outside_stays_text(said: str):
    row = _row("a", state=SubtaskState.FAILED)
    row.note = said
    graph = graph_of(_board(row, goal=said), _NOW)
    flat = " ".join(said.split())
    mermaid = as_mermaid(graph)
    _in_mermaid(graph)
    assert len(mermaid.splitlines()) == 6
    assert "%%" not in mermaid
    title = yaml.safe_load(mermaid.splitlines()[1])["title"]
    assert title == (flat or "t1") or title.endswith("…")
    root = ET.fromstring(as_svg(graph))
    kinds = {one.tag.removeprefix(_SVG) for one in root.iter()}
    assert kinds == {"svg", "title", "style", "defs", "marker", "path", "text", "g", "rect"}


def test_mermaid_reads_the_codes_back_as_the_text():
    row = _row("a", state=SubtaskState.FAILED)
    row.note = 'no "answer" in <50 ms> & #1'
    (label,) = re.findall(r'\["(.*)"\]', as_mermaid(graph_of(_board(row), _NOW)))
    read = html.unescape(re.sub(r"#(\d+);", r"&#\1;", label.split("<br/>")[-1]))
    assert read == row.note


def test_the_text_says_where_each_subtask_is_and_what_it_used():
    done = _row("prices", state=SubtaskState.SUCCEEDED)
    done.started_at_ms, done.ended_at_ms = 1_000, 5_200
    done.usage, done.cost = Usage(input_tokens=1_000, output_tokens=20), Cost(total_usd=0.25)
    failed = _row("lakes", state=SubtaskState.FAILED)
    failed.note = "slow\ndown"
    board = _board(done, failed, _row("write", "prices", "lakes"))
    board.usage, board.cost = done.usage, done.cost
    assert as_text(graph_of(board, _NOW)).splitlines() == [
        "task t1: running, 3 subtasks, 12.3s, 1,000 in, 20 out, $0.25",
        "goal  a report",
        "",
        "1 ✓ prices  research  succeeded  4.2s  1,000 in, 20 out  $0.25",
        "  ✗ lakes   research  failed",
        "    slow down",
        "2 · write   research  waiting                                   ← prices, lakes",
    ]


def test_a_dependency_that_the_plan_lost_is_no_edge_and_one_said_twice_is_one():
    graph = graph_of(_board(_row("a"), _row("b", "a", "gone", "a")), _NOW)
    assert list(graph.edges) == [("a", "b")]


def test_the_picture_has_colours_for_both_kinds_of_page():
    style = ET.fromstring(as_svg(graph_of(_board(_row("a")), _NOW))).find(f"{_SVG}style")
    assert style is not None
    assert style.text is not None
    light, dark = style.text.split("@media (prefers-color-scheme: dark)")
    names = re.findall(r"(--\w+): #", light)
    assert set(names) == set(re.findall(r"(--\w+): #", dark.partition("} }")[0]))
    assert set(re.findall(r"var\((--\w+)\)", style.text)) == set(names)


@pytest.mark.parametrize(
    ("format_", "path", "expected"),
    [
        (None, None, "text"),
        ("svg", None, "svg"),
        (None, Path("plan.SVG"), "svg"),
        (None, Path("plan.mmd"), "mermaid"),
        ("mermaid", Path("plan.md"), "mermaid"),
    ],
)
def test_the_format_is_what_was_asked_for_or_what_the_file_says(format_, path, expected):
    assert format_of(format_, path) == expected


@pytest.mark.parametrize(("format_", "path"), [("png", None), (None, Path("plan")), ("", None)])
def test_a_format_that_does_not_exist_is_refused_with_those_that_do(format_, path):
    with pytest.raises(InvalidRequestError, match="svg"):
        format_of(format_, path)


def test_every_format_that_is_offered_can_be_asked_for():
    assert [format_of(one, None) for one in FORMATS] == list(FORMATS)
