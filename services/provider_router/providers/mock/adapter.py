"""The adapter that stands in for a provider: its own pace, its own faults, no network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

from atlas.contracts.errors import ProviderConnectionError
from atlas.contracts.inference import ModelRequest, Usage
from atlas.provider_settings import FaultSettings, MockSettings, ProviderSettings
from provider_router.providers.base import (
    Accepted,
    Delta,
    EmbedCall,
    Embedded,
    Finished,
    ModelCall,
    UsageReport,
)
from provider_router.providers.classification import Told
from provider_router.providers.errors import Origin, told_error
from provider_router.providers.mock.answer import Answer, answer_to, tokens_in
from provider_router.providers.mock.vectors import DIMENSIONS, vector_of
from provider_router.providers.patience import Patience
from provider_router.providers.prefill import PREFILL_IS_OFF

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

FAST_MODEL = "fast"
"""The model without delays; every other one keeps the pace of the settings."""

EMBEDDING_MODEL = "embedding"
"""The model that makes vectors."""

_NO_FAULT = FaultSettings()


class MockAdapter:
    """One mock provider. Faults come from its settings only, never from a request."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._origin = Origin(name, f"mock://{name}")
        self._settings = settings
        self._calls = 0

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""
        return self._origin.provider

    @asynccontextmanager
    async def stream(self, call: ModelCall) -> AsyncIterator[Accepted]:
        """See `base.Adapter.stream`."""
        mock = self._settings.mock
        fault = self._next_fault()
        self._refuse(fault)
        known = [model.name for model in self._settings.models]
        if known and call.model not in (*known, FAST_MODEL):
            raise told_error(self._origin, Told(f"no model {call.model!r}", status=404))
        answer = answer_to(
            call.request,
            mock,
            origin=self._origin,
            is_continued=call.is_continued,
        )
        pace = _Pace(mock, is_fast=call.model == FAST_MODEL)
        async with aclosing(self._batches(answer, fault, pace)) as batches:
            yield Accepted(batches)

    def why_no_prefill(self, model: str, request: ModelRequest) -> str | None:  # noqa: ARG002 - as in Adapter
        """Every mock model goes on from its own words."""
        return PREFILL_IS_OFF if self._settings.prefill is False else None

    async def embed(self, call: EmbedCall) -> Embedded:
        """See `base.Adapter.embed`."""
        mock = self._settings.mock
        self._refuse(self._next_fault())
        if call.model not in (*(one.name for one in self._settings.models), EMBEDDING_MODEL):
            raise told_error(self._origin, Told(f"no model {call.model!r}", status=404))
        await Patience(self._settings, self._origin).wait(asyncio.sleep(mock.first_token_ms / 1000))
        size = call.dimensions or DIMENSIONS
        return Embedded(
            [vector_of(text, seed=mock.seed, dimensions=size) for text in call.texts],
            Usage(input_tokens=sum(tokens_in(text) for text in call.texts)),
        )

    async def probe(self) -> bool:
        """It is in this process, so it answers: faults are for calls."""
        return True

    async def warm(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is open."""

    def _refuse(self, fault: FaultSettings) -> None:
        if fault.status is not None:
            wait = fault.retry_after_ms
            headers = {} if wait is None else {"retry-after-ms": str(wait)}
            told = Told("a fault that the settings ask for", status=fault.status, headers=headers)
            raise told_error(self._origin, told)

    def _next_fault(self) -> FaultSettings:
        fault = self._settings.mock.fault
        self._calls += 1
        return fault if fault.times is None or self._calls <= fault.times else _NO_FAULT

    async def _batches(
        self, answer: Answer, fault: FaultSettings, pace: "_Pace"
    ) -> "AsyncGenerator[list[Delta]]":
        patience = Patience(self._settings, self._origin)
        for number, chunk in enumerate(answer.chunks):
            await self._fail_after(number, fault, patience)
            await patience.wait(pace.wait())
            patience.content_came()
            yield [chunk]
        await self._fail_after(len(answer.chunks), fault, patience)
        yield [UsageReport(answer.usage), Finished(answer.finish_reason)]

    async def _fail_after(self, chunks: int, fault: FaultSettings, patience: Patience) -> None:
        """Fail where the settings say so.

        Raises:
            ProviderError: What a real provider's failure of that kind is mapped to.
        """
        if chunks == fault.stall_after_chunks:
            await patience.wait(asyncio.Event().wait())
        if chunks == fault.break_after_chunks:
            raise ProviderConnectionError(
                f"{self.name} cut the connection in the middle of the answer, as the settings ask",
                provider=self.name,
            )
        if chunks == fault.overload_after_chunks:
            raise told_error(
                self._origin,
                Told("as the settings ask", type="overloaded_error", is_in_stream=True),
            )


class _Pace:
    """Waits as a provider makes one wait: long for the first token, then in an uneven rhythm."""

    def __init__(self, mock: MockSettings, *, is_fast: bool) -> None:
        self._rng = Random(mock.seed)  # noqa: S311 - a rhythm, not a secret
        self._next_ms = 0.0 if is_fast else mock.first_token_ms * self._rng.uniform(0.7, 1.3)
        self._mean_ms = 0 if is_fast else mock.token_ms

    async def wait(self) -> None:
        """Until the next chunk is there; without delays, let others run."""
        delay_ms, self._next_ms = self._next_ms, 0.0
        if self._mean_ms:
            # Gamma of shape 4: mostly near the mean, now and then a long one.
            self._next_ms = self._rng.gammavariate(4.0, self._mean_ms / 4)
        await asyncio.sleep(delay_ms / 1000)
