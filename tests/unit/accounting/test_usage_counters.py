"""Of how many models a router counts what was used."""

from typing import Any, cast

from atlas import subjects
from atlas.contracts.inference import Cost, Usage
from provider_router.accounting.usage import _MOST_NAMED, _MOST_TENANTS, UsageCounters


def counted(used: UsageCounters) -> dict[tuple[str, str], int]:
    """Requests by tenant and model."""
    return {
        (subjects.parse(subject).tenant, subjects.model_of_usage(subject)[0]): number
        for subject, number in used._gathered.items()
        if subjects.model_of_usage(subject)[1] == "requests"
    }


def counters() -> UsageCounters:
    return UsageCounters(cast("Any", None))  # nothing is sent


def test_callers_who_make_up_models_do_not_decide_how_many_counters_there_are():
    used = counters()
    for number in range(1_000):
        used.add("acme", f"openai/made-up-{number}", Usage(input_tokens=1), Cost())
    used.add("acme", "openai/made-up-0", Usage(input_tokens=1), Cost())
    used.add("other", "openai/gpt", Usage(input_tokens=1), Cost())
    found = counted(used)
    assert len(found) == _MOST_NAMED + 2
    assert found["acme", "openai/(others)"] == 1_000 - _MOST_NAMED
    assert found["acme", "openai/made-up-0"] == 2
    assert found["other", "openai/gpt"] == 1
    assert sum(found.values()) == 1_002, "nothing is lost"


def test_the_tenants_whose_models_are_remembered_are_bounded():
    used = counters()
    for number in range(_MOST_TENANTS + 10):
        used.add(f"t{number}", "openai/gpt", Usage(), Cost())
    assert len(used._named) == _MOST_TENANTS
    assert len(counted(used)) == _MOST_TENANTS + 10
