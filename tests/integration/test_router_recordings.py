"""Recorded answers of real providers, from a socket through the router and NATS to a watcher.

What a watcher puts together is compared with a naive reading of the recorded body, however the
bytes were cut on their way.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from atlas.contracts.streams import StreamCompleted, StreamFailed
from atlas.reading import Reading
from tests.support.provider_server import (
    ProviderServer,
    Reply,
    recorded_names,
    recording,
    serving,
)
from tests.support.router import Stack, provider, stack
from tests.unit.providers.collected import Collected
from tests.unit.providers.dialects import CHAT, MESSAGES, OLLAMA, RESPONSES, body_of
from tests.unit.providers.naive_reading import read_chat, read_messages, read_responses

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDED = recorded_names() or ["openai-chat-text-0"]  # without recordings: one test, which skips
OWN = {
    "chat-tools.sse": ("chat", CHAT),
    "messages-tools.sse": ("messages", MESSAGES),
    "responses-tools.sse": ("responses", RESPONSES),
    "ollama-tools.ndjson": ("ollama", OLLAMA),
}
DIALECTS: dict[str, tuple[str, Callable[[bytes], Collected]]] = {
    "/messages": ("messages", read_messages),
    "/chat/completions": ("chat", read_chat),
    "/responses": ("responses", read_responses),
}
SMALL_BYTES = 4_000
"""A body up to this size is also served byte by byte."""


@dataclass(frozen=True)
class Case:
    """A body, the provider that speaks its dialect, and what it says."""

    provider: str
    body: bytes
    says: Collected


@dataclass(frozen=True)
class Rig:
    """A router with a provider for each dialect, all of them at one server."""

    stack: Stack
    server: ProviderServer

    async def watch(self, case: Case, cuts: tuple[int, ...] = ()) -> Reading:
        """Stream a case; gives what a second client read of it."""
        self.server.reply = Reply(case.body, cuts=cuts)
        fallback = {"on_failure": "fail"}
        async with (
            asyncio.timeout(60),
            self.stack.atlas.stream(
                "Hello", model=f"{case.provider}/some-model", fallback=fallback
            ) as asked,
            self.stack.other.watch_stream(asked.stream_id) as watched,
        ):
            await asyncio.gather(_read(asked), _read(watched))
        assert asked.reading.text == watched.reading.text
        return watched.reading


async def _read(stream) -> None:
    seqs = [event.seq async for event in stream.events()]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    async with serving(Reply()) as server:
        providers = {
            "chat": provider("openai", server.url, api="chat"),
            "responses": provider("openai", server.url, api="responses"),
            "messages": provider("anthropic", server.url),
            "ollama": provider("ollama", server.url),
        }
        async with stack(tmp_path_factory.mktemp("router"), providers) as running:
            yield Rig(running, server)


def recorded_case(name: str) -> Case:
    recorded = recording(name)
    for path, (speaker, read) in DIALECTS.items():
        if path in recorded.path:
            return Case(speaker, recorded.body, read(recorded.body))
    raise AssertionError(f"{name}: no dialect for {recorded.path}")


def own_case(name: str) -> Case:
    speaker, says = OWN[name]
    return Case(speaker, body_of(name), says)


def assert_says(reading: Reading, says: Collected) -> None:
    """The watcher read what the body says, and the end says how it came to be."""
    assert reading.text == says.text
    assert reading.reasoning == says.reasoning
    calls = [(_stable(one.id), one.name, one.arguments) for one in reading.tool_calls]
    assert calls == says.calls
    assert reading.is_whole()
    end = reading.terminal
    if says.error is not None:
        assert isinstance(end, StreamFailed)
        assert end.error.code == says.error.code
    else:
        assert isinstance(end, StreamCompleted)
        assert (end.usage, end.finish_reason) == (says.usage, says.finish)


def _stable(call_id: str) -> str:
    """Without the random part of an id that Atlas makes where a provider gives none."""
    return re.sub("^call_[0-9a-f]{12}_", "call_", call_id)


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recording_reaches_every_watcher_as_it_was_said(rig: Rig, name: str):
    case = recorded_case(name)
    assert_says(await rig.watch(case), case.says)


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recording_cut_at_every_odd_byte_reaches_every_watcher_as_it_was_said(
    rig: Rig, name: str
):
    case = recorded_case(name)
    cuts = tuple(range(1, len(case.body), 2))
    assert_says(await rig.watch(case, cuts), case.says)


@pytest.mark.parametrize(
    "name",
    [one for one in RECORDED if recorded_names() and len(recording(one).body) <= SMALL_BYTES],
)
async def test_a_small_recording_byte_by_byte_reaches_every_watcher_as_it_was_said(
    rig: Rig, name: str
):
    case = recorded_case(name)
    assert_says(await rig.watch(case, tuple(range(1, len(case.body)))), case.says)


@pytest.mark.parametrize("name", OWN)
async def test_an_answer_in_every_dialect_reaches_every_watcher_as_it_was_said(rig: Rig, name: str):
    case = own_case(name)
    assert_says(await rig.watch(case), case.says)


@pytest.mark.parametrize("name", OWN)
async def test_an_answer_cut_at_every_odd_byte_reaches_every_watcher_as_it_was_said(
    rig: Rig, name: str
):
    case = own_case(name)
    assert_says(await rig.watch(case, tuple(range(1, len(case.body), 2))), case.says)


@pytest.mark.parametrize("name", OWN)
async def test_an_answer_byte_by_byte_reaches_every_watcher_as_it_was_said(rig: Rig, name: str):
    case = own_case(name)
    assert_says(await rig.watch(case, tuple(range(1, len(case.body)))), case.says)
