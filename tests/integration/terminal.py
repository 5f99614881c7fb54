"""The `atlas` command on a terminal, as a person sees it."""

import asyncio
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

ON_A_TERMINAL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv[0] = "atlas"
runpy.run_module("atlas.cli", run_name="__main__")
"""
MODES = termios.ECHO | termios.ICANON | termios.ISIG


class Terminal:
    """A pseudo-terminal with a command on it, and what it shows."""

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


@asynccontextmanager
async def on_terminal(*arguments: str, nats_url: str, folder: Path) -> AsyncIterator[Terminal]:
    """Run `atlas` on a terminal of its own, and end it with the block."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ON_A_TERMINAL, *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**kept, "NATS_URL": nats_url, "TERM": "xterm", "COLUMNS": "200", "LINES": "50"},
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
