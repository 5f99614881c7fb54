"""The patterns that need no model: from what was asked straight to a plan. Pure.

A pattern is a function of the request; it raises `InvalidRequestError` where it cannot make a plan
of it, which is found out at the door.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence

from agent_controller.planning import fixed, shaped
from agent_controller.tasks.plan import Problem, check_plan, invalid, read_nodes
from agent_controller.tasks.view import RESERVED_IDS
from atlas.contracts.errors import AtlasError, ConfigurationError
from atlas.contracts.tasks import Pattern, PlannedSubtask, TaskRequest

type MakePattern = Callable[[TaskRequest], Sequence[object]]
"""Gives `PlannedSubtask`s, or mappings with their fields."""

_MAX_PLAN_BYTES = 768 * 1024
"""A plan is one message of the log."""
_LONGEST = 1_000
"""Characters of what is told of a pattern that broke."""

PATTERNS: Mapping[str, MakePattern] = {
    Pattern.SINGLE: fixed.single,
    Pattern.SEQUENTIAL: fixed.sequential,
    Pattern.PARALLEL: fixed.parallel,
    Pattern.PIPELINE: shaped.pipeline,
    Pattern.MAP_REDUCE: shaped.map_reduce,
    Pattern.DEBATE: shaped.debate,
    Pattern.VOTE: shaped.vote,
    Pattern.EVALUATE_OPTIMIZE: shaped.evaluate_optimize,
}
"""Every pattern that comes with Atlas but `auto` and `route`, which ask a model."""


def registered(own: Mapping[str, str]) -> Mapping[str, MakePattern]:
    """Atlas's patterns and those that the settings declare as `module:function`.

    Raises:
        ConfigurationError: One has a name that is taken, or is not to be found.
    """
    found = dict(PATTERNS)
    for name, place in own.items():
        where = f"controller.patterns.{name}: {place!r}"
        if name in set(Pattern):
            raise ConfigurationError(f"{where}: Atlas has a pattern {name!r}; choose another name")
        module, _, function = place.partition(":")
        if not (module and function):
            raise ConfigurationError(f"{where}: give `module:function`")
        try:
            make = getattr(importlib.import_module(module), function)
        except Exception as error:  # whatever somebody's module does when it is imported
            raise ConfigurationError(
                f"{where}: it cannot be imported: {type(error).__name__}: {error}; install it "
                "where the controller runs, or set PYTHONPATH"
            ) from error
        if not callable(make):
            raise ConfigurationError(f"{where}: it is no function of a TaskRequest")
        found[name] = make
    return found


def make_plan(make: MakePattern, request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """The plan of a pattern, checked.

    Raises:
        InvalidRequestError: The pattern cannot work with this request; says why.
    """
    plan = read_nodes(_made(make, request))
    reserved = RESERVED_IDS if request.max_replans else ()
    check_plan(plan, reserved=reserved, inputs=request.inputs or {})
    size_bytes = sum(len(one.to_json()) for one in plan)
    if size_bytes > _MAX_PLAN_BYTES:
        problem = Problem(
            "inputs",
            f"the plan for them has {size_bytes:,} bytes, and at most {_MAX_PLAN_BYTES:,} are "
            "taken; give less, or split the task",
        )
        raise invalid("TaskRequest", [problem])
    return plan


def _made(make: MakePattern, request: TaskRequest) -> Sequence[object]:
    """What a pattern gives; of one's own it may break in any way, and its task says how."""
    try:
        return list(make(request))
    except AtlasError:
        raise
    except Exception as error:
        said = f"it failed with {type(error).__name__}: {error}; correct it, or what it was given"
        raise invalid("TaskRequest", [Problem("pattern", said[:_LONGEST])]) from error
