"""The client's streams against real NATS and a router that is told what to say."""

import asyncio
import json
from typing import Any

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.client import following as following_module
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    InvalidRequestError,
    InvalidTransitionError,
    NoResponderError,
    NotFoundError,
    ProviderRateLimitError,
    RequestTimeoutError,
    StreamGapError,
    WorkCancelledError,
)
from atlas.contracts.inference import Cost, FinishReason, ModelResponse, StreamMetrics, Usage
from atlas.contracts.streams import (
    AttemptFailed,
    HistoryReply,
    StreamAdopted,
    StreamCancelled,
    StreamFailed,
    StreamState,
    StreamStatus,
    TextDelta,
)
from tests.integration.client_fakes import FakeRouter, answer, completed, delta, started
from tests.support.waiting import eventually


def _failed_attempt(stream_id: str, seq: int, epoch: int = 1) -> AttemptFailed:
    return AttemptFailed(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=0,
        attempt=1,
        provider="mock",
        error=ProviderRateLimitError("slow down").to_info(),
        next="restart",
    )


async def _texts(atlas: Atlas, stream_id: str, **options) -> list[tuple[str, bool]]:
    async with asyncio.timeout(10), atlas.watch_stream(stream_id, **options) as stream:
        return [(str(piece), piece.restart) async for piece in stream]


async def test_a_request_is_stored_while_no_service_runs_and_its_id_is_in_the_subject(
    atlas: Atlas, bus: Bus
):
    async with atlas.stream("hi", model="mock/standard", stream_id="s1", lane="batch"):
        pass
    stored = await bus.last(subjects.REQUESTS, subjects.stream_request("default", "s1", "batch"))
    assert stored is not None
    assert json.loads(stored.data) == {
        "messages": [{"role": "user", "content": "hi"}],
        "model": "mock/standard",
    }


async def test_the_same_request_under_the_same_id_is_stored_once(atlas: Atlas, bus: Bus):
    for _ in range(2):
        async with atlas.stream("hi", stream_id="s1"):
            pass
    assert (await bus.jetstream.stream_info(subjects.REQUESTS)).state.messages == 1


async def test_a_misspelt_field_is_refused_before_anything_is_sent_with_the_nearest_name(
    atlas: Atlas,
):
    with pytest.raises(InvalidRequestError, match="did you mean 'temperature'"):
        atlas.stream("hi", temprature=1)


async def test_text_comes_while_it_is_written_and_the_result_follows(
    atlas: Atlas, router: FakeRouter
):
    async with asyncio.timeout(10), atlas.stream("hi", stream_id="s1") as stream:
        pieces = aiter(stream)
        first, second, *rest = answer("s1", "Hello ", "world")
        await router.write(first, second)
        assert await anext(pieces) == "Hello "
        assert stream.state is StreamState.ACTIVE
        await router.write(*rest)
        assert [piece async for piece in pieces] == ["world"]
        response = await stream.result()
    assert (response.content, response.model, response.usage.output_tokens) == (
        "Hello world",
        "mock/standard",
        5,
    )
    assert stream.metrics is not None
    assert stream.metrics.chunks == 2


async def test_a_late_watcher_joins_history_in_pages_with_what_is_live(
    atlas: Atlas, router: FakeRouter
):
    router.page = 2
    events = answer("s1", *"abcdefg")
    await router.write(*events[:5])
    async with asyncio.timeout(10), atlas.watch_stream("s1") as stream:
        assert len(events) == 9
        await router.write(*events[5:])
        assert [event.seq async for event in stream.events()] == list(range(1, 10))
        assert (await stream.result()).content == "abcdefg"


async def test_watching_from_a_place_gives_what_follows_and_still_knows_the_whole_text(
    atlas: Atlas, router: FakeRouter
):
    await router.write(*answer("s1", "a", "b", "c"))
    async with atlas.watch_stream("s1", from_seq=3) as stream:
        assert [event.seq async for event in stream.events()] == [3, 4, 5]
        assert (await stream.result()).content == "abc"


async def test_text_from_a_place_on_is_only_what_follows(atlas: Atlas, router: FakeRouter):
    await router.write(*answer("s1", "a", "b", "c"))
    assert await _texts(atlas, "s1", from_seq=3) == [("b", False), ("c", False)]


async def test_a_watcher_that_returns_is_told_of_an_adoption_that_voids_what_it_has_read(
    atlas: Atlas, router: FakeRouter
):
    await router.write(started("s1", 1), delta("s1", 2, "a"), delta("s1", 3, "b"))
    adopted = StreamAdopted(
        stream_id="s1",
        seq=3,
        epoch=9,
        at_ms=0,
        from_seq=2,
        from_epoch=1,
        attempt=2,
        next="continue",
    )
    await router.write(adopted, delta("s1", 4, "c", 9), completed("s1", 5, "ac", 9))
    async with atlas.watch_stream("s1", from_seq=4) as stream:
        seen = [(event.type, event.seq) async for event in stream.events()]
        assert (await stream.result()).content == "ac"
    assert seen == [("stream.adopted", 3), ("text.delta", 4), ("stream.completed", 5)]


async def test_a_message_that_was_lost_live_is_read_from_history(atlas: Atlas, router: FakeRouter):
    events = answer("s1", "a", "b", "c", "d")
    async with asyncio.timeout(10), atlas.watch_stream("s1") as stream:
        await router.write(*events[:2])
        pieces = aiter(stream)
        assert await anext(pieces) == "a"
        await router.write(events[2], live=False)
        await router.write(*events[3:])
        assert [piece async for piece in pieces] == ["b", "c", "d"]


async def test_an_end_that_was_lost_live_is_asked_for_after_a_few_quiet_seconds(
    atlas: Atlas, router: FakeRouter
):
    events = answer("s1", "a")
    async with asyncio.timeout(10), atlas.watch_stream("s1") as stream:
        await router.write(*events[:2])
        pieces = aiter(stream)
        assert await anext(pieces) == "a"
        await router.write(events[2], live=False)
        assert (await stream.result()).content == "a"


async def test_what_comes_live_does_not_wait_for_a_busy_router_that_is_asked_for_history(
    atlas: Atlas, router: FakeRouter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(following_module, "_QUIET_S", 0.05)
    events = answer("s1", "a", "b")
    async with asyncio.timeout(10), atlas.watch_stream("s1") as stream:
        await router.write(*events[:2])
        pieces = aiter(stream)
        assert await anext(pieces) == "a"
        router.is_busy = True
        coming = asyncio.create_task(anext(pieces))
        asked = len(router.asked)
        await eventually(lambda: len(router.asked) > asked)  # it was quiet for long enough
        await router.write(*events[2:])
        assert await coming == "b"
        assert (await stream.result()).content == "ab"


async def test_an_adoption_that_was_lost_live_is_found_before_the_gap(
    atlas: Atlas, router: FakeRouter
):
    async with asyncio.timeout(10), atlas.watch_stream("s1") as stream:
        await router.write(started("s1", 1), delta("s1", 2, "a"), delta("s1", 3, "b"))
        pieces = aiter(stream)
        assert [await anext(pieces), await anext(pieces)] == ["a", "b"]
        adopted = StreamAdopted(
            stream_id="s1",
            seq=2,
            epoch=9,
            at_ms=0,
            from_seq=1,
            from_epoch=1,
            attempt=2,
            next="restart",
        )
        await router.write(adopted, live=False)
        await router.write(delta("s1", 3, "a", 9), completed("s1", 4, "a", 9))
        assert [(str(one), one.restart) async for one in pieces] == [("a", True)]


async def test_a_gap_that_history_has_too_is_an_error_and_never_joined_over(
    atlas: Atlas, router: FakeRouter, monkeypatch
):
    monkeypatch.setattr(following_module, "_GAP_WAIT_S", 0.001)
    events = answer("s1", "a", "b", "c")
    await router.write(*events[:2])
    await router.write(events[2], live=False, kept=False)
    await router.write(*events[3:])
    with pytest.raises(StreamGapError, match="what comes at 3 is missing"):
        await _texts(atlas, "s1")


@pytest.mark.usefixtures("router")
async def test_an_unknown_stream_is_not_found(atlas: Atlas):
    with pytest.raises(NotFoundError):
        await _texts(atlas, "nobody")


async def test_no_router_is_an_error_after_the_silence_that_was_allowed(atlas: Atlas):
    async with atlas.stream("hi", stream_id="s1") as stream:
        with pytest.raises(RequestTimeoutError, match="atlas up"):
            await stream.result()


async def test_a_slow_reader_heals_from_history(atlas: Atlas, router: FakeRouter, monkeypatch):
    texts = [f"{number} " for number in range(200)]
    opened = following_module.Follower.open
    followers: list[Any] = []

    async def open_small(self):
        followers.append(self)
        await opened(self, bound_bytes=1_000)

    monkeypatch.setattr(following_module.Follower, "open", open_small)
    await router.write(started("s1", 1))
    async with asyncio.timeout(20), atlas.watch_stream("s1") as stream:
        pieces = aiter(stream)
        await router.write(*answer("s1", *texts)[1:])
        await eventually(lambda: followers[0]._live.is_missing)  # there was no room for more
        assert "".join([piece async for piece in pieces]) == "".join(texts)


async def test_many_who_come_late_on_one_connection_ask_history_in_turns(atlas: Atlas, bus: Bus):
    asked: list[Msg] = []
    page = HistoryReply(events=answer("s1", "a", "b"), state=StreamState.COMPLETED).to_json()

    async def note(msg: Msg) -> None:
        asked.append(msg)

    await bus.subscribe(subjects.API_STREAM_HISTORY_ALL, note)
    await bus.flush()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watching = [group.create_task(atlas.stream_result("s1")) for _ in range(50)]
        await eventually(lambda: len(asked) >= 16)
        for connection in (atlas._bus, bus):  # any more would have come by now
            await connection.flush()
        assert len(asked) == 16
        for number in range(50):
            await eventually(lambda: len(asked) > number)  # noqa: B023 - awaited at once
            await asked[number].respond(page)
    assert {one.result().content for one in watching} == {"ab"}


async def test_an_attempt_that_says_the_same_again_just_goes_on(atlas: Atlas, router: FakeRouter):
    await router.write(
        started("s1", 1),
        delta("s1", 2, "The sky "),
        _failed_attempt("s1", 3),
        started("s1", 4, attempt=2),
        delta("s1", 5, "The "),
        delta("s1", 6, "sky is"),
        delta("s1", 7, " blue"),
        completed("s1", 8, "The sky is blue"),
    )
    assert await _texts(atlas, "s1") == [("The sky ", False), ("is", False), (" blue", False)]


async def test_an_attempt_that_says_something_else_comes_as_one_piece_that_voids_the_others(
    atlas: Atlas, router: FakeRouter
):
    await router.write(
        started("s1", 1),
        delta("s1", 2, "The sky "),
        _failed_attempt("s1", 3),
        delta("s1", 4, "The sea"),
        delta("s1", 5, " is deep"),
        completed("s1", 6, "The sea is deep"),
    )
    assert await _texts(atlas, "s1") == [
        ("The sky ", False),
        ("The sea", True),
        (" is deep", False),
    ]


async def test_an_attempt_that_says_less_voids_what_was_given_at_its_end(
    atlas: Atlas, router: FakeRouter
):
    await router.write(
        started("s1", 1),
        delta("s1", 2, "The sky "),
        _failed_attempt("s1", 3),
        delta("s1", 4, "The"),
        completed("s1", 5, "The"),
    )
    assert await _texts(atlas, "s1") == [("The sky ", False), ("The", True)]


async def test_what_was_dropped_is_seen_in_the_pieces_and_the_events_and_never_in_the_result(
    atlas: Atlas, router: FakeRouter
):
    await router.write(
        started("s1", 1),
        delta("s1", 2, "dropped"),
        _failed_attempt("s1", 3),
        delta("s1", 4, "kept"),
        completed("s1", 5, "kept"),
    )
    assert (await atlas.stream_result("s1")).content == "kept"
    assert await _texts(atlas, "s1") == [("dropped", False), ("kept", True)]
    async with atlas.watch_stream("s1") as stream:
        texts = [one.text async for one in stream.events() if isinstance(one, TextDelta)]
    assert texts == ["dropped", "kept"]


async def test_who_begins_in_the_middle_after_a_restart_gets_nothing_twice(
    atlas: Atlas, router: FakeRouter
):
    await router.write(
        started("s1", 1),
        delta("s1", 2, "dropped"),
        _failed_attempt("s1", 3),
        delta("s1", 4, "kept "),
        delta("s1", 5, "too"),
        completed("s1", 6, "kept too"),
    )
    assert await _texts(atlas, "s1", from_seq=5) == [("too", False)]
    assert await _texts(atlas, "s1", from_seq=0) == [
        ("dropped", False),
        ("kept ", True),
        ("too", False),
    ]


async def test_a_place_below_the_beginning_is_refused(atlas: Atlas):
    with pytest.raises(InvalidRequestError, match="-1 is below 0"):
        atlas.watch_stream("s1", from_seq=-1)


async def test_a_failed_stream_raises_the_class_that_its_error_names(
    atlas: Atlas, router: FakeRouter
):
    error = BudgetExceededError("0.01 USD are spent").to_info()
    end = StreamFailed(
        stream_id="s1", seq=2, epoch=1, at_ms=0, error=error, usage=Usage(), cost=Cost()
    )
    await router.write(started("s1", 1), end)
    with pytest.raises(BudgetExceededError, match=r"0\.01 USD"):
        await _texts(atlas, "s1")


async def test_a_cancelled_stream_says_who_and_why(atlas: Atlas, router: FakeRouter):
    end = StreamCancelled(
        stream_id="s1",
        seq=2,
        epoch=1,
        at_ms=0,
        by="me",
        reason="enough",
        usage=Usage(),
        cost=Cost(),
    )
    await router.write(started("s1", 1), end)
    with pytest.raises(WorkCancelledError, match="by me: enough"):
        await _texts(atlas, "s1")


async def test_a_text_that_is_not_what_the_end_says_is_an_error(atlas: Atlas, router: FakeRouter):
    await router.write(started("s1", 1), delta("s1", 2, "abc"), completed("s1", 3, "abd"))
    with pytest.raises(StreamGapError, match="its text is not"):
        await _texts(atlas, "s1")


async def test_two_readers_of_one_stream_object_at_once_are_refused(
    atlas: Atlas, router: FakeRouter
):
    await router.write(started("s1", 1))
    async with atlas.watch_stream("s1") as stream, asyncio.TaskGroup() as group:
        first = group.create_task(stream.result())
        await eventually(lambda: stream.reading.seq == 1)
        with pytest.raises(AtlasError, match="being read already"):
            await stream.result()
        await router.write(completed("s1", 2, ""))
        assert (await first).content == ""


async def _answer_controls(bus: Bus, reply: bytes) -> list[bytes]:
    asked: list[bytes] = []

    async def respond(msg: Msg) -> None:
        asked.append(msg.data)
        await msg.respond(reply)

    await bus.subscribe(subjects.STREAM_CONTROL_ALL, respond)
    await bus.flush()
    return asked


async def test_leaving_a_stream_cancels_it_when_asked_to(
    atlas: Atlas, router: FakeRouter, bus: Bus
):
    status = StreamStatus(stream_id="s1", state=StreamState.CANCELLED)
    asked = await _answer_controls(bus, status.to_json())
    async with atlas.stream("hi", stream_id="s1", cancel_on_exit=True):
        await router.write(started("s1", 1))
    assert json.loads(asked[0]) == {"action": "cancel", "reason": "the caller left"}


async def test_a_control_that_the_state_does_not_allow_raises_whichever_way_it_is_told(
    atlas: Atlas, bus: Bus
):
    error = InvalidTransitionError("it is completed").to_info()
    status = StreamStatus(stream_id="s1", state=StreamState.COMPLETED, error=error)
    await _answer_controls(bus, status.to_json())
    with pytest.raises(InvalidTransitionError, match="it is completed"):
        await atlas.control_stream("s1", "pause")


async def test_the_state_of_a_failed_stream_is_an_answer_and_no_error(atlas: Atlas, bus: Bus):
    error = ProviderRateLimitError("slow down").to_info()
    status = StreamStatus(stream_id="s1", state=StreamState.ERROR, seq=4, error=error)
    await _answer_controls(bus, status.to_json())
    assert await atlas.control_stream("s1", "cancel") == status


async def test_generate_gives_the_answer_or_raises_what_the_router_said(atlas: Atlas, bus: Bus):
    with pytest.raises(NoResponderError):
        await atlas.generate("hi")
    response = ModelResponse(
        stream_id="s1",
        content="Hello",
        model="mock/standard",
        provider="mock",
        finish_reason=FinishReason.STOP,
        usage=Usage(),
        cost=Cost(),
        metrics=StreamMetrics(),
    )
    replies = [response.to_json(), BudgetExceededError("spent").to_reply().to_json()]

    async def respond(msg: Msg) -> None:
        await msg.respond(replies.pop(0))

    await bus.subscribe(subjects.API_GENERATE_ALL, respond)
    await bus.flush()
    assert (await atlas.generate("hi")).content == "Hello"
    with pytest.raises(BudgetExceededError):
        await atlas.generate("hi")


async def test_reading_a_stream_gives_what_history_has_now(atlas: Atlas, router: FakeRouter):
    await router.write(started("s1", 1), delta("s1", 2, "so far"))
    reading = await atlas.read_stream("s1")
    assert (reading.text, reading.state) == ("so far", StreamState.ACTIVE)


async def test_a_watcher_survives_the_death_of_the_nats_server(
    atlas: Atlas, router: FakeRouter, nats_server
):
    events = answer("s1", "a", "b")
    async with asyncio.timeout(30), atlas.watch_stream("s1") as stream:
        await router.write(*events[:2])
        pieces = aiter(stream)
        assert await anext(pieces) == "a"
        await nats_server.kill()
        await nats_server.start()
        await eventually(lambda: router.bus.is_connected)
        await router.write(*events[2:])
        assert [piece async for piece in pieces] == ["b"]
