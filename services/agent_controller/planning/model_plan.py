"""A plan that a model makes: what it is asked, and how its answer is read. Pure.

The answer is checked like anything from outside: schema, graph, known capabilities, size. What is
wrong with it is named, so that the model can be asked once more.
"""

import json
from collections.abc import Sequence

from agent_controller.tasks.limits import Limits
from agent_controller.tasks.plan import (
    Problem,
    check_plan,
    invalid,
    problems_in,
    read_nodes,
)
from agent_controller.tasks.view import PLANNING_IDS
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.tasks import PlannedSubtask

_EXAMPLE: JsonObject = {
    "subtasks": [
        {
            "id": "research",
            "capability": "research",
            "instruction": "Collect the facts and constraints that the goal depends on.",
            "depends_on": [],
        },
        {
            "id": "analysis",
            "capability": "analysis",
            "instruction": "Break the goal into its questions and weigh the possible answers.",
            "depends_on": [],
        },
        {
            "id": "outline",
            "capability": "draft",
            "instruction": "Outline what a complete answer to the goal must contain.",
            "depends_on": [],
        },
        {
            "id": "answer",
            "capability": "draft",
            "instruction": "Write the complete answer to the goal from the research, the analysis "
            "and the outline.",
            "depends_on": ["research", "analysis", "outline"],
        },
    ]
}
"""A sensible plan for nearly any goal: three subtasks side by side, and one that joins them."""

_RULES = """\
Make a plan that reaches the goal.
- Split the work into subtasks that can run side by side wherever they do not need each other's \
results; name in `depends_on` the ids of exactly those subtasks whose results one needs.
- Use as few subtasks as do the work well: at most {max_nodes}, and a single one for a simple goal.
- Each `instruction` must make sense to somebody who sees only the goal, the instruction and the \
results of the subtasks it depends on.
- End with one subtask that depends on all others, directly or not, and writes the final answer.
- Each `id` is short, unique, of letters, digits, `_` and `-`, and none of {reserved}.
- Each `capability` is one of: {capabilities}.{described}"""

_REPAIR = """\
{rules}

An earlier answer was refused:
{previous}

What was wrong with it:
{problems}

Give the whole corrected answer."""

_PREVIOUS_SHOWN = 8_000


def plan_schema(limits: Limits) -> JsonObject:
    """The JSON Schema of the answer, with an example."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["subtasks"],
        "properties": {
            "subtasks": {
                "type": "array",
                "minItems": 1,
                "maxItems": limits.max_plan_nodes,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["id", "capability", "instruction", "depends_on"],
                    "properties": {
                        "id": {"type": "string"},
                        "capability": {"type": "string", "enum": _offered(limits)},
                        "instruction": {"type": "string"},
                        "depends_on": {"type": "array", "items": {"type": "string"}},
                    },
                },
            }
        },
        "examples": [_EXAMPLE],
    }


def _offered(limits: Limits) -> list[str]:
    """What a plan may use: everything but planning itself."""
    return sorted(limits.capabilities - {"planning"})


def _described(limits: Limits) -> str:
    """What workers say of the capabilities that they have; nothing where they say nothing."""
    lines = [f"\n  - {name}: {limits.described[name]}" for name in sorted(limits.described)]
    return "".join([" What the workers say of some of them:", *lines] if lines else [])


def rules(limits: Limits) -> str:
    """What a model is asked for."""
    return _RULES.format(
        max_nodes=limits.max_plan_nodes,
        capabilities=", ".join(_offered(limits)),
        described=_described(limits),
        reserved=", ".join(f"`{id_}`" for id_ in PLANNING_IDS),
    )


def repair(asked: str, previous: object, problems: Sequence[str]) -> str:
    """What a model is asked for when its first answer was refused."""
    return _REPAIR.format(
        rules=asked,
        previous=json.dumps(previous, ensure_ascii=False, indent=1)[:_PREVIOUS_SHOWN],
        problems="\n".join(f"- {one}" for one in problems),
    )


def read_plan(output: object, limits: Limits) -> tuple[PlannedSubtask, ...]:
    """The plan that a model made.

    Raises:
        InvalidRequestError: `details.problems` names everything that is wrong with it.
    """
    nodes = output.get("subtasks") if isinstance(output, dict) else output
    if not isinstance(nodes, list):
        problem = Problem("plan", "the answer is no object with a list `subtasks` in it")
        raise invalid("plan", [problem])
    plan = read_nodes(nodes)
    check_plan(
        plan,
        max_nodes=limits.max_plan_nodes,
        capabilities=_offered(limits),
        reserved=PLANNING_IDS,
    )
    return plan


def problems_of(error: InvalidRequestError) -> list[str]:
    """The problems that an error names, a line each."""
    named = [f"{one.path}: {one.message}" for one in problems_in(error)]
    return named or [error.message]
