"""Embeddings: batches, attempts and fallback, to one answer by one model of one provider."""

import asyncio
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from atlas import telemetry
from atlas.contracts.errors import (
    InvalidRequestError,
    PayloadTooLargeError,
    ProviderError,
    ProviderStreamError,
)
from atlas.contracts.inference import EmbedRequest, EmbedResponse, Usage, UsageSource
from atlas.telemetry import names
from provider_router.accounting.bill import Bill
from provider_router.providers.base import Adapter, EmbedCall, Embedded
from provider_router.routing.board import Board
from provider_router.routing.choosing import Candidate
from provider_router.routing.estimates import estimated_tokens
from provider_router.routing.known_embeddings import KnownEmbedding, known_embedding
from provider_router.routing.rate import Tokens
from provider_router.routing.retry import next_attempt
from provider_router.streaming import observing

_BATCH_CHARACTERS = 250_000
"""Of all texts in a request: OpenAI takes 300,000 tokens, a character is seldom more than one."""
_QUEUE_S = 10.0
"""The longest wait for a place at a provider that is asked as often as it may."""
_DECIMALS = 9
"""A 32-bit float's precision and more, for values as small as those of a unit vector."""
_NUMBER_BYTES = _DECIMALS + 5
"""Of a number in JSON: sign, `0.`, the decimals, a comma, and one to spare."""
_REST_BYTES = 2_048
"""Of an answer besides its vectors."""


@dataclass(slots=True)
class _Work:
    """What is done so far, by the candidate that works on it now."""

    texts: list[str]
    bill: Bill
    """Of all attempts, also of those whose vectors were dropped."""
    vectors: list[list[float]] = field(default_factory=list)

    def take(self, candidate: Candidate, embedded: Embedded) -> None:
        """Keep the vectors of a batch."""
        if self.vectors and len(self.vectors[0]) != len(embedded.vectors[0]):
            raise ProviderStreamError(
                f"{candidate.provider}: {candidate.model} changed the length of its vectors in "
                "the middle of an answer",
                provider=candidate.provider,
            )
        self.vectors += [[round(value, _DECIMALS) for value in one] for one in embedded.vectors]


@dataclass(frozen=True, slots=True)
class Embedder:
    """Makes embeddings with the adapters of a router."""

    adapters: Mapping[str, Adapter]
    max_attempts: int
    board: Board
    jitter: random.Random = field(default_factory=random.Random)

    async def embed(
        self, request: EmbedRequest, candidates: list[Candidate], bill: Bill, *, room_bytes: int
    ) -> EmbedResponse:
        """One vector per text, all by the same model and provider.

        An attempt that fails follows the router's usual rule. The same provider goes on with the
        batch that failed; another one begins anew, so that no answer is of two providers.

        Args:
            request: The texts.
            candidates: Providers of one model, the best first.
            bill: Takes what each request uses, and stops when no budget reaches for the next.
            room_bytes: What the answer may take; more is refused before it is paid for, where the
                length of the vectors is known.

        Raises:
            PayloadTooLargeError: The answer would not fit; `details.max_inputs` says how many do.
            BudgetExceededError: A budget ended before the answer was whole.
            ProviderError: The last attempt failed in this way.
        """
        _check_one_model(candidates)
        candidates = sorted(candidates, key=self._is_away)  # the configuration's order otherwise
        texts = texts_of(request)
        known = known_embedding(candidates[0].model) or KnownEmbedding(candidates[0].model)
        _check_room(len(texts), request.dimensions or known.dimensions, room_bytes)
        work, candidate, tries = _Work(texts, bill), candidates[0], 0
        refused: list[Candidate] = []
        while True:
            tries += 1
            try:
                await self._attempt(request, work, candidate, known, room_bytes)
            except ProviderError as error:
                follows = next_attempt(
                    error.to_info(),
                    candidates,
                    candidate,
                    attempt=tries,
                    max_attempts=self.max_attempts,
                    jitter=self.jitter,
                    refused=refused,
                )
                if follows is None:
                    raise
                await asyncio.sleep(follows.wait_ms / 1000)
                if follows.candidate != candidate:
                    work.vectors.clear()
                if not error.retryable:
                    refused.append(candidate)
                candidate = follows.candidate
            else:
                return EmbedResponse(
                    model=candidate.model,
                    provider=candidate.provider,
                    embeddings=work.vectors,
                    usage=bill.usage,
                    cost=bill.cost,
                )

    def _is_away(self, candidate: Candidate) -> bool:
        return self.board.of(candidate.provider).why_not(Tokens(1, 0)) is not None

    async def _attempt(
        self,
        request: EmbedRequest,
        work: _Work,
        candidate: Candidate,
        known: KnownEmbedding,
        room_bytes: int,
    ) -> None:
        with observing.embeddings(candidate) as span:
            headers: dict[str, str] = {}
            telemetry.inject(headers)
            for batch in batches(work.texts[len(work.vectors) :], known.batch_texts):
                call = EmbedCall(candidate.model, batch, request.dimensions, headers)
                await self._batch(call, work, candidate)
                _check_room(len(work.texts), len(work.vectors[0]), room_bytes)
            span.set_attribute(names.INPUT_TOKENS, work.bill.usage.input_tokens)

    async def _batch(self, call: EmbedCall, work: _Work, candidate: Candidate) -> None:
        """One call, reported like any attempt: to circuit, limits and figures."""
        estimate = estimated(call.texts)
        await work.bill.check(estimate, candidate.pricing.cost(estimate))
        account = self.board.of(candidate.provider)
        expected = Tokens(estimate.input_tokens, 0)
        ticket = await account.enter(candidate.model, expected, patience_s=_QUEUE_S)
        used = Usage()
        try:
            embedded = await self.adapters[candidate.provider].embed(call)
            ticket.told(embedded.headers)
            used = embedded.usage or estimate
            work.take(candidate, embedded)
            ticket.succeeded(used, candidate.pricing.cost(used))
        except ProviderError as error:
            if error.was_sent:
                used = estimate  # sent is paid, as far as anybody can tell
            ticket.told(error.headers)
            ticket.failed(error.to_info())
            raise
        except BaseException:
            used = estimate  # as above
            ticket.released()
            raise
        finally:
            ticket.ended(used)
            if used.input_tokens:
                observing.measure_embedded(candidate, used.input_tokens)
                work.bill.add(candidate.full_name, used, candidate.pricing.cost(used))


def texts_of(request: EmbedRequest) -> list[str]:
    """The texts that a request brings."""
    return [request.input] if isinstance(request.input, str) else request.input


def estimated(texts: list[str]) -> Usage:
    """What texts will probably use."""
    tokens = sum(estimated_tokens(len(text)) for text in texts)
    return Usage(input_tokens=tokens, source=UsageSource.ESTIMATED)


def batches(texts: list[str], most_texts: int) -> Iterator[list[str]]:
    """The texts in their order, in requests that a provider takes; each holds at least one."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == most_texts or characters + len(text) > _BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


def _check_one_model(candidates: list[Candidate]) -> None:
    names = {candidate.model for candidate in candidates}
    if len(names) != 1:
        raise InvalidRequestError(
            f"vectors of different models cannot be compared, so no fallback between "
            f"{', '.join(sorted(names))}; name one"
        )


def _check_room(texts: int, dimensions: int | None, room_bytes: int) -> None:
    if dimensions is None:
        return
    most = max(1, (room_bytes - _REST_BYTES) // (dimensions * _NUMBER_BYTES))
    if texts > most:
        raise PayloadTooLargeError(
            f"input: {texts} vectors of {dimensions} numbers do not fit into a NATS message; send "
            f"at most {most} texts at once, as Atlas's client does, or raise max_payload",
            details={"max_inputs": most},
        )
