"""Embeddings by the router: who is asked, in which pieces, and what a failure leads to."""

import random
from typing import cast

import pytest

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import (
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    ProviderAuthError,
    ProviderBusyError,
    ProviderContextLengthError,
    ProviderError,
    ProviderServerError,
    ProviderStreamError,
    ProviderTimeoutError,
)
from atlas.contracts.inference import Cost, EmbedRequest, Usage, UsageSource
from atlas.provider_settings import LimitSettings, ProviderSettings
from provider_router import embedding
from provider_router.accounting.bill import Bill
from provider_router.accounting.budgets import Amounts, Verdict
from provider_router.embedding import Embedder, batches
from provider_router.providers.base import Adapter, EmbedCall, Embedded
from provider_router.routing.board import Board
from provider_router.routing.choosing import Candidate
from provider_router.routing.embeddings import EmbeddingCatalogue
from provider_router.routing.prices import Pricing
from provider_router.routing.provider_accounts import AccountConfig
from provider_router.routing.rate import Tokens

ROOM = 2**20
SMALL = "text-embedding-3-small"
A, B = (Candidate(name, SMALL, "", Pricing("openai", SMALL)) for name in ("a", "b"))


class Scripted:
    """Answers vectors that begin with its own number, or fails as it is told to."""

    def __init__(self, mark: float, fails: list[ProviderError | None], dimensions: int = 2) -> None:
        self.mark = mark
        self.fails = fails
        self.dimensions = dimensions
        self.asked: list[list[str]] = []
        self.counts = True

    async def embed(self, call: EmbedCall) -> Embedded:
        self.asked.append(call.texts)
        if self.fails and (error := self.fails.pop(0)):
            raise error
        vectors = [[self.mark] * self.dimensions for _ in call.texts]
        return Embedded(vectors, Usage(input_tokens=len(call.texts)) if self.counts else None)


class Poor:
    """An account of a budget of so many tokens."""

    is_limited = True
    exceeded: JsonObject | None = None

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def used(self, tokens: int, microusd: int) -> Verdict:  # noqa: ARG002 - as in Account
        return Verdict.WAIT if tokens >= self.tokens else Verdict.OK

    async def extend(self) -> bool:
        return False

    async def settle(self, used: Amounts) -> None:
        pass


def embedder(*, max_attempts: int = 3, **adapters: Scripted) -> Embedder:
    return Embedder(
        cast("dict[str, Adapter]", adapters),  # of which only `embed` is used
        max_attempts,
        Board({name: AccountConfig("", LimitSettings()) for name in adapters}),
        random.Random(0),
    )


async def embed(
    made: Embedder, texts: str | list[str], *candidates: Candidate, bill: Bill | None = None
):
    request = EmbedRequest.model_validate({"input": texts})
    return await made.embed(request, list(candidates), bill or Bill(), room_bytes=ROOM)


async def test_an_answer_names_its_model_and_provider_and_what_it_cost():
    answer = await embed(embedder(a=Scripted(1, [])), ["x", "y"], A)
    assert answer.embeddings == [[1, 1], [1, 1]]
    assert (answer.provider, answer.model) == ("a", "text-embedding-3-small")
    assert answer.usage == Usage(input_tokens=2)
    assert answer.cost.complete
    assert answer.cost.total_usd > 0


async def test_one_text_is_one_vector():
    assert len((await embed(embedder(a=Scripted(1, [])), "x", A)).embeddings) == 1


async def test_what_a_provider_does_not_count_is_estimated():
    silent = Scripted(1, [])
    silent.counts = False
    usage = (await embed(embedder(a=silent), ["x" * 40], A)).usage
    assert usage.source is UsageSource.ESTIMATED
    assert usage.input_tokens > 0


async def test_a_model_without_a_known_price_makes_the_cost_incomplete():
    odd = Candidate("a", "no-such-embedding", "", Pricing("openai", "no-such-embedding"))
    answer = await embed(embedder(a=Scripted(1, [])), "x", odd)
    assert answer.cost == Cost(complete=False)


async def test_another_provider_of_the_same_model_begins_anew_and_answers_alone(monkeypatch):
    monkeypatch.setattr("provider_router.embedding._BATCH_CHARACTERS", 2)
    first, second = Scripted(1, [None, ProviderServerError("x")]), Scripted(2, [])
    answer = await embed(embedder(a=first, b=second), ["x", "y", "z"], A, B)
    assert {one[0] for one in answer.embeddings} == {2}
    assert answer.provider == "b"
    assert [len(one) for one in first.asked] == [2, 1]
    assert answer.usage.input_tokens == 2 + 3, "the first provider's batch was paid for too"


async def test_the_same_provider_goes_on_with_the_batch_that_failed(monkeypatch):
    monkeypatch.setattr("provider_router.embedding._BATCH_CHARACTERS", 2)
    error = ProviderServerError("x")
    only = Scripted(1, [None, error])
    answer = await embed(embedder(a=only), ["x", "y", "z"], A)
    assert only.asked == [["x", "y"], ["z"], ["z"]]
    assert len(answer.embeddings) == 3


@pytest.mark.parametrize(
    ("error", "tries"),
    [(ProviderServerError, 2), (ProviderAuthError, 1), (ProviderContextLengthError, 1)],
)
async def test_the_last_error_is_raised_when_nothing_more_is_to_be_tried(error, tries):
    only = Scripted(1, [error("x"), error("x"), error("x")])
    with pytest.raises(error):
        await embed(embedder(a=only, max_attempts=2), "x", A)
    assert len(only.asked) == tries


async def test_candidates_of_two_models_are_never_tried_for_one_answer():
    other = Candidate("b", "text-embedding-3-large", "", Pricing("openai", "x"))
    with pytest.raises(InvalidRequestError, match="cannot be compared"):
        await embed(embedder(a=Scripted(1, []), b=Scripted(2, [])), "x", A, other)


async def test_vectors_that_change_their_length_are_an_error_of_the_provider(monkeypatch):
    monkeypatch.setattr("provider_router.embedding._BATCH_CHARACTERS", 1)
    changing = Scripted(1, [])

    async def embed_two(call: EmbedCall) -> Embedded:
        changing.dimensions += 1
        return await Scripted.embed(changing, call)

    changing.embed = embed_two  # type: ignore[method-assign]
    with pytest.raises(ProviderStreamError, match="changed the length"):
        await embed(embedder(a=changing, max_attempts=1), ["x", "y"], A)


async def test_an_answer_that_would_not_fit_is_refused_before_it_is_paid_for():
    never = Scripted(1, [])
    with pytest.raises(PayloadTooLargeError) as raised:
        await embed(embedder(a=never), ["x"] * 1_000, A)
    assert never.asked == []
    most = (raised.value.details or {})["max_inputs"]
    assert isinstance(most, int)
    assert len((await embed(embedder(a=never), ["x"] * most, A)).embeddings) == most


async def test_an_answer_of_unknown_length_is_refused_after_its_first_batch():
    wide = Scripted(1, [], dimensions=100_000)
    odd = Candidate("a", "no-such-embedding", "", Pricing("openai", "no-such-embedding"))
    with pytest.raises(PayloadTooLargeError, match="100000 numbers"):
        await embed(embedder(a=wide), ["x"] * 100, odd)
    assert len(wide.asked) == 1


async def test_each_request_is_counted_for_the_provider_that_took_it(monkeypatch):
    monkeypatch.setattr("provider_router.embedding._BATCH_CHARACTERS", 2)
    late = ProviderTimeoutError("x")
    late.was_sent = True
    first, second = Scripted(1, [None, late]), Scripted(2, [])
    counted: list[tuple[str, int, UsageSource]] = []
    bill = Bill(
        count=lambda model, usage, _: counted.append((model, usage.input_tokens, usage.source))
    )
    answer = await embed(embedder(a=first, b=second), ["x", "y", "z"], A, B, bill=bill)
    assert counted == [
        (f"a/{SMALL}", 2, UsageSource.REPORTED),
        (f"a/{SMALL}", 1, UsageSource.ESTIMATED),
        (f"b/{SMALL}", 2, UsageSource.REPORTED),
        (f"b/{SMALL}", 1, UsageSource.REPORTED),
    ]
    assert (answer.usage.input_tokens, answer.usage.source) == (6, UsageSource.ESTIMATED)


async def test_a_request_for_which_there_is_no_budget_is_not_sent(monkeypatch):
    monkeypatch.setattr("provider_router.embedding._BATCH_CHARACTERS", 2)
    first, bill = Scripted(1, []), Bill(account=Poor(3))
    with pytest.raises(BudgetExceededError, match="before it was whole"):
        await embed(embedder(a=first), ["x", "y", "z", "a"], A, bill=bill)
    assert first.asked == [["x", "y"]]
    assert bill.usage.input_tokens == 2, "what was used is known all the same"


async def test_every_attempt_is_reported():
    made = embedder(a=Scripted(1, [ProviderServerError("x")]), b=Scripted(2, []))
    await embed(made, "x", A, B)
    first, second = made.board.of("a"), made.board.of("b")
    assert (first.attempts, first.failures, first.last_error) == (1, 1, "provider_server")
    assert (second.attempts, second.failures, second.in_flight) == (1, 0, 0)


def test_batches_keep_the_order_and_both_limits():
    texts = ["a" * 200_000, "b" * 100_000, "c", "d"]
    assert list(batches(texts, 2)) == [[texts[0]], [texts[1], "c"], ["d"]]
    assert list(batches(["x" * 10**6], 2)) == [["x" * 10**6]]


# Who is asked.


def catalogue(**providers: object) -> EmbeddingCatalogue:
    return EmbeddingCatalogue(
        {name: ProviderSettings.model_validate(one) for name, one in providers.items()}
    )


BOTH = {
    "openai": {"kind": "openai", "models": ["gpt-5"]},
    "gateway": {"kind": "openai", "base_url": "https://x.test/v1",
                "models": ["gpt-5", "text-embedding-3-small"]},
    "claude": {"kind": "anthropic"},
    "local": {"kind": "ollama", "models": ["qwen3", "bge-m3:latest"]},
    "mock": {"kind": "mock", "models": ["standard", "fast"]},
}  # fmt: skip


def chosen(made: EmbeddingCatalogue, **fields: object) -> list[str]:
    request = EmbedRequest.model_validate({"input": "x", **fields})
    return [one.full_name for one in made.candidates(request)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (None, ["openai/text-embedding-3-small", "gateway/text-embedding-3-small"]),
        ("text-embedding-3-small",
         ["openai/text-embedding-3-small", "gateway/text-embedding-3-small"]),
        ("text-embedding-3-large", ["openai/text-embedding-3-large"]),
        ("gateway/text-embedding-3-small", ["gateway/text-embedding-3-small"]),
        ("gateway/anything", ["gateway/anything"]),
        ("bge-m3:latest", ["local/bge-m3:latest"]),
        ("mock/embedding", ["mock/embedding"]),
        ("embedding", ["mock/embedding"]),
    ],
)  # fmt: skip
def test_a_model_is_asked_of_those_who_offer_it(model, expected):
    assert chosen(catalogue(**BOTH), model=model) == expected


def test_without_any_other_provider_the_mock_answers():
    assert chosen(catalogue(mock=BOTH["mock"])) == ["mock/embedding"]


def test_beside_a_provider_without_embedding_models_the_mock_does_not_answer_unasked():
    with pytest.raises(ConfigurationError, match="add one to a provider's models"):
        chosen(catalogue(claude=BOTH["claude"], mock=BOTH["mock"]))


def test_an_unknown_model_is_refused_with_the_nearest_one():
    with pytest.raises(NotFoundError, match="did you mean 'text-embedding-3-small'"):
        chosen(catalogue(**BOTH), model="text-embeding-3-small")


def test_a_provider_without_embeddings_says_which_kinds_have_them():
    with pytest.raises(InvalidRequestError, match="openai, ollama, mock"):
        chosen(catalogue(**BOTH), model="claude/claude-sonnet-4-5")


@pytest.mark.parametrize(
    ("model", "dimensions", "message"),
    [
        ("text-embedding-3-small", 4_000, "up to 1536"),
        ("bge-m3:latest", 10, "1024 only"),
    ],
)
def test_dimensions_that_a_model_does_not_give_are_refused(model, dimensions, message):
    with pytest.raises(InvalidRequestError, match=message):
        chosen(catalogue(**BOTH), model=model, dimensions=dimensions)


def test_fewer_dimensions_may_be_asked_of_a_model_that_can_shorten():
    assert chosen(catalogue(**BOTH), model="text-embedding-3-large", dimensions=256)


async def test_a_provider_that_stays_full_is_told_with_when_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(embedding, "_QUEUE_S", 0.01)
    full = embedder(max_attempts=1, a=Scripted(1, []))
    full.board.of("a").configure(AccountConfig("", LimitSettings(max_concurrency=1)))
    full.board.of("a").admit(SMALL, Tokens(1, 0))
    with pytest.raises(ProviderBusyError, match="1 attempts run, as many as may") as told:
        await embed(full, "x", A)
    assert told.value.retry_after_ms
