"""Patterns whose plan is always the same. Pure."""

from agent_controller.planning.options import NoOptions, read_options
from atlas.contracts.tasks import PlannedSubtask, TaskRequest


def single(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """The whole goal in one subtask."""
    read_options(request, NoOptions)
    return (whole_goal(),)


def whole_goal() -> PlannedSubtask:
    """The subtask that reaches the goal by itself."""
    return PlannedSubtask(
        id="answer",
        capability="general",
        instruction="Reach the goal completely and give the result.",
    )


def sequential(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """Each builds on the one before: research, analysis, draft, review."""
    read_options(request, NoOptions)
    return (
        PlannedSubtask(
            id="research",
            capability="research",
            instruction="Collect the facts, sources and constraints that the goal depends on. "
            "Say what is certain, what is assumed and what is unknown.",
        ),
        PlannedSubtask(
            id="analysis",
            capability="analysis",
            instruction="Analyse what the research found with respect to the goal: what follows, "
            "what conflicts, what matters most.",
            depends_on=["research"],
        ),
        PlannedSubtask(
            id="draft",
            capability="draft",
            instruction="Write the complete result that the goal asks for, from the research and "
            "the analysis.",
            depends_on=["research", "analysis"],
        ),
        PlannedSubtask(
            id="review",
            capability="review",
            instruction="Check the draft against the goal and the research, correct what is wrong "
            "or missing, and give the final, complete text. Give the text itself, not remarks "
            "about it.",
            depends_on=["research", "draft"],
        ),
    )


_VIEWS = {
    "facts": (
        "research",
        "Work on the goal from the side of facts: what is known, and how sure it is.",
    ),
    "options": (
        "analysis",
        "Work on the goal from the side of options: the ways to reach it, and what each costs.",
    ),
    "risks": (
        "review",
        "Work on the goal from the side of risks: what can go wrong, and what would prevent it.",
    ),
}


def parallel(request: TaskRequest) -> tuple[PlannedSubtask, ...]:
    """Independent views side by side, and a synthesis of all of them."""
    read_options(request, NoOptions)
    views = tuple(
        PlannedSubtask(id=id_, capability=capability, instruction=instruction)
        for id_, (capability, instruction) in _VIEWS.items()
    )
    synthesis = PlannedSubtask(
        id="synthesis",
        capability="draft",
        instruction="Bring the independent views together into one complete answer to the goal. "
        "Resolve where they contradict each other and say so.",
        depends_on=list(_VIEWS),
    )
    return (*views, synthesis)
