"""nats-py's client, but for what it gets wrong when a connection breaks, and how often it writes.

Between the break and the client's notice of it a subscribe or publish writes into a transport that
is closed by then, and whoever called gets asyncio's AttributeError or uvloop's RuntimeError
(nats-py 2.16, `Client._flush_pending`). What was to be written is kept, and so is the subscription:
the reconnect, which is on its way, sends both.

nats-py writes once for nearly every publish. Here what is published while the event loop is busy
goes out together: one system call for many messages, here and in the server, which reads them.
And a PING goes after what was published before it, which in nats-py it overtakes.
"""

import asyncio

import structlog
from nats.aio.client import Client
from nats.protocol import command

from atlas.wire import header_block

_TURNS = 4
"""Of the event loop, that a publish waits for others: 30 µs when there are none."""

log = structlog.get_logger("atlas.bus")


class NatsClient(Client):
    """A client whose calls do not break with its connection, and whose writes are joined."""

    def __init__(self) -> None:
        super().__init__()
        self._is_write_due = False

    async def _flush_pending(self, force_flush: bool = False) -> object:
        if self._is_write_due and not force_flush:
            return _done()
        if not force_flush and self.is_connected:
            self._is_write_due = True
            self._write_soon(_TURNS)
            return _done()
        return await self._flush_now(force_flush)

    def _write_soon(self, turns: int) -> None:
        """Write after so many turns of the loop: a moment when it is idle."""
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(self._write_soon, turns - 1)
            return
        self._is_write_due = False
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(loop.create_future())

    async def _send_publish(
        self,
        subject: str,
        reply: str,
        payload: bytes,
        payload_size: int,
        headers: dict[str, str] | None,
    ) -> None:
        """As nats-py's, which cleans each header by two regular expressions."""
        block = header_block(headers) if headers else None
        if block is None:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(command.hpub_cmd(subject, reply, block, payload))
        if not self._is_write_due:
            await self._flush_pending()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        if self._pending and self._transport is not None:
            self._transport.writelines(self._pending[:])
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)

    async def _flush_now(self, force_flush: bool) -> object:
        try:
            return await super()._flush_pending(force_flush)
        except (AttributeError, RuntimeError, OSError) as error:
            log.debug("nats_broke", error=str(error))
            return _done()


def _done() -> asyncio.Future[None]:
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    written.set_result(None)
    return written
