"""Groups, races, circuits and limits of a real router with real HTTP providers behind it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.subscription import Subscription

from atlas import subjects
from atlas.contracts.catalogue import ProviderInfo
from atlas.contracts.errors import (
    InvalidRequestError,
    ProviderCircuitOpenError,
    ProviderKeyRefusedError,
)
from atlas.contracts.events import Event
from atlas.contracts.inference import UsageSource
from atlas.contracts.streams import StreamStarted
from atlas.provider_settings import ProviderSettings
from tests.support.provider_server import ProviderServer, Reply, refusal, serving
from tests.support.router import TENANT, Stack, chat, chat_chunk, provider, routing, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROKEN = refusal(500, {"error": {"message": "broken"}})
WORDS = ["all ", "is ", "well"]
COOL_DOWN_MS = 600
BREAKER = {"cool_down_ms": COOL_DOWN_MS, "successes_to_close": 1}
GROUPS = {
    "either": {"members": ["first/some-model", "second/some-model"]},
    "hedged": {
        "members": ["first/some-model", "second/some-model"],
        "hedge_after_ms": 100,
    },
}


@dataclass(frozen=True)
class Rig:
    """A router with two providers."""

    stack: Stack
    first: ProviderServer
    second: ProviderServer
    providers: dict[str, ProviderSettings]

    async def info(self, name: str) -> ProviderInfo:
        reply = await self.stack.atlas.providers()
        return next(one for one in reply.providers if one.provider == name)

    async def ask(self, model: str = "either", **fields: Any) -> str:
        async with asyncio.timeout(20):
            async with self.stack.atlas.stream("Hello", model=model, **fields) as stream:
                return (await stream.result()).content

    async def events(self, type_: str) -> Subscription:
        told = await self.stack.bus.open(subjects.events_of(TENANT, "provider_router", type_))
        await self.stack.bus.flush()
        return told


async def next_event(told: Subscription) -> Event:
    return Event.model_validate_json((await told.next_msg(timeout=10)).data)


@pytest_asyncio.fixture(loop_scope="module")
async def rig(tmp_path):
    async with serving(Reply(chat(WORDS))) as first, serving(Reply(chat(WORDS))) as second:
        providers = {
            "first": provider("openai", first.url, api="chat"),
            "second": provider("openai", second.url, api="chat"),
        }
        fields = {"groups": GROUPS, "router": {"circuit": BREAKER}}
        async with stack(tmp_path, providers, **fields) as running:
            yield Rig(running, first, second, providers)


async def open_circuit(rig: Rig) -> None:
    """Let the first provider fail until nobody asks it any more."""
    rig.first.reply = BROKEN
    while (await rig.info("first")).circuit != "open":
        assert await rig.ask() == "all is well"


async def test_a_provider_that_fails_is_soon_not_asked_any_more_and_its_circuit_is_told(rig: Rig):
    told = await rig.events("provider.circuit")
    await open_circuit(rig)
    event = await next_event(told)
    assert event.data["provider"] == "first"
    assert (event.data["was"], event.data["circuit"]) == ("closed", "open")
    assert event.data["error"] == "provider_server"
    asked = len(rig.first.requests)
    assert await rig.ask() == "all is well"
    assert len(rig.first.requests) == asked
    assert (await rig.info("first")).health == "unhealthy"


async def test_an_open_circuit_is_probed_after_its_cool_down_and_closes_on_success(rig: Rig):
    told = await rig.events("provider.circuit")
    await open_circuit(rig)
    rig.first.reply = Reply(chat(["back"]))
    async with asyncio.timeout(20):
        while await rig.ask() != "back":
            pass
    states = [(await next_event(told)).data["circuit"] for _ in range(3)]
    assert states == ["open", "half_open", "closed"]
    assert (await rig.info("first")).circuit == "closed"


async def test_a_failed_probe_doubles_the_cool_down(rig: Rig):
    told = await rig.events("provider.circuit")
    await open_circuit(rig)
    first = await next_event(told)
    async with asyncio.timeout(20):
        while (event := await asyncio.wait_for(_told_now(rig, told), 20)).data["circuit"] != "open":
            pass
    was_until_ms, until_ms = first.data["open_until_ms"], event.data["open_until_ms"]
    assert isinstance(was_until_ms, int)
    assert isinstance(until_ms, int)
    assert until_ms > was_until_ms
    assert until_ms - event.at_ms > COOL_DOWN_MS


async def _told_now(rig: Rig, told: Subscription) -> Event:
    while True:
        assert await rig.ask() == "all is well"
        try:
            return Event.model_validate_json((await told.next_msg(timeout=0.05)).data)
        except TimeoutError:
            continue


async def test_a_named_model_behind_an_open_circuit_is_refused_with_the_time_to_come_back(rig: Rig):
    await open_circuit(rig)
    with pytest.raises(ProviderCircuitOpenError, match="circuit open after provider_server"):
        await rig.stack.atlas.generate(
            "Hello", model="first/some-model", fallback={"on_failure": "fail"}
        )


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_a_bad_request_never_opens_a_circuit(rig: Rig, status: int):
    rig.first.reply = refusal(status, {"error": {"message": "no", "type": "invalid_request_error"}})
    for _ in range(12):
        await rig.ask()
    assert (await rig.info("first")).circuit == "closed"


async def test_a_wrong_key_opens_the_circuit_at_once_and_for_good(rig: Rig):
    rig.first.reply = refusal(401, {"error": {"message": "no", "code": "invalid_api_key"}})
    assert await rig.ask() == "all is well"
    info = await rig.info("first")
    assert (info.circuit, info.open_until_ms) == ("open", None)


async def test_behind_a_refused_key_nothing_is_retried_and_the_error_says_what_to_correct(rig: Rig):
    rig.first.reply = refusal(401, {"error": {"message": "no", "code": "invalid_api_key"}})
    await rig.ask()
    with pytest.raises(ProviderKeyRefusedError, match=r"first: .*providers\.first") as caught:
        await rig.stack.atlas.generate("Hello", model="first/some-model")
    assert not caught.value.to_info().retryable
    assert len(rig.first.requests) == 1


async def test_a_refused_key_takes_no_retry_from_the_provider_beside_it(rig: Rig):
    rig.first.reply = refusal(401, {"error": {"message": "no", "code": "invalid_api_key"}})
    await rig.ask()
    rig.second.reply = BROKEN
    rig.second.asked.clear()
    asking = asyncio.create_task(rig.ask())
    await asyncio.wait_for(rig.second.asked.wait(), 20)
    rig.second.reply = Reply(chat(WORDS))
    assert await asking == "all is well"
    assert len(rig.first.requests) == 1


async def test_a_rate_limit_holds_the_provider_off_for_its_retry_after_and_opens_nothing(rig: Rig):
    limit = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
    rig.first.reply = refusal(429, limit, {"retry-after": "30"})
    for _ in range(5):
        assert await rig.ask() == "all is well"
    assert len(rig.first.requests) == 1
    assert (await rig.info("first")).circuit == "closed"


async def test_a_used_up_limit_that_a_response_tells_is_obeyed_before_the_next_refusal(rig: Rig):
    headers = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    rig.first.reply = Reply(chat(["first"]), headers=headers)
    rig.second.reply = Reply(chat(["second"]))
    assert [await rig.ask(), await rig.ask()] == ["first", "second"]


async def test_a_late_first_token_is_raced_and_the_loser_is_closed_and_counted(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=30)
    async with (
        asyncio.timeout(20),
        rig.stack.atlas.stream("Hello " * 400, model="hedged") as stream,
    ):
        response = await stream.result()
    assert (response.content, response.provider) == ("all is well", "second")
    assert await asyncio.wait_for(rig.first.disconnected.wait(), 10)
    started = [
        event
        for event in await rig.stack.stored(stream.stream_id)
        if isinstance(event, StreamStarted)
    ]
    assert [one.attempt for one in started] == [1, 2]
    assert response.metrics.attempts == 2
    assert response.usage.source is UsageSource.ESTIMATED
    assert response.usage.input_tokens > 600  # the loser's, beside the three of the winner


async def test_a_race_that_the_first_wins_shows_nothing_of_the_second(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=0.3)
    rig.second.reply = Reply(chat(WORDS), headers_after_s=30)
    async with asyncio.timeout(20), rig.stack.atlas.stream("Hello", model="hedged") as stream:
        response = await stream.result()
    assert response.provider == "first"
    assert len(rig.second.requests) == 1
    kinds = [event.type for event in await rig.stack.stored(stream.stream_id)]
    assert kinds.count("stream.started") == 1
    assert "attempt.failed" not in kinds


async def test_a_request_may_ask_for_a_race_itself(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=30)
    assert await rig.ask(fallback={"hedge_after_ms": 50}) == "all is well"


async def test_an_account_whose_connections_are_all_in_use_is_passed_over_and_not_blamed(tmp_path):
    held = Reply(chat_chunk("held "), then_silent=True)
    async with serving(held) as first, serving(Reply(chat(WORDS))) as second:
        providers = {
            "first": provider("openai", first.url, api="chat", max_connections=1),
            "second": provider("openai", second.url, api="chat"),
        }
        async with stack(tmp_path, providers, groups=GROUPS) as running:
            rig = Rig(running, first, second, providers)
            async with running.atlas.stream("x", model="first/some-model") as holding:
                await anext(aiter(holding))
                assert await rig.ask() == "all is well"
                info = await rig.info("first")
                assert (info.attempts, info.failures, info.health) == (1, 0, "healthy")
                assert len(first.requests) == 1
                await holding.cancel()


async def test_an_explanation_says_who_would_be_asked_and_why_the_others_not(rig: Rig):
    await open_circuit(rig)
    explanation = await rig.stack.atlas.explain("Write a poem about the sea.", model="either")
    assert explanation.task_type == "creative_writing"
    assert explanation.strategy == "failover"
    assert [one.model for one in explanation.candidates] == [
        "second/some-model",
        "first/some-model",
    ]
    assert "circuit open" in explanation.candidates[1].reason


async def test_requirements_that_nobody_meets_say_what_the_nearest_lacks(rig: Rig):
    with pytest.raises(InvalidRequestError, match=r"nearest, .*, lacks code exceptional"):
        await rig.stack.atlas.explain("x", requirements={"capabilities": {"code": "exceptional"}})


async def test_an_image_is_not_sent_to_a_model_that_cannot_see(rig: Rig):
    image = {"type": "image", "url": "https://example.com/a.png"}
    messages = [{"role": "user", "content": [image]}]
    with pytest.raises(InvalidRequestError, match=r"no member of group 'either'.*vision basic"):
        await rig.stack.atlas.generate(messages, model="either")


async def test_a_circuit_opened_by_one_router_is_obeyed_by_the_others_and_after_a_restart(rig: Rig):
    fields = {"groups": GROUPS, "router": {"circuit": {"cool_down_ms": 60_000}}}
    nats, atlas = rig.stack.nats, rig.stack.atlas
    async with routing(nats, rig.providers, **fields):
        await open_circuit(rig)
        async with asyncio.timeout(1):  # of both routers, by whoever answers
            states: set[str] = set()
            while len(states) < 2:
                reply = await atlas.providers()
                circuit = next(one.circuit for one in reply.providers if one.provider == "first")
                if circuit == "open":
                    states.add(reply.router)
    async with routing(nats, rig.providers, **fields):
        seen: dict[str, str] = {}
        async with asyncio.timeout(10):
            while len(seen) < 2:
                reply = await atlas.providers()
                seen[reply.router] = next(
                    one.circuit for one in reply.providers if one.provider == "first"
                )
    assert "closed" not in seen.values()
