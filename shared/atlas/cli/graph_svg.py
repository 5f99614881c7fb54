"""A task's graph as an SVG picture that reads well on light and on dark pages. Pure."""

import re
from xml.etree import ElementTree as ET

from atlas.cli.figures import one_line
from atlas.cli.graph import Graph, Node
from atlas.cli.graph_layout import BOX_HEIGHT, BOX_WIDTH, Layout, Point, layout_of

_HEAD = 52
"""What the title takes above the boxes."""
_HISTORY = 18
"""What a line about changes of the plan takes there, where there are any."""
_LEAST_WIDTH = 560
_CHARACTERS = 36
"""That fit into a box in 12 pixels, also in a wide font such as DejaVu Sans."""
_TITLE_PIXELS = 10
"""What a character of the title takes at most."""
_ROUND = 8
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, not even as a code."""
_STYLE = """
svg { color-scheme: light dark; --ink: #111827; --soft: #4b5563; --page: #ffffff; --idle: #9ca3af;
  --good: #15803d; --bad: #b91c1c; --busy: #0e7490; --held: #b45309; background: var(--page); }
@media (prefers-color-scheme: dark) {
  svg { --ink: #f3f4f6; --soft: #9ca3af; --page: #111827; --idle: #6b7280; --good: #4ade80;
    --bad: #f87171; --busy: #22d3ee; --held: #fbbf24; } }
text { fill: var(--ink); font: 12px ui-sans-serif, system-ui, sans-serif; }
.soft { fill: var(--soft); }
.title { font-size: 15px; font-weight: 600; }
.name { font-weight: 600; }
.edge { fill: none; stroke: var(--idle); stroke-width: 1.5; }
.arrow { fill: var(--idle); }
.box { fill: var(--page); stroke: var(--idle); stroke-width: 1.5; }
.succeeded .box { stroke: var(--good); }
.failed .box { stroke: var(--bad); stroke-width: 2.5; }
.running .box, .dispatched .box { stroke: var(--busy); stroke-width: 2.5; }
.retrying .box, .awaiting_approval .box { stroke: var(--held); stroke-width: 2.5; }
.waiting .box, .cancelled .box { stroke-dasharray: 4 3; }
"""


def as_svg(graph: Graph) -> str:
    """A picture on its own: no script, no font and no style from elsewhere."""
    layout = layout_of(graph)
    head = _HEAD + (_HISTORY if graph.changes else 0)
    width, height = max(layout.width, _LEAST_WIDTH), layout.height + head
    root = ET.Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
    )
    _text(root, "title", "; ".join(filter(None, [graph.summary, graph.history])))
    ET.SubElement(root, "style").text = _STYLE
    _arrow(root)
    fits = int(width / _TITLE_PIXELS)
    _line(root, one_line(graph.goal, fits) or graph.task_id, 16, 24, "title")
    _line(root, one_line(graph.summary, fits), 16, 42, "soft")
    if graph.changes:
        _line(root, one_line(graph.history, fits), 16, 42 + _HISTORY, "soft")
    place = ET.SubElement(root, "g", transform=f"translate({(width - layout.width) / 2:g} {head})")
    for before, after in graph.edges:
        _edge(place, layout, before, after)
    for node in graph.nodes:
        _box(place, node, layout.boxes[node.subtask_id])
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def _arrow(root: ET.Element) -> None:
    marker = ET.SubElement(
        ET.SubElement(root, "defs"),
        "marker",
        id="arrow",
        viewBox="0 0 8 8",
        refX="7",
        refY="4",
        markerWidth="7",
        markerHeight="7",
        orient="auto",
    )
    ET.SubElement(marker, "path", {"class": "arrow", "d": "M0 0L8 4L0 8z"})


def _edge(place: ET.Element, layout: Layout, before: str, after: str) -> None:
    """One path; through the rows between it goes straight down."""
    drawn: list[str] = []
    for (x1, y1), (x2, y2) in layout.lines[before, after]:
        half = (y1 + y2) / 2
        begin = "L" if drawn else "M"
        drawn.append(f"{begin}{x1:g} {y1:g}C{x1:g} {half:g} {x2:g} {half:g} {x2:g} {y2:g}")
    told = {"class": "edge", "d": "".join(drawn), "marker-end": "url(#arrow)"}
    ET.SubElement(place, "path", {**told, "data-from": before, "data-to": after})


def _box(place: ET.Element, node: Node, corner: Point) -> None:
    x, y = corner
    group = ET.SubElement(place, "g", {"class": node.state, "data-subtask": node.subtask_id})
    _text(group, "title", ": ".join(filter(None, [node.subtask_id, node.note or node.what])))
    box = {"x": f"{x:g}", "y": f"{y:g}", "width": str(BOX_WIDTH), "height": str(BOX_HEIGHT)}
    ET.SubElement(group, "rect", {**box, "rx": str(_ROUND), "class": "box"})
    _line(group, one_line(node.title, _CHARACTERS - 2), x + 12, y + 21, "name")
    _line(group, one_line(node.what, _CHARACTERS), x + 12, y + 38, "soft")
    _line(group, one_line(node.note or node.spent, _CHARACTERS), x + 12, y + 55, "soft")


def _line(parent: ET.Element, said: str, x: float, y: float, kind: str) -> None:
    _text(parent, "text", said, {"x": f"{x:g}", "y": f"{y:g}", "class": kind})


def _text(
    parent: ET.Element, tag: str, said: str, attributes: dict[str, str] | None = None
) -> None:
    """Text from anywhere: the library escapes signs, and what XML does not know is left out."""
    ET.SubElement(parent, tag, attributes or {}).text = _NOT_IN_XML.sub("", said)
