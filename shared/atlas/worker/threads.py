"""Plain functions in threads: so many at a time, and none that keeps the process alive.

A thread cannot be ended from outside. One that hangs is left behind and keeps its place, so that
there are never more than the bound; a pool of the standard library would wait for it at the exit.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping
from functools import partial


class Threads:
    """Runs functions, each in a thread of its own.

    Args:
        most: How many at a time; one more waits.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self.most = most
        self.left_behind = 0
        """Threads that nobody waits for any more, and that hold their places."""

    async def run[T](self, function: Callable[..., T], given: Mapping[str, object]) -> T:
        """What the function gives, called with these arguments.

        Cancelled, it leaves the thread to itself.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(outcome: Callable[[], None]) -> None:
            self._free.release()
            if ended.done():  # nobody waits any more
                self.left_behind -= 1
            else:
                outcome()

        def body() -> None:
            try:
                outcome = partial(ended.set_result, context.run(function, **given))
            except BaseException as error:  # noqa: BLE001 - whatever it is, who waits must hear it
                outcome = partial(ended.set_exception, _carried(error))
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who waited
                loop.call_soon_threadsafe(settle, outcome)

        try:
            threading.Thread(target=body, name="tool", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._free.release()
            raise
        try:
            return await ended
        finally:
            if ended.cancelled():
                self.left_behind += 1


def _carried(error: BaseException) -> BaseException:
    """As a future can hold it: not what ends a loop, or is a signal of generators."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
