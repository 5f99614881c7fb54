"""`atlas chat` on a terminal of its own: keys while an answer streams, and the modes afterwards."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from atlas.contracts.streams import STREAM_EVENT, StreamCancelled, StreamEvent
from atlas.live import Live
from atlas.provider_settings import ProviderSettings
from tests.integration.terminal import on_terminal
from tests.support.router import Stack, stack

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals"),
]

SLOW = {"kind": "mock", "mock": {"tokens": 5_000, "token_ms": 10, "first_token_ms": 10}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory) -> AsyncIterator[Stack]:
    providers = {"mock": ProviderSettings.model_validate(SLOW)}
    async with stack(tmp_path_factory.mktemp("router"), providers) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def told(running: Stack) -> AsyncIterator[Live]:
    """Every event of every stream from now on."""
    live = await running.bus.listen("atlas.default.stream.*.chunk")
    await running.bus.flush()
    yield live
    await live.close()


async def _until_told(live: Live, type_: str) -> StreamEvent:
    async with asyncio.timeout(20):
        while True:
            data = live.take()
            if data is None:
                await live.wait(20)
            elif json.loads(data)["type"] == type_:
                return STREAM_EVENT.validate_json(data)


async def test_space_pauses_and_lets_go_on_and_c_cancels(
    running: Stack, told: Live, tmp_path: Path
):
    async with on_terminal("chat", nats_url=running.nats.url, folder=tmp_path) as terminal:
        at = await terminal.ask()
        assert "space pauses" in terminal.shown
        assert not terminal.is_as_ever()
        terminal.press("\x1b[Ax\x1bc ")  # an arrow, x and Alt-c mean nothing
        at = await terminal.until(lambda shown: "(paused; space lets it go on" in shown, at)
        await _until_told(told, "stream.paused")
        terminal.press(" ")
        at = await terminal.until(lambda shown: "(goes on)" in shown, at)
        await _until_told(told, "stream.resumed")
        at = await terminal.until(lambda shown: len(shown) > 40, at)
        terminal.press("c")
        at = await terminal.until(lambda shown: shown.endswith("> "), at)
        assert "(cancelled)" in terminal.shown
        cancelled = await _until_told(told, "stream.cancelled")
        assert isinstance(cancelled, StreamCancelled)
        assert cancelled.reason == "the caller left"
        terminal.press("\x04")
        assert await terminal.process.wait() == 0
        assert terminal.is_as_ever()


async def test_ctrl_c_still_ends_an_answer_and_the_chat_goes_on(
    running: Stack, told: Live, tmp_path: Path
):
    async with on_terminal("chat", nats_url=running.nats.url, folder=tmp_path) as terminal:
        for _ in range(2):
            at = await terminal.ask()
            terminal.press("\x03")
            await terminal.until(lambda shown: "(cancelled)" in shown, at)
            await _until_told(told, "stream.cancelled")
        await terminal.until(lambda shown: shown.endswith("> "))
        terminal.press("\x04")
        assert await terminal.process.wait() == 0
        assert terminal.is_as_ever()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
async def test_a_chat_that_is_ended_in_an_answer_leaves_the_terminal_as_it_was(
    running: Stack, told: Live, tmp_path: Path, sign: signal.Signals
):
    async with on_terminal("chat", nats_url=running.nats.url, folder=tmp_path) as terminal:
        await terminal.ask()
        assert not terminal.is_as_ever()
        terminal.process.send_signal(sign)
        async with asyncio.timeout(30):
            assert await terminal.process.wait() == 128 + sign
        assert terminal.is_as_ever()
        await _until_told(told, "stream.cancelled")
