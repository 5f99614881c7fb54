"""The pattern `route`: a model chooses one of the ways that the request offers. Pure.

It is asked by the planning subtask, as for a plan; its choice makes the plan, of one subtask.
"""

from agent_controller.planning.options import RouteOptions, read_options
from agent_controller.tasks.plan import Problem, invalid
from atlas.contracts.base import JsonObject
from atlas.contracts.tasks import PlannedSubtask, TaskRequest

_QUESTION = """\
Choose the one route by which the goal is worked on. Do not work on it yourself.
{routes}"""
_LONGEST = 1_000
"""Characters of a reason."""


def question(request: TaskRequest) -> str:
    """What a model is asked for."""
    routes = read_options(request, RouteOptions).routes
    return _QUESTION.format(
        routes="\n".join(f"- `{name}`: {route.when}" for name, route in routes.items())
    )


def schema(request: TaskRequest) -> JsonObject:
    """The JSON Schema of the answer."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["route", "reason"],
        "properties": {
            "route": {"type": "string", "enum": list(read_options(request, RouteOptions).routes)},
            "reason": {"type": "string"},
        },
    }


def read_choice(output: object, request: TaskRequest) -> tuple[PlannedSubtask, str]:
    """The subtask of the route that a model chose, and why it did.

    Raises:
        InvalidRequestError: It chose none of them.
    """
    routes = read_options(request, RouteOptions).routes
    chosen = output.get("route") if isinstance(output, dict) else None
    if not (isinstance(output, dict) and isinstance(chosen, str) and chosen in routes):
        raise invalid("choice", [Problem("route", f"give one of {', '.join(routes)}")])
    route = routes[chosen]
    node = PlannedSubtask(id=chosen, capability=route.capability, instruction=route.instruction)
    return node, f"route {chosen}: {output.get('reason', '')}"[:_LONGEST]
