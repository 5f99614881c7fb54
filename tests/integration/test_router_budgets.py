"""Budgets as whoever asks sees them: streams that end in time, refusals that say until when."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from atlas import subjects, topology
from atlas.budget_settings import BudgetSettings
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.catalogue import ProvidersReply, ProvidersRequest
from atlas.contracts.errors import BudgetExceededError
from atlas.contracts.ids import new_id
from atlas.contracts.inference import Budget, EmbedRequest, EmbedResponse, FinishReason
from atlas.contracts.streams import STREAM_EVENT, StreamCompleted, StreamEvent, StreamFailed
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings, TopologySettings
from atlas.wire import outgoing_headers, read_event, read_reply, task_headers
from provider_router.accounting.budgets import Amounts, amounts, tenant_limits
from provider_router.accounting.counters import Counters
from provider_router.accounting.reservations import Reservations
from provider_router.accounting.usage import UsageCounters
from tests.support.provider_server import Reply, serving
from tests.support.router import TENANT, TERMINAL, Stack, chat, chat_cuts, provider, stack
from tests.support.waiting import eventually

BODY = {"messages": [{"role": "user", "content": "Hello"}], "model": "acme/some-model"}
CHUNK_TOKENS = 25
TEXTS = ["x" * 4 * CHUNK_TOKENS] * 400
LONG = Reply(chat(TEXTS), cuts=chat_cuts(TEXTS), pause_s=0.02)
"""Ten thousand tokens, a chunk at a time."""


@asynccontextmanager
async def limited(directory, reply: Reply, **day: float) -> AsyncIterator[Stack]:
    budgets = {"tenants": {TENANT: {"day": day}}} if day else {}
    async with serving(reply) as server:
        providers = {"acme": provider("openai", server.url, api="chat")}
        async with stack(directory, providers, budgets=budgets) as running:
            yield running


async def _counter(bus: Bus) -> int:
    budgets = BudgetSettings.model_validate({"tenants": {TENANT: {"day": {"max_tokens": 1}}}})
    (limit,) = tenant_limits(budgets, TENANT, now_ms())
    return (await Counters(bus).values(limit.subject)).get(limit.subject, 0)


async def _all_settled(bus: Bus) -> None:
    """Until no stream holds anything, which a stream's end does not wait for."""
    while [one async for one in Reservations(bus).all()]:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


async def test_a_stream_ends_where_its_tenants_budget_is_spent_and_the_next_is_refused(tmp_path):
    async with limited(tmp_path, LONG, max_tokens=2_000) as running, asyncio.timeout(30):
        told = await running.bus.open(subjects.events_of(TENANT, type_="budget.exceeded"))
        await running.bus.flush()
        async with running.atlas.stream("Hello") as stream:
            response = await stream.result()
        assert response.finish_reason is FinishReason.BUDGET
        assert stream.reading.is_whole()
        used = amounts(response.usage, response.cost).tokens
        assert 2_000 <= used <= 2_000 + 10 * CHUNK_TOKENS  # some may be read at once
        msg = await told.next_msg(timeout=5)
        data = read_event(msg.subject, msg.data).data
        assert (data["scope"], data["unit"], data["limit"]) == ("day", "tokens", 2_000)
        assert data["stream_id"] == stream.stream_id
        with pytest.raises(BudgetExceededError, match="has 0 left") as refused:
            async with running.atlas.stream("Hello") as second:
                await second.result()
        assert 0 < (refused.value.retry_after_ms or 0) <= 86_400_000
        assert [end.type for end in await running.ends(second.stream_id)] == ["stream.failed"]
        msg = await told.next_msg(timeout=5)
        assert read_event(msg.subject, msg.data).data["stream_id"] == second.stream_id
        assert await _counter(running.bus) == used


async def test_a_retry_is_not_sent_when_a_shared_budget_does_not_reach_for_its_input(tmp_path):
    cut = Reply(chat(TEXTS[:2]), break_at=chat_cuts(TEXTS[:1])[0])
    async with limited(tmp_path, cut, max_tokens=1_200) as running, asyncio.timeout(30):
        async with running.atlas.stream("Hello " * 400) as stream:
            response = await stream.result()
        assert response.finish_reason is FinishReason.BUDGET
        assert amounts(response.usage, response.cost).tokens == 600 + CHUNK_TOKENS
        assert response.metrics.attempts == 1
        await _all_settled(running.bus)
        assert await _counter(running.bus) == 600 + CHUNK_TOKENS


async def test_all_streams_of_a_task_end_where_its_budget_is_spent(tmp_path):
    headers = {"Atlas-Task": "t1", "Atlas-Task-Budget": json.dumps({"max_tokens": 3_000})}
    async with limited(tmp_path, LONG) as running, asyncio.timeout(30):
        ids = [new_id() for _ in range(3)]
        for stream_id in ids:
            await running.bus.store(
                subjects.stream_request(TENANT, stream_id),
                json.dumps(BODY).encode(),
                headers=headers,
            )
        ends = [await _end(running.bus, stream_id) for stream_id in ids]
        used = 0
        for end in ends:
            assert isinstance(end, StreamCompleted)
            assert end.finish_reason is FinishReason.BUDGET
            used += amounts(end.usage, end.cost).tokens
        assert 3_000 <= used <= 3_000 + 3 * 10 * CHUNK_TOKENS


async def test_a_task_budget_nobody_can_read_is_a_request_nobody_can_read(tmp_path):
    headers = {"Atlas-Task": "t1", "Atlas-Task-Budget": '{"max_tokens": 0}'}
    async with limited(tmp_path, LONG) as running, asyncio.timeout(30):
        subject = subjects.stream_request(TENANT, "s1")
        await running.bus.store(subject, json.dumps(BODY).encode(), headers=headers)
        end = await _end(running.bus, "s1")
        assert isinstance(end, StreamFailed)
        assert "Atlas-Task-Budget" in end.error.message
        assert await running.bus.last(subjects.DEAD, subjects.dead(TENANT, "request", "s1"))


async def test_what_streams_used_is_counted_though_nothing_limits_them(tmp_path):
    async with limited(tmp_path, Reply(chat(["fine"]))) as running, asyncio.timeout(30):
        for _ in range(2):
            async with running.atlas.stream("Hello") as stream:
                await stream.result()
        used = UsageCounters(Counters(running.bus))
        spent = await eventually(lambda: used.spent(TENANT))
        # The provider reports 3 tokens in, 5 out, each time.
        assert [(one.requests, one.input_tokens, one.output_tokens) for one in spent] == [
            (2, 6, 10)
        ]
        await _all_settled(running.bus)


async def _end(bus: Bus, stream_id: str) -> StreamEvent:
    subject = subjects.stream_write(TENANT, stream_id)
    while True:
        stored = await bus.last(subjects.STREAMS, subject)
        if stored is not None:
            event = STREAM_EVENT.validate_json(stored.data)
            if event.type in TERMINAL:
                return event
        await asyncio.sleep(0.05)


@dataclass
class Ends:
    """The terminal events of many streams, as they come."""

    wanted: int
    by_stream: dict[str, StreamEvent] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    """How attempts ended that used something."""
    some: asyncio.Event = field(default_factory=asyncio.Event)
    all: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, msg) -> None:
        if not any(one.encode() in msg.data for one in TERMINAL):
            return
        event = STREAM_EVENT.validate_json(msg.data)
        if event.type in TERMINAL:
            self.by_stream[event.stream_id] = event
        if len(self.by_stream) >= self.wanted / 5:
            self.some.set()
        if len(self.by_stream) == self.wanted:
            self.all.set()

    async def hear_of_attempts(self, msg) -> None:
        attempts: Any = read_event(msg.subject, msg.data).data.get("attempts", [])
        for one in attempts:
            self.outcomes[one["outcome"]] += one["usage"]["input_tokens"] > 0

    @property
    def used(self) -> Amounts:
        """All of it."""
        total = Amounts()
        for one in self.by_stream.values():
            if isinstance(one, StreamCompleted | StreamFailed):
                total += amounts(one.usage, one.cost)
        return total


def mock(first_token_ms: int, **fault: int) -> JsonObject:
    """A mock provider that answers in half a second or so."""
    how = {"token_ms": 4, "first_token_ms": first_token_ms, "fault": fault}
    return {"kind": "mock", "models": ["standard"], "mock": how}


STEADY: JsonObject = {"steady": mock(120)}
MIXED: JsonObject = {
    "cutting": mock(20, break_after_chunks=30),
    "late": mock(600),
    **STEADY,
}
"""One fails in the middle of each answer, and one is so late that it is raced."""


@pytest.mark.parametrize("providers", [STEADY, MIXED])
@pytest.mark.timeout(240)
async def test_four_routers_one_of_them_killed_share_a_budget_and_settle_it_to_what_was_used(
    tmp_path, providers: JsonObject
):
    limit, requests = 120_000, 1_000
    nats = NatsProcess(tmp_path)
    await nats.start()
    budgets = {"tenants": {TENANT: {"day": {"max_tokens": limit}}}}
    environment = {
        "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
        "ATLAS_HEALTH_INTERVAL_MS": "200",
        "ATLAS_ROUTER__MAX_STREAMS": "16",
        "ATLAS_BUDGETS": json.dumps(budgets),
        "ATLAS_PROVIDERS": json.dumps(providers),
        "ATLAS_GROUPS": json.dumps(
            {
                "mixed": {
                    "strategy": "round_robin",
                    "members": [f"{name}/standard" for name in providers],
                    "hedge_after_ms": 300,
                }
            }
        ),
        "ATLAS_ROUTER__CIRCUIT__COOL_DOWN_MS": "50",
        "ATLAS_ROUTER__CIRCUIT__LONGEST_COOL_DOWN_MS": "100",
    }
    services = Services(nats.url, subprocess.DEVNULL, environment)
    bus = await Bus.connect(NatsSettings(url=nats.url), "test")
    try:
        await topology.ensure(bus, TopologySettings(ack_wait_ms=1_000))
        await services.start(["provider_router"] * 4)
        ends = Ends(requests)
        await bus.subscribe(subjects.stream_chunk(TENANT, "*"), ends.hear)
        await bus.subscribe(subjects.events_of(TENANT, type_="stream.*"), ends.hear_of_attempts)
        question = [{"role": "user", "content": "What is a lake? " * 60}]
        body = json.dumps({"model": "mixed", "messages": question}).encode()
        for _ in range(requests):
            await bus.store(subjects.stream_request(TENANT, new_id()), body)
        await ends.some.wait()
        await services.kill(services.running[0].pid)
        await ends.all.wait()
        await _all_settled(bus)
        refused = [one for one in ends.by_stream.values() if isinstance(one, StreamFailed)]
        assert {one.error.code for one in refused} == {"budget_exceeded"}
        assert await _counter(bus) == ends.used.tokens
        assert (ends.outcomes["failed"] > 0) == (providers is MIXED)
        assert (ends.outcomes["lost"] > 0) == (providers is MIXED)
        # What the killed one held was kept from the others until it was given back.
        assert limit * 0.75 < ends.used.tokens <= limit * 1.03
        spent = await UsageCounters(Counters(bus)).spent(TENANT)
        counted = sum(one.input_tokens + one.output_tokens for one in spent)
        # The killed router took what it had not sent yet with it.
        assert ends.used.tokens * 0.5 < counted <= ends.used.tokens
    finally:
        await services.stop()
        await bus.close()
        await nats.stop()


async def test_who_asks_for_providers_is_told_its_budgets_and_what_it_used_today(tmp_path):
    reply = Reply(chat(["fine"]))
    async with limited(tmp_path, reply, max_tokens=2_000, max_usd=3.0) as running:
        async with asyncio.timeout(30):
            async with running.atlas.stream("Hello") as stream:
                await stream.result()
            while not (told := await running.atlas.providers()).usage:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.1)
        (used,) = told.usage
        assert (used.model, used.requests, used.output_tokens) == ("acme/some-model", 1, 5)
        assert not used.cost.complete
        assert told.budgets is not None
        tokens, money = told.budgets
        assert (tokens.scope, tokens.unit) == ("day", "tokens")
        assert (tokens.spent, tokens.left, tokens.limit) == (8, 1_992, 2_000)
        assert (money.unit, money.spent, money.limit) == ("usd", 0, 3.0)
        assert (tokens.resets_at_ms or 0) > now_ms()
        other = await running.bus.request(
            subjects.api("globex", "providers"), ProvidersRequest(), ProvidersReply
        )
        assert (other.budgets, other.usage) == ([], [])


async def test_embeddings_are_limited_by_budgets_and_counted(tmp_path):
    headers = task_headers("t1", Budget(max_tokens=50))
    async with limited(tmp_path, LONG, max_tokens=1_000) as running, asyncio.timeout(30):
        running.router.configuration.take(
            Settings.model_validate(
                {
                    "providers": {"mock": {"kind": "mock", "models": ["standard"]}},
                    "budgets": {"tenants": {TENANT: {"day": {"max_tokens": 1_000}}}},
                }
            )
        )

        async def embed(text: str, more: dict[str, str] | None = None) -> EmbedResponse:
            request = EmbedRequest(input=text, model="mock/embedding")
            head = outgoing_headers() | (more or {})
            door = subjects.api(TENANT, "embed")
            reply = await running.bus.ask(door, request.to_json(), head)
            return read_reply(reply.data, EmbedResponse)

        told = await running.bus.open(subjects.events_of(TENANT, type_="budget.exceeded"))
        await running.bus.flush()

        async def told_next() -> JsonObject:
            msg = await told.next_msg(timeout=5)
            return read_event(msg.subject, msg.data).data

        used = (await embed("word " * 400)).usage.input_tokens
        assert await _counter(running.bus) == used
        with pytest.raises(BudgetExceededError, match="too little for this request"):
            await embed("word " * 1_000)
        data = await told_next()
        assert (data["model"], data["scope"], data["limit"]) == ("mock/embedding", "day", 1_000)
        assert "usage" not in data
        assert await _counter(running.bus) == used
        with pytest.raises(BudgetExceededError, match="task t1, 50 tokens"):
            await embed("word " * 100, headers)
        data = await told_next()
        assert (data["scope"], data["key"], data["unit"]) == ("task", "t1", "tokens")
        used += (await embed("word " * 10, headers)).usage.input_tokens
        assert await _counter(running.bus) == used
        await _all_settled(running.bus)
        while not (spent := (await running.atlas.providers()).usage):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.1)
        assert [(one.model, one.requests) for one in spent] == [("mock/embedding", 2)]
        assert spent[0].input_tokens == used
