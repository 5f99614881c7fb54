"""The patterns that need no model: from what was asked straight to a plan. Pure.

A pattern is a function of the request; it raises `InvalidRequestError` where it cannot make a plan
of it, which is found out at the door.
"""

from collections.abc import Callable, Mapping, Sequence

from agent_controller.planning import fixed, shaped
from agent_controller.tasks.plan import Problem, check_plan, invalid
from atlas.contracts.tasks import Pattern, PlannedSubtask, TaskRequest

type MakePattern = Callable[[TaskRequest], Sequence[PlannedSubtask]]

_MAX_PLAN_BYTES = 768 * 1024
"""A plan is one message of the log."""

PATTERNS: Mapping[Pattern, MakePattern] = {
    Pattern.SINGLE: fixed.single,
    Pattern.SEQUENTIAL: fixed.sequential,
    Pattern.PARALLEL: fixed.parallel,
    Pattern.PIPELINE: shaped.pipeline,
    Pattern.MAP_REDUCE: shaped.map_reduce,
    Pattern.DEBATE: shaped.debate,
    Pattern.VOTE: shaped.vote,
    Pattern.EVALUATE_OPTIMIZE: shaped.evaluate_optimize,
}
"""Every pattern but `auto`, which asks a model."""

SUPPORTED = (Pattern.AUTO, *PATTERNS)
"""What `TaskRequest.pattern` may say in this version."""


def make_plan(make: MakePattern, request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """The plan of a pattern, checked.

    Raises:
        InvalidRequestError: The pattern cannot work with this request; says why.
    """
    plan = tuple(make(request))
    check_plan(plan, inputs=request.inputs or {})
    size_bytes = sum(len(one.to_json()) for one in plan)
    if size_bytes > _MAX_PLAN_BYTES:
        problem = Problem(
            "inputs",
            f"the plan for them has {size_bytes:,} bytes, and at most {_MAX_PLAN_BYTES:,} are "
            "taken; give less, or split the task",
        )
        raise invalid("TaskRequest", [problem])
    return plan
