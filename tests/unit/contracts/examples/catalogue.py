"""Values of the catalogue's models."""

from atlas.contracts.base import Contract
from atlas.contracts.catalogue import (
    BudgetInfo,
    Explanation,
    GroupInfo,
    ModelInfo,
    ModelUsage,
    ProviderInfo,
    ProvidersReply,
    ProvidersRequest,
    Ranked,
    Strategy,
    Unfit,
)
from atlas.contracts.inference import (
    Cost,
    Level,
    Message,
    ModelCapability,
    ModelRequest,
    Role,
    TaskType,
)

MODEL = ModelInfo(
    model="openai/gpt-5",
    provider="openai",
    capabilities={ModelCapability.CODE: Level.EXCEPTIONAL},
    context_tokens=400_000,
    input_usd_per_mtok=1.25,
    output_usd_per_mtok=10.0,
)
PROVIDER = ProviderInfo(
    provider="openai",
    kind="openai",
    base_url="https://llm.example.com/v1",
    health="degraded",
    circuit="half_open",
    open_until_ms=1_767_225_600_000,
    attempts=40,
    failures=3,
    in_flight=2,
    success_rate=0.925,
    time_to_first_token_ms=412.0,
    last_error="provider_rate_limit",
    probed_at_ms=1_767_225_590_000,
    probe_error="provider_connection",
)

GROUP = GroupInfo(
    group="fast",
    strategy=Strategy.COST_OPTIMIZED,
    members=["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"],
)
RANKED = Ranked(
    model="openai/gpt-5-mini",
    reason="cheapest: $0.002 expected",
    expected_usd=0.002,
    circuit="closed",
)
UNFIT = Unfit(model="anthropic/claude-haiku-4-5", lacks=["code strong (has moderate)"])
EXPLANATION = Explanation(
    group="fast",
    strategy=Strategy.COST_OPTIMIZED,
    task_type=TaskType.CODE_GENERATION,
    task_type_reason="'function' in the instruction",
    needs={ModelCapability.CODE: Level.STRONG},
    context_tokens=1_200,
    candidates=[RANKED],
    unfit=[UNFIT],
)
BUDGET = BudgetInfo(
    scope="month",
    key="2026-07",
    unit="usd",
    limit=200.0,
    spent=12.5,
    left=187.5,
    resets_at_ms=1_785_542_400_000,
)
USED = ModelUsage(
    model="openai/gpt-5",
    requests=12,
    input_tokens=48_000,
    output_tokens=9_000,
    cached_input_tokens=32_000,
    reasoning_tokens=4_000,
    cost=Cost(total_usd=0.114),
)

CATALOGUE: dict[str, Contract] = {
    "ModelInfo": MODEL,
    "ProviderInfo": PROVIDER,
    "GroupInfo": GROUP,
    "Ranked": RANKED,
    "Unfit": UNFIT,
    "Explanation": EXPLANATION,
    "BudgetInfo": BUDGET,
    "ModelUsage": USED,
    "ProvidersRequest": ProvidersRequest(
        explain=ModelRequest(messages=[Message(role=Role.USER, content="Write a function.")])
    ),
    "ProvidersReply": ProvidersReply(
        router="router-1",
        default_model="openai/gpt-5",
        providers=[PROVIDER],
        models=[MODEL],
        groups=[GROUP],
        budgets=[BUDGET],
        usage=[USED],
        explanation=EXPLANATION,
    ),
}
