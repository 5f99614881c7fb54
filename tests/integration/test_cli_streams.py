"""`atlas stream`: where it begins to show, and what it tells of a stream."""

import asyncio
import re

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import InvalidTransitionError, ProviderRateLimitError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.streams import (
    AttemptFailed,
    StreamCancelled,
    StreamFailed,
    StreamPaused,
    StreamResumed,
    StreamState,
    StreamStatus,
)
from tests.integration import cli_process
from tests.integration.client_fakes import FakeRouter, answer, completed, delta, started
from tests.support.waiting import eventually


async def test_the_end_alone_is_the_final_text_or_the_last_event(router: FakeRouter, cli):
    failed = AttemptFailed(
        stream_id="s1",
        seq=3,
        epoch=1,
        at_ms=0,
        attempt=1,
        provider="mock",
        error=ProviderRateLimitError("slow down").to_info(),
        next="restart",
    )
    await router.write(started("s1", 1), delta("s1", 2, "one"), failed, delta("s1", 4, "two"))
    await router.write(completed("s1", 5, "two"))
    ended = await cli("stream", "watch", "s1", "--from", "end")
    assert (ended.status, ended.out, ended.err) == (0, "two\n", "")
    ended = await cli("stream", "watch", "s1", "--from", "end", "--json")
    assert [one["type"] for one in ended.records] == ["stream.completed"]


@pytest.mark.parametrize("place", ["-2", "begin", "1.5"])
async def test_a_place_that_is_none_is_wrong_use(cli, place):
    ended = await cli("stream", "watch", "s1", "--from", place)
    assert ended.status == 2
    assert "neither a seq" in ended.err


async def test_a_stream_is_shown_with_who_controlled_it_its_figures_and_its_text(
    router: FakeRouter, cli
):
    of = {"stream_id": "s1", "epoch": 1}
    await router.write(
        started("s1", 1).model_copy(update={"at_ms": 10_000}),
        delta("s1", 2, "so far").model_copy(update={"at_ms": 11_000}),
        StreamPaused(seq=3, at_ms=12_000, by="me", reason="lunch", **of),
        StreamResumed(seq=4, at_ms=15_000, **of),
        StreamCancelled(
            seq=5, at_ms=16_000, by="her", reason="enough", usage=Usage(), cost=Cost(), **of
        ),
    )
    ended = await cli("stream", "show", "s1")
    assert ended.status == 0
    assert ended.out.startswith(
        "stream s1: cancelled, 5 events\nmodel    mock/standard (attempt 1)\n"
    )
    assert "took     6.0s, first token after 1.0s, paused for 3.0s\n" in ended.out
    assert re.findall(r"^control +\S+ (.*)$", ended.out, re.MULTILINE) == [
        "paused by me: lunch",
        "resumed",
        "cancelled by her: enough",
    ]
    assert ended.out.endswith("text     6 characters\n\nso far\n")
    (shown,) = (await cli("stream", "show", "s1", "--json")).records
    assert (shown["text"], shown["by"], shown["metrics"]["paused_ms"]) == ("so far", "her", 3_000)
    assert [(one["type"], one.get("by")) for one in shown["controls"]] == [
        ("stream.paused", "me"),
        ("stream.resumed", None),
    ]


async def test_watching_prints_the_text_and_nothing_else(router: FakeRouter, cli):
    await router.write(*answer("s1", "Hello ", "world"))
    ended = await cli("stream", "watch", "s1")
    assert (ended.status, ended.out, ended.err) == (0, "Hello world\n", "")


async def test_watching_in_json_prints_every_event_from_where_it_was_asked(router: FakeRouter, cli):
    await router.write(*answer("s1", "Hello ", "world"))
    ended = await cli("stream", "watch", "s1", "--json", "--from", "3")
    assert ended.status == 0
    assert [one["type"] for one in ended.records] == ["text.delta", "stream.completed"]


async def test_a_restart_is_told_on_stderr_and_the_answer_begins_anew(router: FakeRouter, cli):
    failed = AttemptFailed(
        stream_id="s1",
        seq=3,
        epoch=1,
        at_ms=0,
        attempt=1,
        provider="mock",
        error=ProviderRateLimitError("slow down").to_info(),
        next="restart",
    )
    await router.write(started("s1", 1), delta("s1", 2, "one"), failed, delta("s1", 4, "two"))
    await router.write(completed("s1", 5, "two"))
    ended = await cli("stream", "watch", "s1")
    assert (ended.status, ended.out) == (0, "one\ntwo\n")
    assert "begins anew" in ended.err


async def test_a_failed_stream_is_status_1_and_says_why(router: FakeRouter, cli):
    error = ProviderRateLimitError("slow down").to_info()
    end = StreamFailed(
        stream_id="s1", seq=3, epoch=1, at_ms=0, error=error, usage=Usage(), cost=Cost()
    )
    await router.write(started("s1", 1), delta("s1", 2, "half"), end)
    ended = await cli("stream", "watch", "s1")
    assert (ended.status, ended.out, ended.err) == (1, "half\n", "error: slow down\n")
    shown = (await cli("stream", "show", "s1", "--json")).records[0]
    assert (shown["state"], shown["text_length"]) == ("error", 4)


@pytest.mark.usefixtures("router")
async def test_a_stream_that_does_not_exist_is_wrong_use(cli):
    ended = await cli("stream", "watch", "nobody")
    assert ended.status == 2
    assert ended.err.startswith("error: ")


async def test_a_control_shows_the_state_or_why_not(bus: Bus, cli):
    error = InvalidTransitionError("stream s2 is completed").to_info()

    async def respond(msg: Msg) -> None:
        refused = ".s2." in msg.subject
        status = StreamStatus(
            stream_id="s2" if refused else "s1",
            state=StreamState.COMPLETED if refused else StreamState.PAUSED,
            error=error if refused else None,
        )
        await msg.respond(status.to_json())

    await bus.subscribe(subjects.STREAM_CONTROL_ALL, respond)
    await bus.flush()
    ended = await cli("stream", "pause", "s1")
    assert (ended.status, ended.out) == (0, "stream s1: paused\n")
    ended = await cli("stream", "pause", "s2")
    assert (ended.status, ended.err) == (2, "error: stream s2 is completed\n")


async def test_who_reads_no_further_ends_the_command_quietly(
    router: FakeRouter, nats_server, tmp_path
):
    await router.write(started("s1", 1), delta("s1", 2, "text"))
    process = await cli_process.start(
        "stream", "watch", "s1", nats_url=nats_server.url, cwd=tmp_path
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.read(4) == b"text"
    process.stdout._transport.close()  # type: ignore[attr-defined]
    for seq in range(3, 6):
        await router.write(delta("s1", seq, "more"))
    await eventually(lambda: process.returncode is not None)
    assert process.returncode == 141
    assert process.stderr is not None
    assert await process.stderr.read() == b""
