"""What several dashboards have in common: choices, names of series, questions."""

from atlas.telemetry import names
from deploy.observability.asking import INSTANCE, chosen, label, lacks, quantile, told
from deploy.observability.panels import Query, Variable

HERE = chosen(INSTANCE, "instance")
PROVIDER = chosen(names.ACCOUNT, "provider")
TENANT = chosen(names.TENANT, "tenant")

INSTANCES = Variable("instance", INSTANCE, told(names.NATS_CONNECTED))
PROVIDERS = Variable("provider", label(names.ACCOUNT), told(names.PROVIDER_ATTEMPTS))
TENANTS = Variable("tenant", label(names.TENANT), told(names.BUDGET_LIMIT))

QUEUE = (names.QUEUE, names.LANE, names.CAPABILITY, names.PRIORITY)
"""What tells one queue from another."""

FIRST = told(names.TIME_TO_FIRST_CHUNK, HERE, PROVIDER, part="bucket")
TOKENS = told(names.TOKEN_USAGE, HERE, PROVIDER, part="sum")
WITH_ERROR = told(
    names.OPERATION_DURATION, HERE, PROVIDER, lacks(names.ERROR_TYPE, ""), part="count"
)


def legend(*attributes: str) -> str:
    """The values of these labels."""
    return " ".join(f"{{{{{label(one)}}}}}" for one in attributes)


def percentiles(buckets: str, *shares: float) -> list[Query]:
    """What that many of a histogram's values stay under."""
    return [Query(quantile(one, buckets), f"{one:.0%} stay under") for one in shares]
