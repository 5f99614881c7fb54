"""What is said of answers reaches the router that made them, and what it chooses next."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import (
    AtlasError,
    InvalidRequestError,
    InvalidTransitionError,
    NotFoundError,
)
from atlas.contracts.events import Event
from atlas.contracts.inference import ModelResponse
from atlas.contracts.streams import FeedbackTaken, StreamFeedback
from atlas.embedded import free_port
from atlas.settings import Settings
from tests.support.answering import routing as fake_routing
from tests.support.provider_server import Reply, serving
from tests.support.router import TENANT, Stack, chat, provider, stack
from tests.support.subtasks import SCHEMA, failure_of, send, subtask
from tests.support.workers import worker as built_in_worker

DOOR = "stream.feedback"
PROSE, RIGHT = "prose/some-model", "right/some-model"
JSON = {
    "type": "json_schema",
    "json_schema": SCHEMA,
    "strict": False,
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Stack]:
    """A group of two that differ in nothing but their answers: prose, and the JSON asked for."""
    prose, right = Reply(chat(["Here ", "it is"])), Reply(chat(['{"n"', ": 1}"]))
    async with serving(prose) as first, serving(right) as second:
        servers = {"prose": first, "right": second}
        providers = {
            name: provider("openai", server.url, api="chat") for name, server in servers.items()
        }
        members = [f"{name}/some-model" for name in providers]
        providers["gone"] = provider("openai", f"http://127.0.0.1:{free_port()}/v1", api="chat")
        groups = {"both": {"strategy": "adaptive", "members": members}}
        async with stack(tmp_path, providers, groups=groups) as one:
            yield one


async def ask(atlas: Atlas, model: str = "both", **fields: Any) -> ModelResponse:
    async with asyncio.timeout(20), atlas.stream("Count", model=model, **fields) as stream:
        return await stream.result()


async def say(bus: Bus, stream_id: str, tenant: str = TENANT, **more: object) -> FeedbackTaken:
    feedback = StreamFeedback.model_validate({"stream_id": stream_id, "fault": "malformed", **more})
    return await bus.request(subjects.api(tenant, DOOR), feedback, FeedbackTaken, timeout_s=5)


async def firsts(running: Stack, times: int, tenant: str = TENANT, **fields: Any) -> Counter[str]:
    """Who answers, by provider."""
    settings = Settings(tenant=tenant)
    async with Atlas.connect(running.nats.url, settings=settings) as atlas:
        return Counter([(await ask(atlas, **fields)).provider for _ in range(times)])


@pytest.mark.timeout(90)
async def test_a_model_whose_answers_break_their_schema_is_chosen_less_often(running: Stack):
    for name in (PROSE, RIGHT):  # both are known well, so that chance plays no part
        for _ in range(25):
            await ask(running.atlas, model=name)
    assert (await firsts(running, 25, response_format=JSON))["prose"] >= 3
    for _ in range(10):
        await ask(running.atlas, model=RIGHT, response_format=JSON)
        answer = await ask(running.atlas, model=PROSE, response_format=JSON)
        taken = await say(running.bus, answer.stream_id, reason="it is no JSON")
        assert taken.model == PROSE
    assert (await firsts(running, 20, response_format=JSON))["prose"] <= 4
    # For prose, and for others, it is as good as ever.
    assert (await firsts(running, 25))["prose"] >= 3
    assert (await firsts(running, 25, tenant="acme", response_format=JSON))["prose"] >= 3
    explanation = await running.atlas.explain("Count", model="both", response_format=JSON)
    reasons = {one.model: one.reason for one in explanation.candidates}
    assert "% of use" in reasons[PROSE]
    assert "of use" not in reasons[RIGHT]


async def test_everybody_hears_what_was_said(running: Stack):
    told = await running.bus.open(subjects.events_of(TENANT, "provider_router", DOOR))
    await running.bus.flush()
    async with asyncio.timeout(20), running.atlas.stream("Count", model="both") as stream:
        answer = await stream.result()
        with pytest.raises(InvalidRequestError, match="fault"):
            await stream.blame("ugly")
        taken = await stream.blame("wrong", "there are three")
    assert taken.model == answer.model
    event = Event.model_validate_json((await told.next_msg(timeout=5)).data)
    assert event.data["stream_id"] == answer.stream_id
    assert (event.data["fault"], event.data["reason"]) == ("wrong", "there are three")


async def test_nonsense_is_refused(running: Stack):
    answer = await ask(running.atlas)
    with pytest.raises(NotFoundError, match="no stream 'nobody'"):
        await say(running.bus, "nobody")
    with pytest.raises(NotFoundError):
        await say(running.bus, answer.stream_id, tenant="acme")
    raw = json.dumps({"stream_id": answer.stream_id, "fault": "ugly"}).encode()
    reply = await running.bus.ask(subjects.api(TENANT, DOOR), raw, {}, 5)
    assert b"malformed" in reply.data
    assert InvalidRequestError.code.encode() in reply.data


async def test_a_stream_that_failed_counts_by_itself(running: Stack):
    async with running.atlas.stream("Count", model="gone/some-model") as stream:
        with pytest.raises(AtlasError):
            await stream.result()
    with pytest.raises(InvalidTransitionError, match="say it of a completed one"):
        await say(running.bus, stream.stream_id)


@pytest.mark.parametrize(
    ("said", "more", "told"),
    [
        ("no JSON", {"output_schema": SCHEMA}, ("malformed", "output_mismatch")),
        ('{"n": "x"}', {"output_schema": SCHEMA}, ("malformed", "output_mismatch")),
        (" ", {}, ("empty", "empty_answer")),
    ],
)
async def test_a_worker_says_what_an_answer_was_worth(bus, nats_server, said, more, told):
    heard = await bus.open(subjects.api(TENANT, DOOR))
    await bus.flush()
    async with fake_routing(bus, lambda _: said), built_in_worker(nats_server.url):
        work = subtask(**more)
        await send(bus, work)
        code = (await failure_of(bus, work)).error.code
        feedback = StreamFeedback.model_validate_json((await heard.next_msg(timeout=5)).data)
    assert feedback.stream_id == work.stream_id
    assert (feedback.fault, code) == told
