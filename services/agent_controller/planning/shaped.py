"""Patterns whose plan has the shape that the request gives it. Pure."""

from collections.abc import Iterator

from agent_controller.planning.options import (
    DebateOptions,
    EvaluateOptions,
    MapReduceOptions,
    PipelineOptions,
    VoteOptions,
    read_options,
)
from agent_controller.tasks.plan import Problem, invalid
from atlas.contracts.base import JsonObject
from atlas.contracts.tasks import PlannedSubtask, TaskRequest
from atlas.spelling import nearest

_MOST_ITEMS = 1_000
"""Each is a subtask, and the plan of all of them is one message."""


def pipeline(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """Stages of one's own: the first gets the material, each other what the one before made."""
    stages = read_options(request, PipelineOptions).stages
    return tuple(
        PlannedSubtask(
            id=f"stage-{number}",
            capability=stage.capability,
            instruction=stage.instruction,
            depends_on=[f"stage-{number - 1}"] if number > 1 else [],
            task_inputs=[] if number > 1 else None,
        )
        for number, stage in enumerate(stages, start=1)
    )


def map_reduce(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """The same for each input, or each element of one that is a list, and then all together."""
    options = read_options(request, MapReduceOptions)
    inputs = request.inputs or {}
    parts = [
        PlannedSubtask(
            id=f"map-{number}",
            capability=options.map.capability,
            instruction=options.map.instruction,
            task_inputs=names,
            inputs=own,
        )
        for number, (names, own) in enumerate(_parts(inputs, options.over), start=1)
    ]
    shared = [] if options.over is None else _without(inputs, options.over)
    whole = PlannedSubtask(
        id="reduce",
        capability=options.reduce.capability,
        instruction=options.reduce.instruction,
        depends_on=[one.id for one in parts],
        task_inputs=shared,
    )
    return (*parts, whole)


def _parts(inputs: JsonObject, over: str | None) -> Iterator[tuple[list[str], JsonObject | None]]:
    """For each part of the material: which of the task's inputs it is, and what is its own."""
    if over is None:
        _check_count(len(inputs), "inputs", "inputs")
        yield from (([name], None) for name in inputs)
        return
    if over not in inputs:
        near = nearest(over, inputs)
        hint = f"did you mean {near!r}?" if near else "give the name of one that is a list"
        problem = Problem("pattern_options.over", f"there is no input {over!r}; {hint}")
        raise invalid("TaskRequest", [problem])
    elements = inputs[over]
    if not isinstance(elements, list):
        problem = Problem(f"inputs.{over}", "it is no list; map_reduce works on each element of it")
        raise invalid("TaskRequest", [problem])
    _check_count(len(elements), f"inputs.{over}", "elements")
    shared = _without(inputs, over)
    yield from ((shared, {over: element}) for element in elements)


def _check_count(count: int, path: str, what: str) -> None:
    if not count:
        problem = Problem(path, f"there are no {what}, and map_reduce works on each of them")
    elif count > _MOST_ITEMS:
        problem = Problem(
            path,
            f"{count} {what}, and at most {_MOST_ITEMS} are taken; join some, or split the task",
        )
    else:
        return
    raise invalid("TaskRequest", [problem])


def _without(inputs: JsonObject, name: str) -> list[str]:
    return [one for one in inputs if one != name]


def debate(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """Positions that are argued side by side, answer each other in rounds, and are weighed."""
    options = read_options(request, DebateOptions)
    numbers = range(1, len(options.positions) + 1)
    statements = tuple(
        _statement(options, number, round_)
        for round_ in range(1, options.rounds + 1)
        for number in numbers
    )
    verdict = PlannedSubtask(
        id="verdict",
        capability="review",
        instruction="The inputs are the cases of a debate on the goal, as they stand at its end. "
        "Weigh their arguments, not their number or their tone, decide, and say what decided it "
        "and what remains open.",
        depends_on=[_statement_id(number, options.rounds) for number in numbers],
    )
    return (*statements, verdict)


def _statement(options: DebateOptions, number: int, round_: int) -> PlannedSubtask:
    instruction = (
        "You take part in a debate on the goal and argue one position as well as it honestly can "
        f"be argued. Your position: {options.positions[number - 1]}."
    )
    depends_on = []
    if round_ > 1:
        depends_on = [
            _statement_id(other, round_ - 1) for other in range(1, len(options.positions) + 1)
        ]
        instruction += (
            f" The inputs are the cases of the round before; {_statement_id(number, round_ - 1)!r} "
            "is your own. Answer the strongest arguments of the others, concede what is right, and "
            "give your whole case as it now stands."
        )
    return PlannedSubtask(
        id=_statement_id(number, round_),
        capability="analysis",
        instruction=instruction,
        depends_on=depends_on,
    )


def _statement_id(number: int, round_: int) -> str:
    return f"position-{number}-round-{round_}"


def vote(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """Independent answers to the same question, and what most of them say."""
    options = read_options(request, VoteOptions)
    question = "Reach the goal by yourself; others do the same independently of you. "
    schema = None
    if options.choices is None:
        question += "Give your answer and, in short, what it rests on."
        count = "Find what most of them agree on in substance. Give that answer"
    else:
        schema = _ballot(options.choices, ("reason", {"type": "string"}))
        question += "Choose one of the choices, and give the reason."
        count = "Count how many chose what. Give the choice that most chose"
    voters = tuple(
        PlannedSubtask(
            id=f"vote-{number}",
            capability="analysis",
            instruction=question,
            output_schema=schema,
        )
        for number in range(1, options.voters + 1)
    )
    numbers: JsonObject = {"type": "object", "additionalProperties": {"type": "integer"}}
    verdict = PlannedSubtask(
        id="verdict",
        capability="review",
        instruction=f"The inputs that are results are independent votes on the goal. {count}, how "
        "many there are for each, and where those in the minority differ. Do not vote yourself.",
        depends_on=[one.id for one in voters],
        output_schema=None
        if options.choices is None
        else _ballot(options.choices, ("votes", numbers), ("differences", {"type": "string"})),
    )
    return (*voters, verdict)


def _ballot(choices: list[str], *more: tuple[str, JsonObject]) -> JsonObject:
    properties: JsonObject = {"choice": {"type": "string", "enum": choices}, **dict(more)}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


_JUDGEMENT: JsonObject = {
    "type": "object",
    "additionalProperties": False,
    "required": ["accepted", "flaws"],
    "properties": {
        "accepted": {"type": "boolean"},
        "flaws": {"type": "array", "items": {"type": "string"}},
    },
}


def evaluate_optimize(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """A draft that is judged and written anew, until it is accepted, and not more often than asked.

    The last draft is not judged: nothing could come of it.
    """
    options = read_options(request, EvaluateOptions)
    criteria = "the goal" + "".join(f"\n- {one}" for one in options.criteria)
    plan = [
        PlannedSubtask(
            id="draft-1",
            capability="draft",
            instruction=f"Write the complete result that the goal asks for. It is judged by "
            f"{criteria}",
        )
    ]
    for round_ in range(1, options.rounds + 1):
        draft, judged = f"draft-{round_}", f"evaluation-{round_}"
        plan += [
            PlannedSubtask(
                id=judged,
                capability="review",
                instruction=f"Judge the draft by {criteria}\nName each flaw, where it stands, and "
                "what would mend it; the gravest first. Do not write the draft anew. Say that it "
                "is accepted when no flaw is left that is worth another round.",
                depends_on=[draft],
                accepts=draft,
                output_schema=_JUDGEMENT,
            ),
            PlannedSubtask(
                id=f"draft-{round_ + 1}",
                capability="draft",
                instruction="Write the draft anew so that it meets the evaluation, and keep what "
                f"is good in it. Give the complete text itself. It is judged by {criteria}",
                depends_on=[draft, judged],
            ),
        ]
    return tuple(plan)
