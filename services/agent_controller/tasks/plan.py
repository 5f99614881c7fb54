"""What makes a plan a plan: ids are unique, dependencies exist, and nothing waits for itself.

Pure. Every problem is named at once, with its path in the plan, for a person and for a model that
is asked to repair it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from pydantic import ValidationError

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.tasks import PlannedSubtask
from atlas.spelling import nearest

_SHOWN = 8
"""How many problems a message lists."""
_KEPT = 100
"""How many `details` holds: an answer must fit a message, and a plan may have 10,000 subtasks."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a plan, and where."""

    path: str
    message: str


type Placed = tuple[str, PlannedSubtask]
"""A subtask, and its path."""


def read_nodes(nodes: Sequence[object], name: str = "plan") -> tuple[PlannedSubtask, ...]:
    """The subtasks of a plan that somebody made, each valid by itself; `name` stands in paths.

    Raises:
        InvalidRequestError: `details.problems` names everything that is wrong with them.
    """
    plan: list[PlannedSubtask] = []
    problems: list[Problem] = []
    for index, node in enumerate(nodes):
        try:
            plan.append(PlannedSubtask.model_validate(node))
        except ValidationError as error:
            problems.extend(
                Problem(".".join([f"{name}[{index}]", *map(str, one["loc"])]), one["msg"])
                for one in error.errors(include_url=False)
            )
    if problems:
        raise invalid(name, problems)
    return tuple(plan)


def check_plan(
    plan: Sequence[PlannedSubtask],
    *,
    max_nodes: int | None = None,
    max_depth: int | None = None,
    capabilities: Collection[str] | None = None,
    reserved: Collection[str] = (),
    inputs: Collection[str] | None = None,
) -> None:
    """Check a plan; the arguments are those of `plan_problems`.

    Raises:
        InvalidRequestError: The message and `details.problems` name each problem.
    """
    problems = plan_problems(
        plan,
        max_nodes=max_nodes,
        max_depth=max_depth,
        capabilities=capabilities,
        reserved=reserved,
        inputs=inputs,
    )
    if problems:
        raise invalid("plan", problems)


def plan_problems(
    plan: Sequence[PlannedSubtask],
    *,
    name: str = "plan",
    max_nodes: int | None = None,
    max_depth: int | None = None,
    capabilities: Collection[str] | None = None,
    reserved: Collection[str] = (),
    inputs: Collection[str] | None = None,
    others: Collection[str] | None = None,
) -> list[Problem]:
    """Everything that is wrong with a plan.

    Args:
        plan: The subtasks; each has passed its own validation.
        name: What it is called in paths.
        max_nodes: How many there may be.
        max_depth: How many may wait for each other in a row.
        capabilities: The capabilities that may be named; None when any may.
        reserved: Ids that it may not use.
        inputs: The names of the task's inputs; None where a wrong one is passed over.
        others: Where these are added to a plan, which may be nothing: whom else they may wait for.
    """
    nodes = [(f"{name}[{index}]", node) for index, node in enumerate(plan)]
    problems = [
        *_size(plan, name, max_nodes, is_whole=others is None),
        *_ids(nodes, reserved),
        *_instructions(nodes),
        *_capabilities(nodes, capabilities),
        *_inputs(nodes, inputs),
        *_dependencies(nodes, others or ()),
        *_quorums(nodes),
        *_judgements(nodes),
    ]
    return problems or list(_cycles(nodes)) or list(_depth(plan, name, max_depth))


def invalid(what: str, problems: Sequence[Problem], **details: object) -> InvalidRequestError:
    """The error that names these problems; `details` are further fields for a program."""
    shown = "; ".join(f"{one.path}: {one.message}" for one in problems[:_SHOWN])
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    kept: list[JsonObject] = [
        {"path": one.path, "message": one.message} for one in problems[:_KEPT]
    ]
    return InvalidRequestError(
        f"the {what} is not valid: {shown}{more}", details={"problems": kept, **details}
    )


def problems_in(error: InvalidRequestError) -> list[Problem]:
    """The problems that an error names in its `details`."""
    found = (error.details or {}).get("problems")
    return (
        [Problem(one["path"], one["message"]) for one in found] if isinstance(found, list) else []
    )


def most_together(plan: Sequence[PlannedSubtask]) -> int:
    """Of how many results at most something is made: a subtask's, or the task's own."""
    needed = {dependency for node in plan for dependency in node.depends_on}
    sinks = sum(node.id not in needed for node in plan)
    return max(sinks, *(len(node.depends_on) for node in plan))


def _size(
    plan: Sequence[PlannedSubtask], name: str, max_nodes: int | None, *, is_whole: bool
) -> Iterator[Problem]:
    if is_whole and not plan:
        yield Problem(name, "it is empty; name at least one subtask")
    if max_nodes is not None and len(plan) > max_nodes:
        yield Problem(name, f"{len(plan)} subtasks, and at most {max_nodes} are allowed")


def _ids(nodes: Sequence[Placed], reserved: Collection[str]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for place, node in nodes:
        if node.id in first:
            yield Problem(f"{place}.id", f"{node.id!r} is the id of {first[node.id]} already")
        else:
            first[node.id] = place
        if node.id in reserved:
            yield Problem(f"{place}.id", f"{node.id!r} is reserved; choose another id")


def _instructions(nodes: Sequence[Placed]) -> Iterator[Problem]:
    for place, node in nodes:
        if not node.instruction.strip():
            yield Problem(f"{place}.instruction", "it is blank; say what is to be done")


def _capabilities(
    nodes: Sequence[Placed], capabilities: Collection[str] | None
) -> Iterator[Problem]:
    if capabilities is None:
        return
    known = sorted(capabilities)
    for place, node in nodes:
        if node.capability not in capabilities:
            yield Problem(
                f"{place}.capability",
                f"no worker knows {node.capability!r}; use one of {', '.join(known)}",
            )


def _inputs(nodes: Sequence[Placed], names: Collection[str] | None) -> Iterator[Problem]:
    if names is None:
        return
    known = set(names)
    for place, node in nodes:
        for position, name in enumerate(node.task_inputs or ()):
            if name not in known:
                near = nearest(name, known)
                hint = f"; did you mean {near!r}?" if near else "; remove it, or give the input"
                yield Problem(
                    f"{place}.task_inputs[{position}]",
                    f"the task has no input {name!r}{hint}",
                )


def _dependencies(nodes: Sequence[Placed], others: Collection[str]) -> Iterator[Problem]:
    ids = [*(node.id for _, node in nodes), *others]
    known = set(ids)
    hints = _SHOWN  # each is a search through all ids, and no more than these are read
    for place, node in nodes:
        for position, dependency in enumerate(node.depends_on):
            path = f"{place}.depends_on[{position}]"
            if dependency == node.id:
                yield Problem(path, f"{node.id!r} depends on itself")
            elif dependency not in known:
                near = nearest(dependency, ids) if hints > 0 else None
                hints -= 1
                hint = f"; did you mean {near!r}?" if near else ""
                yield Problem(path, f"there is no subtask {dependency!r}{hint}")
            elif dependency in node.depends_on[:position]:
                yield Problem(path, f"{dependency!r} stands there twice")


def _quorums(nodes: Sequence[Placed]) -> Iterator[Problem]:
    for place, node in nodes:
        if node.quorum is not None and node.quorum > len(node.depends_on):
            yield Problem(
                f"{place}.quorum",
                f"{node.quorum}, and it depends on {len(node.depends_on)}; give no more than that",
            )


def _judgements(nodes: Sequence[Placed]) -> Iterator[Problem]:
    for place, node in nodes:
        if node.accepts is None:
            continue
        if node.accepts not in node.depends_on:
            yield Problem(
                f"{place}.accepts",
                f"{node.id!r} judges {node.accepts!r} and does not depend on it; name it in "
                "`depends_on` too",
            )
        schema = node.output_schema or {}
        properties, required = schema.get("properties"), schema.get("required")
        told = properties.get("accepted") if isinstance(properties, dict) else None
        is_required = isinstance(required, list) and "accepted" in required
        if not (is_required and isinstance(told, dict) and told.get("type") == "boolean"):
            yield Problem(
                f"{place}.output_schema",
                "what judges (`accepts`) says so in its output; require a property `accepted` of "
                'the type "boolean"',
            )


def _cycles(placed: Sequence[Placed]) -> Iterator[Problem]:
    """The first cycle that a walk along the dependencies meets, named as a path."""
    nodes = {node.id: (place, node) for place, node in placed}
    done: set[str] = set()
    for start in nodes:
        trail: list[tuple[str, int]] = [(start, 0)]
        on_trail = {start}
        while trail:
            here, position = trail[-1]
            if here not in nodes or here in done or position >= len(nodes[here][1].depends_on):
                done.add(here)
                on_trail.discard(here)
                trail.pop()
                continue
            place, node = nodes[here]
            trail[-1] = (here, position + 1)
            onward = node.depends_on[position]
            if onward in on_trail:
                ids = [id_ for id_, _ in trail]
                path = " → ".join([*ids[ids.index(onward) :], onward])
                yield Problem(f"{place}.depends_on[{position}]", f"a cycle: {path}")
                return
            if onward not in done:
                on_trail.add(onward)
                trail.append((onward, 0))


def _depth(plan: Sequence[PlannedSubtask], name: str, max_depth: int | None) -> Iterator[Problem]:
    """Of a plan without cycles: a chain that is too long."""
    if max_depth is None or not plan:
        return
    waits_for = {node.id: node.depends_on for node in plan}
    depths: dict[str, int] = {}
    for id_ in TopologicalSorter(waits_for).static_order():
        before = (depths[one] for one in waits_for.get(id_, ()))
        depths[id_] = max(before, default=0) + (id_ in waits_for)
    if (depth := max(depths.values())) > max_depth:
        yield Problem(
            name,
            f"{depth} subtasks wait for each other in a row, and at most {max_depth} may; let them "
            "run side by side, or join some",
        )
