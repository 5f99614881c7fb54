"""`atlas chat` on a terminal of its own: keys while an answer streams, and the modes afterwards."""

import asyncio
import json
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from atlas.contracts.streams import STREAM_EVENT, StreamCancelled, StreamEvent
from atlas.live import Live
from atlas.provider_settings import ProviderSettings
from tests.support.router import Stack, stack

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals"),
]

SLOW = {"kind": "mock", "mock": {"tokens": 5_000, "token_ms": 10, "first_token_ms": 10}}
ON_A_TERMINAL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = ["atlas", "chat"]
runpy.run_module("atlas.cli", run_name="__main__")
"""
MODES = termios.ECHO | termios.ICANON | termios.ISIG


class Terminal:
    """A pseudo-terminal with `atlas chat` on it, and what it shows."""

    def __init__(self, ours: int, theirs: int, process: asyncio.subprocess.Process) -> None:
        self._ours = ours
        self._theirs = theirs
        self.process = process
        self.shown = ""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours, self._read)

    def _read(self) -> None:
        try:
            self.shown += os.read(self._ours, 65_536).decode(errors="replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(self._ours)
        self._more.set()

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    async def until(self, what: Callable[[str], bool], since: int = 0) -> int:
        """Wait until what was shown is so; gives how much was shown then."""
        try:
            async with asyncio.timeout(30):
                while not what(self.shown[since:]):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError as error:
            raise AssertionError(f"it shows only: {self.shown!r}") from error
        return len(self.shown)

    async def ask(self) -> int:
        """Ask something and wait until the answer flows; gives how much was shown then."""
        at = await self.until(lambda shown: shown.endswith("> "))
        self.press("Tell me about the sea\r")
        return await self.until(lambda shown: len(shown) > 60, at)

    def is_as_ever(self) -> bool:
        """Whether it echoes, waits for whole lines and heeds Ctrl-C."""
        return bool(termios.tcgetattr(self._theirs)[3] & MODES == MODES)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory) -> AsyncIterator[Stack]:
    providers = {"mock": ProviderSettings.model_validate(SLOW)}
    async with stack(tmp_path_factory.mktemp("router"), providers) as made:
        yield made


@asynccontextmanager
async def _chat(running: Stack, folder: Path) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ON_A_TERMINAL),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**kept, "NATS_URL": running.nats.url, "TERM": "xterm", "COLUMNS": "200"},
        cwd=folder,
    )
    terminal = Terminal(ours, theirs, process)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.close()


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
    async with _chat(running, tmp_path) as terminal:
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
    async with _chat(running, tmp_path) as terminal:
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
    async with _chat(running, tmp_path) as terminal:
        await terminal.ask()
        assert not terminal.is_as_ever()
        terminal.process.send_signal(sign)
        async with asyncio.timeout(30):
            assert await terminal.process.wait() == 128 + sign
        assert terminal.is_as_ever()
        await _until_told(told, "stream.cancelled")
