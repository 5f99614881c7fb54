"""Budgets and usage as `atlas providers` shows them."""

import io
import json

import pytest
from rich.console import Console

from atlas.cli import spending
from atlas.cli.output import Output
from atlas.contracts.catalogue import BudgetInfo, ModelUsage, ProvidersReply
from atlas.contracts.inference import Cost

DAY = BudgetInfo(
    scope="day",
    key="2026-07-31",
    unit="tokens",
    limit=1_000_000,
    spent=950_000,
    left=50_000,
    resets_at_ms=1_785_542_400_000,
)
MONTH = BudgetInfo(scope="month", key="2026-07", unit="usd", limit=200.0, spent=12.5, left=187.5)
USED = ModelUsage(
    model="openai/gpt-5",
    requests=12,
    input_tokens=48_000,
    output_tokens=9_000,
    cached_input_tokens=32_000,
    reasoning_tokens=4_000,
    cost=Cost(total_usd=0.114),
)
UNPRICED = ModelUsage(model="lab/new", requests=1, input_tokens=5, cost=Cost(complete=False))


def reply(**fields: object) -> ProvidersReply:
    base = {"router": "r", "default_model": "m", "providers": [], "models": []}
    return ProvidersReply.model_validate(base | fields)


def test_each_budget_and_each_model_is_a_line():
    shown = list(spending.lines(reply(budgets=[DAY, MONTH], usage=[USED, UNPRICED])))
    assert shown[0].startswith(
        "budget day 2026-07-31: 950,000 tokens of 1,000,000 tokens, 50,000 tokens left, until 2026-"
    )
    assert shown[1:] == [
        "budget month 2026-07: $12.50 of $200.00, $187.50 left",
        (
            "used today openai/gpt-5: 12 attempts, 48,000 in (32,000 cached), "
            "9,000 out (4,000 reasoning), $0.11"
        ),
        "used today lab/new: 1 attempt, 5 in, 0 out, ≥ $0.00",
    ]


def test_a_terminal_gets_tables():
    output = Output(as_json=False)
    written = io.StringIO()
    output.console = Console(file=written, width=160)
    spending.draw(reply(budgets=[DAY, MONTH], usage=[USED]), output)
    for text in ("day 2026-07-31", "187.50", "openai/gpt-5", "32,000", "$0.11", "reasoning"):
        assert text in written.getvalue()


@pytest.mark.parametrize(("fields", "is_told"), [({}, True), ({"budgets": [], "usage": []}, False)])
def test_nothing_read_is_told_apart_from_nothing_spent(capsys, fields, is_told):
    output = Output(as_json=False)
    output.console = Console(file=io.StringIO())
    spending.draw(reply(**fields), output)
    spending.tell_if_unknown(reply(**fields), output)
    assert list(spending.lines(reply(**fields))) == []
    assert (spending.NOT_READ in capsys.readouterr().err) is is_told


def test_json_has_both():
    shown = json.loads(reply(budgets=[MONTH], usage=[USED]).to_json())
    assert shown["budgets"][0]["left"] == 187.5
    assert shown["usage"][0]["cost"]["total_usd"] == 0.114
