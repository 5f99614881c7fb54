"""What makes a plan a plan: ids are unique, dependencies exist, and nothing waits for itself.

Pure. Every problem is named at once, with its path in the plan, for a person and for a model that
is asked to repair it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

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


def read_nodes(nodes: Sequence[object]) -> tuple[PlannedSubtask, ...]:
    """The subtasks of a plan that somebody made, each valid by itself.

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
                Problem(".".join([f"plan[{index}]", *map(str, one["loc"])]), one["msg"])
                for one in error.errors(include_url=False)
            )
    if problems:
        raise invalid("plan", problems)
    return tuple(plan)


def check_plan(
    plan: Sequence[PlannedSubtask],
    *,
    max_nodes: int | None = None,
    capabilities: Collection[str] | None = None,
    reserved: Collection[str] = (),
    inputs: Collection[str] | None = None,
) -> None:
    """Check a plan; the arguments are those of `plan_problems`.

    Raises:
        InvalidRequestError: The message and `details.problems` name each problem.
    """
    problems = plan_problems(
        plan, max_nodes=max_nodes, capabilities=capabilities, reserved=reserved, inputs=inputs
    )
    if problems:
        raise invalid("plan", problems)


def plan_problems(
    plan: Sequence[PlannedSubtask],
    *,
    max_nodes: int | None = None,
    capabilities: Collection[str] | None = None,
    reserved: Collection[str] = (),
    inputs: Collection[str] | None = None,
) -> list[Problem]:
    """Everything that is wrong with a plan.

    Args:
        plan: The subtasks; each has passed its own validation.
        max_nodes: How many there may be.
        capabilities: The capabilities that may be named; None when any may.
        reserved: Ids that it may not use.
        inputs: The names of the task's inputs; None where a wrong one is passed over.
    """
    problems = [
        *_size(plan, max_nodes),
        *_ids(plan, reserved),
        *_instructions(plan),
        *_capabilities(plan, capabilities),
        *_inputs(plan, inputs),
        *_dependencies(plan),
        *_quorums(plan),
    ]
    return problems or list(_cycles(plan))


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


def _size(plan: Sequence[PlannedSubtask], max_nodes: int | None) -> Iterator[Problem]:
    if not plan:
        yield Problem("plan", "it is empty; name at least one subtask")
    if max_nodes is not None and len(plan) > max_nodes:
        yield Problem("plan", f"{len(plan)} subtasks, and at most {max_nodes} are allowed")


def _ids(plan: Sequence[PlannedSubtask], reserved: Collection[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, node in enumerate(plan):
        if node.id in first:
            yield Problem(
                f"plan[{index}].id", f"{node.id!r} is the id of plan[{first[node.id]}] already"
            )
        else:
            first[node.id] = index
        if node.id in reserved:
            yield Problem(f"plan[{index}].id", f"{node.id!r} is reserved; choose another id")


def _instructions(plan: Sequence[PlannedSubtask]) -> Iterator[Problem]:
    for index, node in enumerate(plan):
        if not node.instruction.strip():
            yield Problem(f"plan[{index}].instruction", "it is blank; say what is to be done")


def _capabilities(
    plan: Sequence[PlannedSubtask], capabilities: Collection[str] | None
) -> Iterator[Problem]:
    if capabilities is None:
        return
    known = sorted(capabilities)
    for index, node in enumerate(plan):
        if node.capability not in capabilities:
            yield Problem(
                f"plan[{index}].capability",
                f"no worker knows {node.capability!r}; use one of {', '.join(known)}",
            )


def _inputs(plan: Sequence[PlannedSubtask], names: Collection[str] | None) -> Iterator[Problem]:
    if names is None:
        return
    known = set(names)
    for index, node in enumerate(plan):
        for position, name in enumerate(node.task_inputs or ()):
            if name not in known:
                near = nearest(name, known)
                hint = f"; did you mean {near!r}?" if near else "; remove it, or give the input"
                yield Problem(
                    f"plan[{index}].task_inputs[{position}]",
                    f"the task has no input {name!r}{hint}",
                )


def _dependencies(plan: Sequence[PlannedSubtask]) -> Iterator[Problem]:
    ids = [node.id for node in plan]
    known = set(ids)
    hints = _SHOWN  # each is a search through all ids, and no more than these are read
    for index, node in enumerate(plan):
        for position, dependency in enumerate(node.depends_on):
            path = f"plan[{index}].depends_on[{position}]"
            if dependency == node.id:
                yield Problem(path, f"{node.id!r} depends on itself")
            elif dependency not in known:
                near = nearest(dependency, ids) if hints > 0 else None
                hints -= 1
                hint = f"; did you mean {near!r}?" if near else ""
                yield Problem(path, f"there is no subtask {dependency!r}{hint}")
            elif dependency in node.depends_on[:position]:
                yield Problem(path, f"{dependency!r} stands there twice")


def _quorums(plan: Sequence[PlannedSubtask]) -> Iterator[Problem]:
    for index, node in enumerate(plan):
        if node.quorum is not None and node.quorum > len(node.depends_on):
            yield Problem(
                f"plan[{index}].quorum",
                f"{node.quorum}, and it depends on {len(node.depends_on)}; give no more than that",
            )


def _cycles(plan: Sequence[PlannedSubtask]) -> Iterator[Problem]:
    """The first cycle that a walk along the dependencies meets, named as a path."""
    nodes = {node.id: (index, node) for index, node in enumerate(plan)}
    done: set[str] = set()
    for start in nodes:
        trail: list[tuple[str, int]] = [(start, 0)]
        on_trail = {start}
        while trail:
            here, position = trail[-1]
            index, node = nodes[here]
            if here in done or position >= len(node.depends_on):
                done.add(here)
                on_trail.discard(here)
                trail.pop()
                continue
            trail[-1] = (here, position + 1)
            onward = node.depends_on[position]
            if onward in on_trail:
                ids = [id_ for id_, _ in trail]
                path = " → ".join([*ids[ids.index(onward) :], onward])
                yield Problem(f"plan[{index}].depends_on[{position}]", f"a cycle: {path}")
                return
            if onward not in done:
                on_trail.add(onward)
                trail.append((onward, 0))
