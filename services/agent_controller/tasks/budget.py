"""What a task may still use up, and what each subtask may use of it. Pure."""

from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import AtlasError, BudgetExceededError, RequestTimeoutError
from atlas.contracts.inference import Budget


def exceeded(view: TaskView, now_ms: int) -> AtlasError | None:
    """The budget or deadline that the task has used up, or None."""
    if view.request is None:
        return None
    if view.request.deadline_ms is not None and now_ms >= view.request.deadline_ms:
        return RequestTimeoutError(
            f"the task was not done by its deadline_ms, {view.request.deadline_ms}; "
            "give it more time, or less to do"
        )
    return _budget_exceeded(view, view.request.budget or Budget(), now_ms)


def _budget_exceeded(view: TaskView, budget: Budget, now_ms: int) -> AtlasError | None:
    tokens = view.usage.input_tokens + view.usage.output_tokens
    if budget.max_tokens is not None and tokens > budget.max_tokens:
        return BudgetExceededError(
            f"the task used {tokens} tokens, and budget.max_tokens is {budget.max_tokens}"
        )
    if budget.max_usd is not None and view.cost.total_usd > budget.max_usd:
        return BudgetExceededError(
            f"the task cost {view.cost.total_usd:.6f} USD, and budget.max_usd is {budget.max_usd:g}"
        )
    if (ends_at_ms := time_is_up_at_ms(view)) is not None and now_ms >= ends_at_ms:
        return BudgetExceededError(f"the task ran for budget.max_ms, {budget.max_ms} ms")
    return None


def time_is_up_at_ms(view: TaskView) -> int | None:
    """When `budget.max_ms` is used up; pauses do not count, and while paused it has no end."""
    if view.request is None or view.request.budget is None or view.is_paused:
        return None
    max_ms = view.request.budget.max_ms
    return None if max_ms is None else view.accepted_at_ms + view.paused_ms + max_ms


def share(view: TaskView, now_ms: int) -> Budget | None:
    """What one subtask may use: an equal part of the rest for each that is not finished.

    As nobody gets more than an equal part, subtasks that run side by side cannot overrun the
    budget together, unless the plan grows while they run: then the budget that all streams of the
    task share holds. What one leaves over raises the parts of those that follow. Time is no such
    part: each has what is left of it. It is given as a duration, which a pause does not use up.
    """
    budget = view.request.budget if view.request else None
    if budget is None:
        return None
    unfinished = view.progress.count("left") + view.progress.count("asking_left")
    parts = max(1, unfinished)
    used = view.usage.input_tokens + view.usage.output_tokens
    max_tokens = max_usd = None
    if budget.max_tokens is not None:
        max_tokens = max(1, (budget.max_tokens - used) // parts)
    if budget.max_usd is not None:
        max_usd = max(1e-9, (budget.max_usd - view.cost.total_usd) / parts)
    ends_at_ms = time_is_up_at_ms(view)
    max_ms = None if ends_at_ms is None else max(1, ends_at_ms - now_ms)
    if max_tokens is max_usd is max_ms is None:
        return None
    return Budget(max_tokens=max_tokens, max_usd=max_usd, max_ms=max_ms)
