"""`atlas providers explain`: who would be asked, and why the others would not."""

from dataclasses import dataclass

from atlas.cli.figures import money
from atlas.cli.output import Output
from atlas.cli.session import DONE, connected
from atlas.contracts.base import JsonObject
from atlas.contracts.catalogue import Explanation
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import Cost, Level


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it decides who answers it."""

    prompt: str
    model: str | None
    task_type: str | None
    capabilities: str | None
    """As it was typed, such as `code:strong,reasoning:moderate`."""
    context_tokens: int | None

    def fields(self) -> JsonObject:
        """As the fields of a request."""
        wish = requirements(self.task_type, self.capabilities, self.context_tokens)
        fields: JsonObject = {"model": self.model, "requirements": wish or None}
        return {name: value for name, value in fields.items() if value is not None}


def requirements(
    task_type: str | None, capabilities: str | None, context_tokens: int | None = None
) -> JsonObject:
    """What was typed as `requirements`; the request's own check names what is misspelt.

    Raises:
        InvalidRequestError: A capability without a level.
    """
    wish: JsonObject = {}
    if task_type is not None:
        wish["task_type"] = task_type
    if capabilities is not None:
        wish["capabilities"] = dict(map(_capability, capabilities.split(",")))
    if context_tokens is not None:
        wish["context_tokens"] = context_tokens
    return wish


def _capability(text: str) -> tuple[str, str]:
    name, colon, level = text.strip().partition(":")
    if not colon or not level:
        raise InvalidRequestError(
            f"--capabilities: {text.strip()!r} has no level; write {name or 'code'}:strong, "
            f"with one of {', '.join(level.value for level in Level)}"
        )
    return name, level


async def explain(asked: Asked, *, as_json: bool) -> int:
    """Ask a router how it would choose."""
    output = Output(as_json=as_json)
    fields = asked.fields()
    async with connected() as atlas:
        explanation = await atlas.explain(asked.prompt, **fields)
    if as_json:
        output.record(explanation)
    elif output.is_terminal:
        _draw(explanation, output)
    else:
        for line in lines(explanation):
            output.line(line)
    return DONE


def lines(explanation: Explanation) -> list[str]:
    """An explanation, line by line."""
    told = _wanted(explanation)
    told += [
        f"{place}. {one.model}: {one.reason}"
        for place, one in enumerate(explanation.candidates, start=1)
    ]
    told += [f"not able: {one.model} lacks {', '.join(one.lacks)}" for one in explanation.unfit]
    return told


def _draw(explanation: Explanation, output: Output) -> None:
    from rich.table import Table  # noqa: PLC0415 - only where somebody looks

    for line in _wanted(explanation):
        output.line(line)
    output.line("")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", justify="right")
    table.add_column("model")
    table.add_column("expected", justify="right")
    table.add_column("circuit")
    table.add_column("why this place")
    for place, one in enumerate(explanation.candidates, start=1):
        usd = "" if one.expected_usd is None else money(Cost(total_usd=one.expected_usd))
        circuit = one.circuit.replace("_", "-")
        table.add_row(str(place), one.model, usd, circuit, one.reason)
    for unfit in explanation.unfit:
        table.add_row("-", unfit.model, "", "", f"lacks {', '.join(unfit.lacks)}", style="dim")
    output.console.print(table)


def _wanted(explanation: Explanation) -> list[str]:
    """What is asked for, and by which strategy it is answered."""
    told = []
    if explanation.task_type is not None:
        why = f" ({explanation.task_type_reason})" if explanation.task_type_reason else ""
        told.append(f"task type  {explanation.task_type.value}{why}")
    needs = [f"{name.value} {level.value}" for name, level in explanation.needs.items()]
    needs.append(f"context {explanation.context_tokens:,} tokens")
    told.append(f"needs      {', '.join(needs)}")
    if explanation.strategy is not None:
        group = f" of group {explanation.group}" if explanation.group else ""
        told.append(f"strategy   {explanation.strategy.value}{group}")
    return told
