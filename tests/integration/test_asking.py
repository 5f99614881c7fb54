"""Questions over one connection, and that what is published goes out together, in its order."""

import asyncio

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import RequestTimeoutError
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings


async def test_each_of_many_questions_gets_its_own_answer(bus: Bus):
    async def echo(msg: Msg) -> None:
        await msg.respond(msg.data)

    await bus.subscribe("echo", echo)
    names = [b"%d" % number for number in range(200)]
    answers = await asyncio.gather(*(bus.ask("echo", name, {}) for name in names))
    assert [answer.data for answer in answers] == names


async def test_the_first_answer_counts_and_a_later_one_disturbs_nobody(bus: Bus):
    async def answer_twice(msg: Msg) -> None:
        await msg.respond(b"first of " + msg.data)
        await msg.respond(b"second of " + msg.data)

    await bus.subscribe("twice", answer_twice)
    for name in (b"a", b"b"):
        assert (await bus.ask("twice", name, {})).data == b"first of " + name


async def test_a_question_that_nobody_answers_ends_in_time_and_leaves_nothing(bus: Bus):
    heard = await bus.open("silence")
    await bus.flush()
    with pytest.raises(RequestTimeoutError, match=r"silence: no answer within 0\.05 s"):
        await bus.ask("silence", b"", {}, 0.05)
    late = await heard.next_msg(timeout=5)
    await late.respond(b"too late")
    await bus.flush()
    assert bus._questions._waiting == {}


async def test_a_question_asked_after_a_reconnect_is_answered(bus: Bus, nats_server: NatsProcess):
    await bus.store(subjects.stream_write("default", "s1"), b"before")
    await nats_server.kill()
    await nats_server.start()
    await bus.wait_connected(20)
    async with asyncio.timeout(20):
        await bus.store(subjects.stream_write("default", "s1"), b"after")
    assert await bus.count(subjects.STREAMS, subjects.stream_write("default", "s1")) == 2


async def test_a_flush_is_behind_all_that_was_published_before_it(
    bus: Bus, nats_server: NatsProcess
):
    other = await Bus.connect(NatsSettings(url=nats_server.url), "other")
    for turn in range(100):
        heard = await other.open(f"news.{turn}")
        await other.flush()
        for number in range(3):
            await bus.publish(f"news.{turn}", b"%d" % number)
        await bus.flush()
        await other.flush()  # so what the server had is here
        assert heard.pending_msgs == 3
        await heard.unsubscribe()
    await other.close()


async def test_a_header_that_would_add_another_is_sent_as_one(bus: Bus):
    heard = await bus.open("news")
    await bus.publish("news", b"", headers={"tracestate": "a=b\r\nNats-Rollup: all"})
    headers = (await heard.next_msg(timeout=5)).headers or {}
    assert list(headers) == ["tracestate"]
