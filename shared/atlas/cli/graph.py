"""A task's plan as a graph: its subtasks, what each waits for, and where it is. Pure.

`graph_text` tells it, `graph_mermaid` and `graph_svg` draw it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

from atlas.cli.board import Board, Row
from atlas.cli.figures import counted, duration, money, tokens
from atlas.contracts.tasks import SubtaskState, TaskState

MARKS = {
    SubtaskState.WAITING: "·",
    SubtaskState.AWAITING_APPROVAL: "?",
    SubtaskState.DISPATCHED: "○",
    SubtaskState.RUNNING: "▶",
    SubtaskState.RETRYING: "↻",
    SubtaskState.SUCCEEDED: "✓",
    SubtaskState.FAILED: "✗",
    SubtaskState.CANCELLED: "⊘",
}
"""One sign for each state of a subtask."""


@dataclass(frozen=True, slots=True)
class Node:
    """A subtask."""

    subtask_id: str
    capability: str
    state: SubtaskState
    depends_on: tuple[str, ...]
    """Each once, and only subtasks of the graph."""
    took: str
    used: str
    cost: str
    note: str
    """What went wrong; empty where nothing did."""

    @property
    def title(self) -> str:
        """Its id and its state's sign."""
        return f"{MARKS[self.state]} {self.subtask_id}"

    @property
    def what(self) -> str:
        """What it is and how it stands."""
        return " · ".join(filter(None, [self.capability, self.state.replace("_", " ")]))

    @property
    def spent(self) -> str:
        """Time, tokens and cost, as far as they are known."""
        return " · ".join(filter(None, [self.took, self.used, self.cost]))


@dataclass(frozen=True, slots=True)
class Graph:
    """A task and its subtasks, each after what it depends on."""

    task_id: str
    goal: str
    state: TaskState
    spent: str
    layers: tuple[tuple[Node, ...], ...]
    """The first waits for nothing, each other one for something in the layer before it."""

    @property
    def nodes(self) -> Iterator[Node]:
        """Every subtask."""
        return (node for layer in self.layers for node in layer)

    @property
    def edges(self) -> Iterator[tuple[str, str]]:
        """Every dependency: what must be done, and what waits for it."""
        return ((before, node.subtask_id) for node in self.nodes for before in node.depends_on)

    @property
    def summary(self) -> str:
        """One line about the task."""
        count = sum(len(layer) for layer in self.layers)
        state = self.state.replace("_", " ")
        return f"task {self.task_id}: {state}, {counted(count, 'subtask')}, {self.spent}"


def graph_of(board: Board, now: int) -> Graph:
    """The graph of a task as its board stands."""
    waits_for = {
        name: tuple(one for one in dict.fromkeys(row.depends_on) if one in board.rows)
        for name, row in board.rows.items()
    }
    depths: dict[str, int] = {}
    for name in TopologicalSorter(waits_for).static_order():
        depths[name] = 1 + max((depths[one] for one in waits_for[name]), default=-1)
    layers: list[list[Node]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for name, row in board.rows.items():  # in the plan's order, which its author chose
        layers[depths[name]].append(_node(row, waits_for[name], now))
    spent = f"{duration(board.took_ms(now) / 1000)}, {tokens(board.usage)}, {money(board.cost)}"
    return Graph(board.task_id, board.goal, board.state, spent, tuple(map(tuple, layers)))


def _node(row: Row, depends_on: tuple[str, ...], now: int) -> Node:
    took_ms = row.took_ms(now)
    return Node(
        subtask_id=row.subtask_id,
        capability=row.capability,
        state=row.state,
        depends_on=depends_on,
        took="" if took_ms is None else duration(took_ms / 1000),
        used=tokens(row.usage) if row.usage else "",
        cost=money(row.cost) if row.cost else "",
        note=row.note or "",
    )
