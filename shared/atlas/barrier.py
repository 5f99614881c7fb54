"""A barrier for what was sent: passed once the server has taken all of it, also past a reconnect.

It stands on nats-py's flush, a PING whose PONG is waited for (behind what was published before it:
`nats_client` sees to that), and knows what that leaves open: a reconnect forgets the PINGs under
way, so their PONGs never come; and the reader dies of a PONG whose waiter has given up, which
leaves a connection that is up and deaf.
"""

import asyncio
from collections.abc import Awaitable, Callable

_AGAIN_S = 0.25


class Barrier:
    """The barriers of one connection."""

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        connected: asyncio.Event,
        is_connected: Callable[[], bool],
    ) -> None:
        """Make it.

        Args:
            ping: Sends a PING and waits for its PONG, as long as it takes.
            connected: Set while the server is there; a loss is told a little late.
            is_connected: Whether it is there right now.
        """
        self._ping = ping
        self._connected = connected
        self._is_connected = is_connected
        self._waiting: set[asyncio.Task[None]] = set()

    async def passed(self) -> None:
        """Return when the server has taken everything; bound it with a timeout."""
        while not await self._round():  # noqa: ASYNC110 - see `connected`
            await asyncio.sleep(_AGAIN_S)

    def broken(self) -> None:
        """The connection is lost, and every PING under way with it: call it before the next one."""
        for waiting in self._waiting:
            waiting.cancel()

    async def _round(self) -> bool:
        """Whether a PONG came; False when the connection was lost instead.

        Whoever stops waiting leaves the PING to itself, until its PONG comes or it is `broken`.
        """
        await self._connected.wait()
        waiting = asyncio.ensure_future(self._pong())
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        await asyncio.wait([waiting])
        if waiting.cancelled():
            return False
        try:
            waiting.result()
        except (OSError, RuntimeError):  # asyncio's and uvloop's words for a transport just closed
            return False
        return self._is_connected()  # while it reconnects, nats-py's flush returns at once

    async def _pong(self) -> None:
        await self._ping()
