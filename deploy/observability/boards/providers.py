"""Providers: who answers, who fails, what it costs."""

from atlas.telemetry import names
from deploy.observability.asking import has, quantile, rate, same, share, told, total
from deploy.observability.boards.parts import (
    FIRST,
    HERE,
    INSTANCES,
    PROVIDER,
    PROVIDERS,
    TENANT,
    TENANTS,
    TOKENS,
    WITH_ERROR,
    legend,
)
from deploy.observability.panels import Board, Limits, Panel, Query

_ATTEMPTS = told(names.PROVIDER_ATTEMPTS, HERE, PROVIDER)
_FAILURES = told(names.PROVIDER_FAILURES, HERE, PROVIDER)
_BUDGET = (names.TENANT, names.BUDGET_PERIOD, names.BUDGET_UNIT)


def _circuit(state: str) -> str:
    return same(
        told(names.PROVIDER_CIRCUIT, HERE, PROVIDER, has(names.CIRCUIT_STATE, state)), names.ACCOUNT
    )


PROVIDERS_BOARD = Board(
    "atlas-providers",
    "Atlas: providers",
    "Who answers, who fails, what it costs, and what budgets leave.",
    [INSTANCES, PROVIDERS, TENANTS],
    [
        (
            "Whether they answer",
            [
                Panel(
                    "Circuits",
                    [
                        Query(_circuit("open"), legend(names.ACCOUNT) + " open"),
                        Query(_circuit("half_open"), legend(names.ACCOUNT) + " half open"),
                    ],
                    "1 where a router asks a provider not at all (open), or tries it (half open).",
                    limits=Limits(1),
                    most=1,
                ),
                Panel(
                    "Attempts",
                    [Query(rate(_ATTEMPTS, names.ACCOUNT), legend(names.ACCOUNT))],
                    "Attempts that ended, a second.",
                    "ops",
                ),
                Panel(
                    "Failed attempts",
                    [
                        Query(
                            share(rate(_FAILURES, names.ACCOUNT), rate(_ATTEMPTS, names.ACCOUNT)),
                            legend(names.ACCOUNT),
                        )
                    ],
                    "The share of attempts that failed by the provider's fault.",
                    "percentunit",
                    Limits(0.05, 0.2),
                    most=1,
                ),
                Panel(
                    "In flight",
                    [
                        Query(
                            total(told(names.PROVIDER_IN_FLIGHT, HERE, PROVIDER), names.ACCOUNT),
                            legend(names.ACCOUNT),
                        )
                    ],
                    "Attempts that run.",
                ),
                Panel(
                    "First content, 95%",
                    [Query(quantile(0.95, FIRST, names.ACCOUNT), legend(names.ACCOUNT))],
                    "From the claim of a stream to its first content, so with what failed before.",
                    "s",
                    Limits(3, 10),
                ),
                Panel(
                    "Errors",
                    [
                        Query(
                            rate(WITH_ERROR, names.ACCOUNT, names.ERROR_TYPE),
                            legend(names.ACCOUNT, names.ERROR_TYPE),
                        )
                    ],
                    "Streams and embeddings that failed in the end, by error code.",
                    "ops",
                    stacked=True,
                ),
            ],
        ),
        (
            "What it costs",
            [
                Panel(
                    "Cost",
                    [
                        Query(
                            f"{rate(told(names.COST, HERE, PROVIDER), names.ACCOUNT)} * 3600",
                            legend(names.ACCOUNT),
                        )
                    ],
                    "US dollars an hour at this pace, where the price is known.",
                    "currencyUSD",
                    stacked=True,
                ),
                Panel(
                    "Tokens",
                    [
                        Query(
                            rate(TOKENS, names.ACCOUNT, names.TOKEN_TYPE),
                            legend(names.ACCOUNT, names.TOKEN_TYPE),
                        )
                    ],
                    "Tokens a second, of failed attempts too.",
                    stacked=True,
                ),
                Panel(
                    "Budgets",
                    [
                        Query(
                            share(
                                same(told(names.BUDGET_SPENT, TENANT), *_BUDGET),
                                same(told(names.BUDGET_LIMIT, TENANT), *_BUDGET),
                            ),
                            legend(*_BUDGET),
                        )
                    ],
                    "What is spent or reserved of each budget of the tenants that the settings "
                    "name.",
                    "percentunit",
                    Limits(0.8, 0.95),
                    most=1,
                ),
            ],
        ),
    ],
)
