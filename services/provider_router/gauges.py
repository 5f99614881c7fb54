"""What a router has now, for its metrics: streams, circuits, and configured budgets."""

from atlas import gauges
from atlas.budget_settings import EVERY_TENANT
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import BudgetInfo
from atlas.telemetry import meters, names
from provider_router.configuration import Configuration
from provider_router.routing.circuit import CircuitState
from provider_router.streaming.spending import Spendings
from provider_router.streaming.supervisor import OUTCOMES, Supervisor

_STATES: tuple[CircuitState, ...] = ("closed", "open", "half_open")
_MOST_TENANTS = 50
"""Tenants whose budgets are told: the settings may name thousands."""


async def look(
    bus: Bus, supervisor: Supervisor, configuration: Configuration, spendings: Spendings
) -> None:
    """Tell all of it.

    Raises:
        NatsError: JetStream did not answer.
    """
    meters.tell(names.STREAMS_RUNNING, [(supervisor.running, {})])
    meters.tell(
        names.STREAMS_ENDED,
        [(supervisor.ended[outcome], {names.OUTCOME: outcome}) for outcome in OUTCOMES],
    )
    _tell_providers(configuration)
    await gauges.tell_queues(bus, gauges.QUEUES_OF_ROUTERS)
    await _tell_budgets(configuration, spendings)


def _tell_providers(configuration: Configuration) -> None:
    accounts = [configuration.board.of(name) for name in configuration.current.settings.providers]
    now = now_ms()
    meters.tell(
        names.PROVIDER_CIRCUIT,
        [
            (
                int(one.circuit.state(now) == state),
                {names.ACCOUNT: one.name, names.CIRCUIT_STATE: state},
            )
            for one in accounts
            for state in _STATES
        ],
    )
    for metric, values in (
        (names.PROVIDER_IN_FLIGHT, [one.in_flight for one in accounts]),
        (names.PROVIDER_ATTEMPTS, [one.attempts for one in accounts]),
        (names.PROVIDER_FAILURES, [one.failures for one in accounts]),
    ):
        labels = [{names.ACCOUNT: one.name} for one in accounts]
        meters.tell(metric, list(zip(values, labels, strict=True)))


async def _tell_budgets(configuration: Configuration, spendings: Spendings) -> None:
    """Of tenants that the settings name; those whom `*` limits are as many as there are."""
    named = [one for one in configuration.current.settings.budgets.tenants if one != EVERY_TENANT]
    told: list[tuple[str, BudgetInfo]] = []
    for tenant in named[:_MOST_TENANTS]:
        told += [(tenant, one) for one in await spendings.accounts.told(tenant)]
    labels = [
        {names.TENANT: tenant, names.BUDGET_PERIOD: one.scope, names.BUDGET_UNIT: one.unit}
        for tenant, one in told
    ]
    limits = [(one.limit, of) for (_, one), of in zip(told, labels, strict=True)]
    spent = [(one.spent, of) for (_, one), of in zip(told, labels, strict=True)]
    meters.tell(names.BUDGET_LIMIT, limits)
    meters.tell(names.BUDGET_SPENT, spent)
