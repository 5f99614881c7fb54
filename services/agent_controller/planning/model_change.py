"""A change of a plan that a model makes: what it is asked, and how its answer is read. Pure.

The model is shown the plan as far as it got, bounded, and answers with the difference. What is
wrong with that is named, so that it can be asked once more.
"""

import json
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter

from agent_controller.planning import model_plan
from agent_controller.tasks import replanning
from agent_controller.tasks.fold import with_change
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.plan import Problem, invalid, plan_problems, read_nodes
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.replanning import Change
from agent_controller.tasks.view import RESERVED_IDS, TaskView
from atlas.contracts.base import JsonObject
from atlas.contracts.tasks import SubtaskState

PROGRESS = "plan_so_far"
"""The input that shows the plan as far as it got."""

_RULES = """\
The plan for the goal must change, because {causes}. The input `{progress}` has its subtasks, \
where each of them is, and what came of it. Give the difference, and nothing of what stays:
- `removed`: ids of subtasks that the plan does without. What has succeeded stays in any case. \
Remove what failed, and what waits for it.
- `added`: subtasks that take their place. To do something differently, remove it and add it under \
another id. What would fail again for the same reason must be done in another way, or be left out.
- `reason`: in one sentence, what changes and why.
- Name in `depends_on` the ids of exactly those subtasks whose results one needs: added ones, and \
those of the plan that have succeeded or still can.
- Use as few subtasks as do the work well: at most {max_nodes}, each of which makes sense to \
somebody who sees only the goal, its instruction and the results that it depends on.
- In the end one subtask must write the final answer: one that is added, or the plan's own.
- Each `id` is short, of letters, digits, `_` and `-`, no id that the plan has or had, and none of \
{reserved}.
- Each `capability` is one of: {capabilities}.{described}"""

_LONGEST_REASON = 1_000
_SHOWN_SUBTASKS = 200
_SHOWN_INSTRUCTION = 500
_SHOWN_ERROR = 1_000
_SHOWN_RESULTS = 24_000
"""Characters of all results together, in equal parts."""
_EXAMPLE_SUBTASKS = 8
_EXAMPLE_INSTRUCTION = 200
_SHOWN_RESULT = 4_000


def rules(view: TaskView, limits: Limits) -> str:
    """What a model is asked for."""
    return _RULES.format(
        causes=" and ".join(_cause(view.subtasks[id_]) for id_ in replanning.causes(view)),
        progress=PROGRESS,
        max_nodes=limits.max_plan_nodes,
        reserved="`plan`, `plan-repair`, `replan-1`, `replan-1-repair`, `replan-2` …",
        capabilities=", ".join(model_plan.offered(limits)),
        described=model_plan.described(limits),
    )


def _cause(record: SubtaskRecord) -> str:
    if record.state is SubtaskState.FAILED:
        return f"`{record.subtask_id}` failed for good"
    return f"the result of `{record.subtask_id}` showed that it must"


def progress(view: TaskView) -> JsonObject:
    """The plan as far as it got: what is not finished, and of the rest what there is room for."""
    records = sorted(view.planned, key=lambda one: one.state is SubtaskState.SUCCEEDED)
    shown = records[:_SHOWN_SUBTASKS]
    finished = sum(one.state is SubtaskState.SUCCEEDED for one in shown)
    room = min(_SHOWN_RESULT, _SHOWN_RESULTS // max(1, finished))
    told: JsonObject = {"subtasks": [_told(one, room) for one in shown]}
    if len(records) > len(shown):
        told["not_shown"] = f"{len(records) - len(shown)} more that have succeeded or wait"
    if view.removed:
        told["removed_before"] = [
            _told(one, 0) for one in list(view.removed.values())[-_SHOWN_SUBTASKS:]
        ]
    return told


def _told(record: SubtaskRecord, room: int) -> JsonObject:
    assert record.planned is not None  # noqa: S101 - only subtasks of the plan are told
    told: JsonObject = {
        "id": record.subtask_id,
        "capability": record.capability,
        "instruction": _cut(record.planned.instruction, _SHOWN_INSTRUCTION),
        "depends_on": list(record.depends_on),
        "state": str(record.state),
    }
    if record.error is not None:
        told["error"] = _cut(record.error.message, _SHOWN_ERROR)
    if record.replan is not None:
        told["says_that_the_plan_must_change"] = _cut(record.replan, _SHOWN_ERROR)
    if record.output_ref is not None:
        told["result"] = "a large one; whoever depends on it gets it"
    elif record.output is not None and room:
        output = record.output
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        told["result"] = _cut(text, room)
    return told


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[:room]}…"


def change_schema(view: TaskView, limits: Limits) -> JsonObject:
    """The JSON Schema of the answer, with an example."""
    plan = model_plan.nodes_schema(limits)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["removed", "added", "reason"],
        "properties": {
            "removed": {"type": "array", "items": {"type": "string"}},
            "added": {**plan, "minItems": 0},
            "reason": {"type": "string"},
        },
        "examples": [_example(view)],
    }


def _example(view: TaskView) -> JsonObject:
    """What is lost is tried once more, with what waits for it.

    It can be made as it stands, but for a plan where that is much: of that it shows the beginning.
    """
    anew: dict[str, str] = {}
    for record in _in_order(view):
        if len(anew) == _EXAMPLE_SUBTASKS:
            break
        is_lost = record.state in (SubtaskState.FAILED, SubtaskState.CANCELLED)
        waits = not record.attempt and any(one in anew for one in record.depends_on)
        if is_lost or waits:
            anew[record.subtask_id] = _free_id(view, record.subtask_id)
    return {
        "removed": list(anew),
        "added": [
            {
                "id": anew[record.subtask_id],
                "capability": record.capability,
                "instruction": _cut(record.planned.instruction, _EXAMPLE_INSTRUCTION)
                if record.planned
                else "",
                "depends_on": [anew.get(one, one) for one in record.depends_on],
            }
            for record in view.planned
            if record.subtask_id in anew
        ],
        "reason": "What failed is tried once more in another way, with what waits for it."
        if anew
        else "The plan fits what was found.",
    }


def _in_order(view: TaskView) -> Iterator[SubtaskRecord]:
    """The subtasks of the plan, each after those that it depends on."""
    waits_for = {one.subtask_id: one.depends_on for one in view.planned}
    for id_ in TopologicalSorter(waits_for).static_order():
        if id_ in waits_for:
            yield view.subtasks[id_]


def _free_id(view: TaskView, id_: str) -> str:
    stem = id_[:56]
    numbers = range(2, len(view.subtasks) + len(view.removed) + 3)
    names = (f"{stem}-{number}" for number in numbers)
    return next(one for one in names if one not in view.subtasks and one not in view.removed)


def read_change(view: TaskView, output: object, limits: Limits) -> Change:
    """The change that a model made, as it fits the task as it stands now.

    Raises:
        InvalidRequestError: `details.problems` names everything that is wrong with it.
    """
    answer = output if isinstance(output, dict) else {}
    added, removed, reason = (answer.get(name) for name in ("added", "removed", "reason"))
    if not (isinstance(removed, list) and isinstance(added, list) and isinstance(reason, str)):
        told = "the answer is no object with the lists `removed` and `added` and the text `reason`"
        raise invalid("change", [Problem("answer", told)])
    asked = Change(
        read_nodes(added, "added"),
        replanning.removable(view, [str(one) for one in removed]),
        _cut(reason.strip(), _LONGEST_REASON) or "no reason was given",
    )
    if problems := list(_problems(view, asked, limits)):
        raise invalid("change", problems)
    return asked


def _problems(view: TaskView, change: Change, limits: Limits) -> Iterator[Problem]:
    """Everything that is wrong with a change."""
    by_itself = plan_problems(
        change.added,
        name="added",
        max_nodes=limits.max_plan_nodes,
        max_depth=limits.max_plan_depth,
        capabilities=model_plan.offered(limits),
        reserved=RESERVED_IDS,
        others=_to_depend_on(view, change.removed),
    )
    found = [*by_itself, *replanning.misnamed(view, change)]
    yield from found
    if not found:  # only then it is a graph that can be followed
        after = with_change(view, change.added, change.removed)
        yield from replanning.stranded(after, change)


def _to_depend_on(view: TaskView, removed: Sequence[str]) -> list[str]:
    return [one.subtask_id for one in view.planned if one.subtask_id not in removed]
