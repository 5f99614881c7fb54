"""`atlas chat`: a conversation.

The prompt blocks the main thread, where Ctrl-C arrives; the connection lives in the event loop of
another thread, so that it is kept alive while somebody thinks.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from atlas.cli.explanation import requirements
from atlas.cli.figures import money, tokens
from atlas.cli.keys import Keyboard, keyboard
from atlas.cli.output import Output
from atlas.cli.session import DONE, FAILED, INTERRUPTED, connected, report
from atlas.cli.streams import print_text
from atlas.cli.survey import tell_who_answers
from atlas.client import Atlas, Stream
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import (
    AtlasError,
    InvalidTransitionError,
    NoResponderError,
    RequestTimeoutError,
)
from atlas.contracts.streams import StreamCompleted, StreamState

_CLEAN_UP_S = 10.0
_CTRL_C = INTERRUPTED + 2
_HINT = "space pauses an answer and lets it go on; c or Ctrl-C ends it; Ctrl-D ends the chat"
_PAUSED = "(paused; space lets it go on, c ends it)"
_MOST_PRESSES = 16
"""Keys that wait to be obeyed; more are not heard."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who shall answer, and how, as it was typed."""

    model: str | None = None
    system: str | None = None
    task_type: str | None = None
    capabilities: str | None = None

    @property
    def requirements(self) -> JsonObject | None:
        """As a request takes them.

        Raises:
            InvalidRequestError: A capability without a level.
        """
        return requirements(self.task_type, self.capabilities) or None


def chat(wanted: Wanted, *, as_json: bool) -> None:
    """Talk until Ctrl-D; exits with its status."""
    output = Output(as_json=as_json)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives the prompt its line editing
    try:
        with _background() as loop, _Conversation(loop, output, wanted) as conversation:
            status = conversation.hold()
    except AtlasError as error:
        status = report(error, output)
    except KeyboardInterrupt:
        status = _CTRL_C
    sys.exit(status)


@contextlib.contextmanager
def _background() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own while the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="atlas-chat", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLEAN_UP_S)
        if not thread.is_alive():
            loop.close()


class _Conversation:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        output: Output,
        wanted: Wanted,
    ) -> None:
        self._loop = loop
        self._output = output
        self._wanted = wanted
        self._messages: list[dict[str, object]] = []
        self._open = AsyncExitStack()
        self._atlas: Atlas | None = None
        self._presses: asyncio.Queue[str] = asyncio.Queue(_MOST_PRESSES)

    def __enter__(self) -> Self:
        self._call(self._connect())
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(TimeoutError):  # the process ends anyway
            self._call(self._open.aclose(), _CLEAN_UP_S)

    async def _connect(self) -> None:
        self._atlas = await self._open.enter_async_context(connected())
        await tell_who_answers(self._atlas, self._output)

    async def _check(self) -> None:
        """Refuse what nobody could answer before anything is typed.

        Raises:
            InvalidRequestError: A name is misspelt, or no model meets the requirements.
        """
        wanted, atlas = self._wanted, self._connected()
        if wanted.model is None and wanted.requirements is None:
            return
        with contextlib.suppress(NoResponderError, RequestTimeoutError):  # asked for later
            await atlas.explain("Hello", model=wanted.model, requirements=wanted.requirements)

    def _connected(self) -> Atlas:
        if self._atlas is None:
            raise AtlasError("the conversation is not connected")
        return self._atlas

    def hold(self) -> int:
        """Ask and answer until Ctrl-D; in a pipe the status tells whether all was answered."""
        is_terminal = sys.stdin.isatty() and not self._output.as_json
        status = DONE
        self._call(self._check())
        if is_terminal and self._output.is_terminal:
            self._output.console.print(f"({_HINT})\n", style="dim")
        while True:
            try:
                said = input("> " if is_terminal else "").strip()
            except EOFError:
                self._output.piece("\n" if is_terminal else "")
                return DONE if is_terminal else status
            if not said:
                continue
            try:
                status = self._ask(said) or status
            except KeyboardInterrupt:
                self._output.note("\n(cancelled)")
                if not is_terminal:
                    raise

    def _ask(self, said: str) -> int:
        """Get one answer; gives the exit status that it would be."""
        before = len(self._messages)
        self._messages.append({"role": "user", "content": said})
        try:
            with keyboard(is_wanted=self._output.is_terminal) as keys:
                return self._call(self._answer(), keys=keys)
        except AtlasError as error:
            del self._messages[before:]
            return report(error, self._output)

    async def _answer(self) -> int:
        """Stream one answer; leaving it in any way cancels what still runs."""
        stream = self._connected().stream(
            self._messages,
            model=self._wanted.model,
            system_prompt=self._wanted.system,
            requirements=self._wanted.requirements,
            cancel_on_exit=True,
        )
        async with stream:
            obeying = asyncio.create_task(self._obey(stream))
            try:
                status = await self._show(stream)
            finally:
                obeying.cancel()
                self._keep(stream.reading.text)
                await asyncio.wait({obeying})
        end = stream.reading.terminal
        is_shown = sys.stdin.isatty() and not self._output.as_json
        if isinstance(end, StreamCompleted) and stream.reading.started and is_shown:
            spent = f"{stream.reading.started.model}, {tokens(end.usage)}, {money(end.cost)}"
            self._output.console.print(f"({spent})\n", style="dim")
        return status

    async def _show(self, stream: Stream) -> int:
        if not self._output.as_json:
            return await print_text(stream, self._output)
        async for event in stream.events():
            self._output.record(event)
        return DONE if isinstance(stream.reading.terminal, StreamCompleted) else FAILED

    async def _obey(self, stream: Stream) -> None:
        """Pause and let go on, press by press, as long as the answer is shown."""
        is_held = False
        while not self._presses.empty():
            self._presses.get_nowait()  # meant for the answer before
        while True:
            await self._presses.get()
            try:
                status = await (stream.resume() if is_held else stream.pause())
            except InvalidTransitionError:
                return  # it ended meanwhile
            except AtlasError as error:
                report(error, self._output)
                continue
            is_held = status.state is StreamState.PAUSED
            told = _PAUSED if is_held else "(goes on)"
            self._output.console.print(f"\n{told}", style="dim")

    def _press(self, key: str) -> None:
        """Take a key, in the main thread.

        Raises:
            KeyboardInterrupt: It means the same as Ctrl-C.
        """
        if key in "cC":
            raise KeyboardInterrupt
        if key == " ":
            self._loop.call_soon_threadsafe(self._note_press, key)

    def _note_press(self, key: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._presses.put_nowait(key)

    def _keep(self, text: str) -> None:
        """Remember the answer as far as it came; without one, forget the question."""
        if text:
            self._messages.append({"role": "assistant", "content": text})
        else:
            self._messages.pop()

    def _call[T](
        self,
        work: Coroutine[None, None, T],
        timeout_s: float | None = None,
        keys: Keyboard | None = None,
    ) -> T:
        """Run a coroutine in the loop's thread; Ctrl-C or a signal cancels it, to its end.

        It may run already before this thread knows its future, so it is known by its task.
        """
        ended, left = threading.Event(), threading.Event()
        running: list[asyncio.Task[object]] = []

        async def owned() -> T:
            if left.is_set():
                work.close()
                raise asyncio.CancelledError
            running.extend(filter(None, [asyncio.current_task()]))
            try:
                return await work
            finally:
                ended.set()

        def leave() -> None:
            left.set()
            for task in running:
                task.cancel()
            if not running:
                ended.set()

        try:
            future = asyncio.run_coroutine_threadsafe(owned(), self._loop)
            if keys is not None:
                keys.until_done(future, self._press)
            return future.result(timeout_s)
        except (KeyboardInterrupt, SystemExit):
            self._loop.call_soon_threadsafe(leave)
            ended.wait(_CLEAN_UP_S)
            raise
