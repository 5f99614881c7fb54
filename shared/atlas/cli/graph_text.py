"""A task's graph as text: a step a layer, each subtask with what it comes after. Pure."""

from atlas.cli.figures import one_line
from atlas.cli.graph import Graph, Node

_GOAL_WIDTH = 200
_NOTE_WIDTH = 200
_HISTORY_WIDTH = 400


def as_text(graph: Graph) -> str:
    """A line for each subtask; what stands in one step may run at the same time."""
    lines = [graph.summary, f"goal  {one_line(graph.goal, _GOAL_WIDTH)}"]
    lines += [one_line(graph.history, _HISTORY_WIDTH)] if graph.changes else []
    lines.append("")
    cells = {node.subtask_id: _cells(node) for node in graph.nodes}
    widths = [max(map(len, column)) for column in zip(*cells.values(), strict=True)]
    number = len(str(len(graph.layers)))
    for step, layer in enumerate(graph.layers, 1):
        for place, node in enumerate(layer):
            lead = f"{step if place == 0 else '':>{number}} "
            padded = [
                cell.ljust(width)
                for cell, width in zip(cells[node.subtask_id], widths, strict=True)
            ]
            after = f"← {', '.join(node.depends_on)}" if node.depends_on else ""
            lines.append(f"{lead}{'  '.join([*padded, after])}".rstrip())
            if node.note:
                lines.append(f"{' ' * (number + 3)}{one_line(node.note, _NOTE_WIDTH)}")
    return "\n".join(lines)


def _cells(node: Node) -> list[str]:
    state = node.state.replace("_", " ")
    return [node.title, node.capability, state, node.took, node.used, node.cost]
