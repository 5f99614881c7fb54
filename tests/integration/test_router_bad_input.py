"""What cannot be served is told: at the doors by an answer, in the queue by an end and a letter."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.subscription import Subscription

from atlas import subjects, topology
from atlas.contracts.errors import (
    AtlasError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
)
from atlas.contracts.events import DeadLetter, Event
from atlas.contracts.ids import derived_id, new_id
from atlas.contracts.inference import ModelResponse
from atlas.contracts.streams import HistoryReply, HistoryRequest, StreamCompleted, StreamFailed
from atlas.provider_settings import ProviderSettings
from atlas.settings import TopologySettings
from atlas.wire import read_reply
from tests.support.router import TENANT, Stack, stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES: list[object] = [{"role": "user", "content": "Hello"}]
ASKED = {"messages": MESSAGES}
GOOD = {**ASKED, "model": "mock/fast"}
BAD: dict[str, tuple[bytes, str, type[AtlasError]]] = {
    "no JSON": (b"{hello", "Invalid JSON", InvalidRequestError),
    "no object": (b"[1]", "body: Input should be an object", InvalidRequestError),
    "no UTF-8": (b'{"model":"\xff"}', "", InvalidRequestError),
    "unknown field": (
        json.dumps({**GOOD, "temprature": 1}).encode(),
        "temprature: unknown field; did you mean 'temperature'",
        InvalidRequestError,
    ),
    "empty messages": (b'{"messages":[]}', "messages: ", InvalidRequestError),
    "no messages": (b"", "messages: Field required", InvalidRequestError),
    "unknown model": (
        json.dumps({**GOOD, "model": "mock-standart"}).encode(),
        "unknown model 'mock-standart'; did you mean 'mock/standard'",
        NotFoundError,
    ),
    "model that does not meet the requirements": (
        json.dumps({**GOOD, "requirements": {"capabilities": {"premium": "exceptional"}}}).encode(),
        "requirements: mock/fast lacks premium exceptional",
        InvalidRequestError,
    ),
    "misspelt capability": (
        json.dumps({**ASKED, "requirements": {"capabilities": {"cod": "strong"}}}).encode(),
        "requirements.capabilities.cod: there is no 'cod'; did you mean 'code'?",
        InvalidRequestError,
    ),
    "misspelt level": (
        json.dumps({**ASKED, "requirements": {"capabilities": {"code": "storng"}}}).encode(),
        "requirements.capabilities.code: there is no 'storng'; did you mean 'strong'?",
        InvalidRequestError,
    ),
    "misspelt task type": (
        json.dumps({**ASKED, "requirements": {"task_type": "translatoin"}}).encode(),
        "requirements.task_type: there is no 'translatoin'; did you mean 'translation'?",
        InvalidRequestError,
    ),
    "requirements nobody meets": (
        json.dumps({**ASKED, "requirements": {"capabilities": {"code": "exceptional"}}}).encode(),
        "no configured model meets them; the nearest, mock/standard, lacks code exceptional",
        InvalidRequestError,
    ),
    "misspelt group": (
        json.dumps({**ASKED, "model": "stedy"}).encode(),
        "unknown model 'stedy'; did you mean 'steady'?",
        NotFoundError,
    ),
    "budget of zero": (
        json.dumps({**ASKED, "budget": {"max_usd": 0}}).encode(),
        "budget.max_usd: Input should be greater than 0",
        InvalidRequestError,
    ),
    "budget that is no number": (
        json.dumps({**ASKED, "budget": {"max_usd": float("nan")}}).encode(),
        "budget.max_usd: Input should be a finite number",
        InvalidRequestError,
    ),
    "budget without end": (
        json.dumps({**ASKED, "budget": {"max_usd": float("inf")}}).encode(),
        "budget.max_usd: Input should be a finite number",
        InvalidRequestError,
    ),
    "wrong part": (
        b'{"messages":[{"role":"user","content":[{"type":"smell"}]}]}',
        "messages[0]",
        InvalidRequestError,
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    providers = {"mock": ProviderSettings(kind="mock", models=["standard", "fast"])}
    groups = {"steady": {"members": ["mock/fast", "mock/standard"]}}
    async with stack(tmp_path_factory.mktemp("router"), providers, groups=groups) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def rejections(rig: Stack) -> AsyncIterator[Subscription]:
    """What services tell of requests that they did not take."""
    heard = await rig.bus.open(subjects.events_of("*", "provider_router", "request.rejected"))
    await rig.bus.flush()
    yield heard
    await heard.unsubscribe()


async def ask(rig: Stack, data: bytes, headers: dict[str, str] | None = None) -> ModelResponse:
    """Ask the request/reply door with bytes, as any other language would."""
    subject = subjects.api(TENANT, "generate")
    reply = await rig.bus.nats.request(subject, data, timeout=5, headers=headers)
    return read_reply(reply.data, ModelResponse)


async def put(rig: Stack, stream_id: str, data: bytes, **options) -> None:
    """Put bytes through the durable door."""
    await rig.bus.store(subjects.stream_request(TENANT, stream_id), data, **options)


async def rejected(heard: Subscription) -> Event:
    return Event.model_validate_json((await heard.next_msg(timeout=5)).data)


async def letter(rig: Stack, id_: str) -> DeadLetter:
    stored = await rig.bus.last(subjects.DEAD, subjects.dead(TENANT, "request", id_))
    assert stored is not None
    return DeadLetter.model_validate_json(stored.data)


async def until_empty(rig: Stack) -> None:
    """Wait until the queue holds nothing: every request was acked."""
    async with asyncio.timeout(30):
        while (await rig.bus.jetstream.stream_info(subjects.REQUESTS)).state.messages:  # noqa: ASYNC110 - JetStream tells nobody
            await asyncio.sleep(0.02)


def body(**fields: object) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


@pytest.mark.parametrize("what", BAD)
async def test_the_door_answers_a_bad_request_with_what_is_wrong(rig: Stack, what: str):
    data, message, error = BAD[what]
    with pytest.raises(error) as refusal:
        await ask(rig, data)
    assert message in refusal.value.message


async def test_the_door_takes_no_stream_id_that_is_no_id(rig: Stack):
    with pytest.raises(InvalidRequestError, match="stream_id"):
        await ask(rig, body(stream_id="a.b"))


async def test_a_newer_sender_may_say_what_this_door_does_not_know(rig: Stack):
    answer = await ask(rig, body(from_the_future=1), {"Atlas-Version": "2"})
    assert answer.finish_reason.value == "stop"


async def test_a_request_above_what_nats_carries_is_refused_by_the_client(rig: Stack):
    with pytest.raises(PayloadTooLargeError):
        await rig.atlas.generate("x" * (rig.bus.max_payload_bytes + 1), model="mock/fast")


async def test_history_of_an_unknown_stream_is_not_found(rig: Stack):
    with pytest.raises(NotFoundError, match="no stream 'nobody'"):
        await rig.bus.request(
            subjects.api(TENANT, "stream.history"),
            HistoryRequest(stream_id="nobody"),
            HistoryReply,
        )


async def test_the_same_id_with_another_body_is_a_conflict_at_the_door(rig: Stack):
    stream_id = new_id()
    first = await ask(rig, body(stream_id=stream_id))
    before = await rig.stored(stream_id)
    with pytest.raises(ConflictError, match=stream_id):
        await ask(rig, body(stream_id=stream_id, temperature=1))
    assert await rig.stored(stream_id) == before
    assert await ask(rig, body(stream_id=stream_id)) == first


@pytest.mark.parametrize("what", BAD)
async def test_the_queue_ends_a_bad_requests_stream_with_a_letter_an_event_and_one_failure(
    rig: Stack, rejections: Subscription, what: str
):
    data, message, error = BAD[what]
    stream_id = new_id()
    await put(rig, stream_id, data)
    event = await rejected(rejections)
    assert event.data["stream_id"] == stream_id
    async with asyncio.timeout(30), rig.atlas.watch_stream(stream_id) as stream:
        with pytest.raises(error) as failure:
            await stream.result()
    assert message in failure.value.message
    await until_empty(rig)
    (end,) = await rig.stored(stream_id)
    assert isinstance(end, StreamFailed)
    assert event.data["error"] == end.error.model_dump(mode="json", exclude_none=True)
    buried = await letter(rig, stream_id)
    assert (buried.error, base64.b64decode(buried.payload_base64)) == (end.error, data)


async def test_a_name_that_is_no_id_gets_a_letter_and_an_event_and_leaves_the_queue(
    rig: Stack, rejections: Subscription
):
    subject = subjects.stream_request(TENANT, "x" * 65)
    await rig.bus.store(subject, body())
    event = await rejected(rejections)
    assert event.data["subject"] == subject
    await until_empty(rig)
    buried = await letter(rig, derived_id(subject))
    assert (buried.subject, buried.error.code) == (subject, "invalid_request")


async def test_the_same_request_twice_in_the_queue_is_one_stream(rig: Stack):
    stream_id = new_id()
    async with asyncio.timeout(30), rig.atlas.watch_stream(stream_id) as stream:
        for lane in subjects.LANES:
            await rig.bus.store(subjects.stream_request(TENANT, stream_id, lane), body())
        await stream.result()
    await put(rig, stream_id, body())
    await until_empty(rig)
    kinds = [event.type for event in await rig.stored(stream_id)]
    assert (kinds.count("stream.started"), kinds.count("stream.completed")) == (1, 1)
    assert "stream.adopted" not in kinds


@pytest.mark.parametrize("model", ["mock/fast", "mock/standard"])
async def test_another_request_under_the_same_id_is_refused_and_the_first_goes_on(
    rig: Stack, rejections: Subscription, model: str
):
    stream_id = new_id()
    other = body(model=model, temperature=0.5)
    async with asyncio.timeout(10):
        await put(rig, stream_id, body(model=model))
        async with rig.atlas.watch_stream(stream_id) as stream:
            await anext(aiter(stream))  # the fast one is over by now, the other runs
            await put(rig, stream_id, other)
            event = await rejected(rejections)
            await stream.result()
    error = event.data["error"]
    assert isinstance(error, dict)
    assert (event.data["stream_id"], error["code"]) == (stream_id, "conflict")
    await until_empty(rig)
    (end,) = await rig.ends(stream_id)
    assert isinstance(end, StreamCompleted)
    buried = await letter(rig, stream_id)
    assert (buried.error.code, base64.b64decode(buried.payload_base64)) == ("conflict", other)


async def test_a_newer_sender_may_put_what_this_router_does_not_know_into_the_queue(rig: Stack):
    stream_id = new_id()
    await put(rig, stream_id, body(from_the_future=1), headers={"Atlas-Version": "2"})
    async with asyncio.timeout(30), rig.atlas.watch_stream(stream_id) as stream:
        assert (await stream.result()).finish_reason.value == "stop"


async def test_a_letter_that_cannot_be_kept_leaves_the_request_in_the_queue_until_it_can(
    rig: Stack,
):
    stream_id = new_id()
    await rig.bus.jetstream.delete_stream(subjects.DEAD)
    await put(rig, stream_id, b"{hello")
    consumer = subjects.lane_consumer("interactive")

    async def is_given_again() -> bool:
        info = await rig.bus.jetstream.consumer_info(subjects.REQUESTS, consumer)
        return bool(info.num_redelivered)

    await eventually(is_given_again)
    async with asyncio.timeout(10):
        await topology.ensure(rig.bus, TopologySettings(ack_wait_ms=1_000))
        async with rig.atlas.watch_stream(stream_id) as stream:
            with pytest.raises(InvalidRequestError, match="Invalid JSON"):
                await stream.result()
    await until_empty(rig)
    assert base64.b64decode((await letter(rig, stream_id)).payload_base64) == b"{hello"
    assert len(await rig.stored(stream_id)) == 1
