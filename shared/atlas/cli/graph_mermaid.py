"""A task's graph as a Mermaid flowchart, for Markdown that draws it. Pure.

What comes from outside, such as a goal or an error, is written in character codes wherever Mermaid
or YAML could read a sign of it as their own.
"""

import re

from atlas.cli.figures import one_line
from atlas.cli.graph import Graph, Node
from atlas.contracts.tasks import SubtaskState

_NOTE_WIDTH = 80
_TITLE_WIDTH = 120
_HEAD_WIDTH = 240
_PLAIN = re.compile(r"[^A-Za-z0-9 ,.:_$~≥·✓✗⊘▶↻○?-]")
_COLOURS = {
    SubtaskState.WAITING: ("#e5e7eb", "#9ca3af"),
    SubtaskState.AWAITING_APPROVAL: ("#fef3c7", "#d97706"),
    SubtaskState.DISPATCHED: ("#cffafe", "#0891b2"),
    SubtaskState.RUNNING: ("#cffafe", "#0891b2"),
    SubtaskState.RETRYING: ("#fef3c7", "#d97706"),
    SubtaskState.SUCCEEDED: ("#dcfce7", "#16a34a"),
    SubtaskState.FAILED: ("#fee2e2", "#dc2626"),
    SubtaskState.CANCELLED: ("#e5e7eb", "#9ca3af"),
}
"""Fill and border; the text on them is dark, whatever the page is."""


def as_mermaid(graph: Graph) -> str:
    """The text of a flowchart, from what waits for nothing downwards."""
    names = {node.subtask_id: f"n{number}" for number, node in enumerate(graph.nodes, 1)}
    said = [one_line(graph.goal, _TITLE_WIDTH) or graph.task_id, graph.history]
    title = _yaml(one_line(" — ".join(filter(None, said)), _HEAD_WIDTH))
    used = sorted({node.state for node in graph.nodes})
    return "\n".join(
        [
            *("---", f"title: {title}", "---", "flowchart TD"),
            *(f"  {names[node.subtask_id]}{_box(node)}" for node in graph.nodes),
            *(f"  {names[before]} --> {names[after]}" for before, after in graph.edges),
            *map(_class, used),
        ]
    )


def _box(node: Node) -> str:
    said = [node.title, node.what, node.spent, one_line(node.note, _NOTE_WIDTH)]
    return f'["{"<br/>".join(_label(one) for one in said if one)}"]:::{node.state}'


def _class(state: SubtaskState) -> str:
    fill, stroke = _COLOURS[state]
    return f"  classDef {state} fill:{fill},stroke:{stroke},color:#111827"


def _label(text: str) -> str:
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", text)


def _yaml(text: str) -> str:
    """A YAML string in double quotes, without a sign that a Mermaid directive could begin with."""
    return f'"{_PLAIN.sub(lambda found: f"\\U{ord(found[0]):08x}", text)}"'
