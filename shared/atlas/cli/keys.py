"""Keys while something runs: the terminal is read key by key, and always given back."""

import contextlib
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import NoReturn

try:
    import termios
    import tty
except ImportError:  # not on Windows, where nothing changes
    HAS_KEYS = False
else:
    HAS_KEYS = True

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?")
"""What arrows, function keys and Alt with a letter send."""
_ENDING = ("SIGTERM", "SIGHUP")


class Keyboard:
    """The keys of a terminal, made by `keyboard`."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._ours, self._theirs = socket.socketpair()

    def until_done[T](self, work: Future[T], press: Callable[[str], None]) -> None:
        """Call `press` for each key until the work is done, or until it raises."""
        work.add_done_callback(lambda _: self._wake())
        while not work.done():
            for key in self._pressed():
                press(key)

    def _pressed(self) -> str:
        """Wait for keys; none when the work is done."""
        ready, _, _ = select.select([self._terminal, self._ours.fileno()], [], [])
        if self._terminal not in ready:
            return ""
        said = os.read(self._terminal, 64)
        if not said:
            raise KeyboardInterrupt  # the terminal has gone
        return _ESCAPES.sub("", said.decode(errors="ignore"))

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # nobody waits any more
            self._theirs.send(b".")

    def close(self) -> None:
        """Give the sockets back."""
        self._ours.close()
        self._theirs.close()


@contextlib.contextmanager
def keyboard(*, is_wanted: bool) -> Iterator[Keyboard | None]:
    """The keys of the terminal at stdin while the block runs; None where there is none.

    Ctrl-C stays what it is. However the block ends, the terminal is as it was before: a signal
    that would end the process ends the block first.
    """
    if not HAS_KEYS or not is_wanted or not sys.stdin.isatty():
        yield None
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    keys = Keyboard(terminal)
    try:
        with _ended_by_signals():
            tty.setcbreak(terminal, termios.TCSANOW)
            yield keys
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        keys.close()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Signals that end a process at once raise `SystemExit` instead while the block runs."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {sign: signal.signal(sign, end) for sign in map(signal.Signals.__getitem__, _ENDING)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
