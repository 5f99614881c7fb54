"""What `atlas providers` shows of money: the tenant's budgets, and what it used of each model."""

import time
from collections.abc import Iterator

from atlas.cli.figures import money
from atlas.cli.output import Output
from atlas.contracts.catalogue import BudgetInfo, ModelUsage, ProvidersReply
from atlas.contracts.inference import Cost

NOT_READ = "budgets and usage cannot be read now: JetStream does not answer the router"

_NEARLY_SPENT = 0.9


def lines(reply: ProvidersReply) -> Iterator[str]:
    """A line for each budget, and one for each model that was used today."""
    for budget in reply.budgets or ():
        yield (
            f"budget {budget.scope} {budget.key}: {_amount(budget, budget.spent)} of "
            f"{_amount(budget, budget.limit)}, {_amount(budget, budget.left)} left"
            f"{_until(budget)}"
        )
    for used in reply.usage or ():
        yield f"used today {used.model}: {_attempts(used)}, {_tokens(used)}, {money(used.cost)}"


def draw(reply: ProvidersReply, output: Output) -> None:
    """Tables of the same, where there is something to show."""
    from rich.table import Table  # noqa: PLC0415 - only where somebody looks
    from rich.text import Text  # noqa: PLC0415 - as above

    if reply.budgets:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("budget", "spent", "limit", "left", "resets"):
            table.add_column(title)
        for one in reply.budgets:
            is_nearly_spent = one.spent >= one.limit * _NEARLY_SPENT
            table.add_row(
                f"{one.scope} {one.key}",
                Text(_amount(one, one.spent), style="yellow" if is_nearly_spent else ""),
                _amount(one, one.limit),
                _amount(one, one.left),
                _until(one).removeprefix(", until "),
            )
        output.console.print()
        output.console.print(table)
    if reply.usage:
        used = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("used today", "attempts", "in", "cached", "out", "reasoning", "cost"):
            used.add_column(title)
        for model in reply.usage:
            used.add_row(
                model.model,
                f"{model.requests:,}",
                f"{model.input_tokens:,}",
                f"{model.cached_input_tokens:,}",
                f"{model.output_tokens:,}",
                f"{model.reasoning_tokens:,}",
                money(model.cost),
            )
        output.console.print()
        output.console.print(used)


def tell_if_unknown(reply: ProvidersReply, output: Output) -> None:
    """Say on stderr when the counters are out of reach: nothing shown is not nothing spent."""
    if reply.budgets is None or reply.usage is None:
        output.note(NOT_READ)


def _amount(budget: BudgetInfo, amount: float) -> str:
    if budget.unit == "usd":
        return money(Cost(total_usd=amount))
    return f"{amount:,.0f} tokens"


def _until(budget: BudgetInfo) -> str:
    if budget.resets_at_ms is None:
        return ""
    return f", until {time.strftime('%Y-%m-%d %H:%M', time.localtime(budget.resets_at_ms / 1000))}"


def _attempts(used: ModelUsage) -> str:
    return f"{used.requests:,} attempt{'' if used.requests == 1 else 's'}"


def _tokens(used: ModelUsage) -> str:
    cached = f" ({used.cached_input_tokens:,} cached)" if used.cached_input_tokens else ""
    reasoning = f" ({used.reasoning_tokens:,} reasoning)" if used.reasoning_tokens else ""
    return f"{used.input_tokens:,} in{cached}, {used.output_tokens:,} out{reasoning}"
