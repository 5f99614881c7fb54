"""The connection to NATS: the only wrapper of nats-py.

It adds what every service needs and nats-py leaves open: errors of ours with a way out, reconnects
that are logged once and not once a try, trace context and contract version in the headers, stored
publishes with expected sequences, and replay without a consumer (batched direct get).
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Self

import nats
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import (
    ConnectionClosedError,
    Error,
    MaxPayloadError,
    NoRespondersError,
    OutboundBufferLimitError,
)
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext

from atlas import subjects, wire
from atlas.asking import Questions
from atlas.barrier import Barrier
from atlas.contracts.base import Contract
from atlas.contracts.errors import (
    ConnectionFailedError,
    NoResponderError,
    PayloadTooLargeError,
    RequestTimeoutError,
)
from atlas.credentials import REFUSED, credentials, is_refusal, more_telling, no_connection
from atlas.inbox import Inbox
from atlas.live import BOUND_BYTES, Live, LiveClient
from atlas.nats_settings import NatsSettings
from atlas.pull import Flow, Pull
from atlas.replay import at_seq, at_time, replay
from atlas.wire import Stored, outgoing_headers, read_ack, read_reply, read_stored, without_secrets

_RECONNECT_WAIT_S = 0.25
_GET_TIMEOUT_S = 15.0
_FLUSH_S = 10.0
_LONGEST_S = 86_400
_REPLAYS = 16  # readers of this connection that ask for history at once; the others take their turn
_PENDING_BYTES = 16 * 2**20  # held back while the server is away; above it a publish is refused

log = structlog.get_logger("atlas.bus")

type Handler = Callable[[Msg], Awaitable[None]]


class Bus:
    """One connection to NATS. Make it with `Bus.connect`, end it with `close`."""

    def __init__(self, settings: NatsSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self.request_timeout_s = settings.request_timeout_ms / 1000
        self._connected = asyncio.Event()
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_disconnect: list[Callable[[], None]] = []
        self._dial_error: Exception | None = None
        self.nats = LiveClient()
        self._questions = Questions(self.nats)
        self.replays = asyncio.Semaphore(_REPLAYS)
        self._barrier = Barrier(
            lambda: self.nats.flush(timeout=_LONGEST_S),
            self._connected,
            lambda: self.nats.is_connected,
        )
        self.reconnects = 0

    @classmethod
    async def connect(cls, settings: NatsSettings, name: str) -> Self:
        """Connect, under a name that the server's monitoring shows.

        Raises:
            ConnectionFailedError: Nobody answers, or refuses this user; says what to do.
            ConfigurationError: What it shall show of itself cannot be read.
        """
        bus = cls(settings, name)
        try:
            async with asyncio.timeout(settings.connect_timeout_ms / 1000):
                await bus._dial()
        except (OSError, Error, TimeoutError) as error:
            with contextlib.suppress(Exception):  # it never was open; there is nothing to save
                await bus.nats.close()
            raise no_connection(settings, _reason(bus._dial_error or error)) from error
        bus._connected.set()
        return bus

    async def _dial(self) -> None:
        await self.nats.connect(
            servers=self._settings.url.split(","),
            name=self._name,
            **credentials(self._settings)._asdict(),
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type] # seconds, as any number
            connect_timeout=2,
            ping_interval=20,
            pending_size=_PENDING_BYTES,
        )

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream's management calls, for `topology` and consumers."""
        return self.nats.jetstream(timeout=self.request_timeout_s)

    @property
    def is_connected(self) -> bool:
        """Whether the server is there right now."""
        return self.nats.is_connected

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that this server takes."""
        return self.nats.max_payload

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every reconnect; it must not block."""
        self._on_reconnect.append(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the server is lost; it must not block."""
        self._on_disconnect.append(callback)

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Wait until the server is there.

        Raises:
            ConnectionFailedError: It did not come back in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError as error:
            raise ConnectionFailedError(
                f"NATS at {without_secrets(self._settings.url)} did not come back "
                f"within {timeout_s:g} s"
            ) from error

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send without waiting for anybody. The cheapest call: nothing is added to `headers`.

        Raises:
            PayloadTooLargeError: Above `max_payload_bytes`.
            ConnectionFailedError: The server is away and the buffer for it is full.
        """
        try:
            await self.nats.publish(subject, data, reply=reply, headers=headers)
        except MaxPayloadError as error:
            raise self._too_large(subject, data) from error
        except (OutboundBufferLimitError, ConnectionClosedError) as error:
            raise ConnectionFailedError(f"{subject}: NATS is away: {_reason(error)}") from error

    async def send(self, subject: str, message: Contract) -> None:
        """Publish a contract value with version and trace context."""
        await self.publish(subject, message.to_json(), headers=outgoing_headers())

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        msg_id: str | None = None,
        expected_last: int | None = None,
        expected_of: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Publish into JetStream and wait until it is stored.

        Args:
            subject: A subject that a JetStream stream holds.
            data: The payload.
            msg_id: Makes a repeat within the stream's duplicate window harmless.
            expected_last: Store only if this is the last sequence of `subject`, or of
                `expected_of`; 0 means that there is none yet.
            expected_of: The subject that `expected_last` speaks of.
            headers: Further headers; version and trace context are added.
            timeout_s: How long to wait; the connection's request timeout by default.

        Returns:
            The sequence of the message in its JetStream stream.

        Raises:
            FencedError: `expected_last` was not met.
            StoreRefusedError: JetStream refuses for another reason.
            PayloadTooLargeError: Above `max_payload_bytes`.
            RequestTimeoutError: No answer; the message may or may not be stored.
        """
        head = outgoing_headers() | (headers or {})
        if msg_id is not None:
            head[wire.MSG_ID_HEADER] = msg_id
        if expected_last is not None:
            head[wire.EXPECTED_LAST] = str(expected_last)
        if expected_of is not None:
            head[wire.EXPECTED_LAST_OF] = expected_of
        return read_ack(subject, (await self.ask(subject, data, head, timeout_s)).data).seq

    async def request[M: Contract](
        self,
        subject: str,
        message: Contract | bytes,
        answer: type[M],
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> M:
        """Ask a door and read its answer; a message in bytes goes out as it is.

        Version and trace context are added to the headers.

        Raises:
            AtlasError: What the door answered, as the class that its code names.
            RequestTimeoutError: Nobody answered in time.
            NoResponderError: Nobody listens there.
        """
        data = message if isinstance(message, bytes) else message.to_json()
        reply = await self.ask(subject, data, outgoing_headers() | (headers or {}), timeout_s)
        return read_reply(reply.data, answer)

    async def ask(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Msg:
        """Send bytes with just these headers and wait for the answer, whatever it is.

        Raises what `request` does when there is none, and `PayloadTooLargeError`.
        """
        wait_s = timeout_s or self.request_timeout_s
        try:
            return await self._questions.ask(subject, data, headers, wait_s)
        except MaxPayloadError as error:
            raise self._too_large(subject, data) from error
        except NoRespondersError as error:
            raise NoResponderError(wire.unheard(subject)) from error
        except (NatsTimeoutError, TimeoutError) as error:
            raise RequestTimeoutError(f"{subject}: no answer within {wait_s:g} s") from error
        except (OutboundBufferLimitError, ConnectionClosedError) as error:
            raise ConnectionFailedError(f"{subject}: NATS is away: {_reason(error)}") from error

    def _too_large(self, subject: str, data: bytes) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"{subject}: {len(data)} bytes, and NATS takes {self.max_payload_bytes} in a message; "
            "send less at once, or raise `max_payload` of the server",
            details={"size_bytes": len(data), "max_payload_bytes": self.max_payload_bytes},
        )

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", pending: int = 65_536
    ) -> Subscription:
        """Call `handler` for every message, one after the other. `pending` bounds the queue."""
        return await self.nats.subscribe(
            subject, queue=queue, cb=handler, pending_msgs_limit=pending
        )

    async def open(self, subject: str, *, pending: int = 65_536) -> Subscription:
        """A subscription to be read with `next_msg` or `async for`."""
        return await self.nats.subscribe(
            subject, pending_msgs_limit=pending, pending_bytes_limit=256 * 2**20
        )

    async def listen(self, subject: str, *, bound_bytes: int = BOUND_BYTES) -> Live:
        """Messages of a subject for one reader, the cheapest way; see `Live`."""
        return await Live.open(self.nats, subject, bound_bytes)

    async def flush(self) -> None:
        """Wait until the server has taken everything sent so far, past a reconnect if need be.

        Subscriptions are then in place. What was published into a connection that broke meanwhile
        may be lost, as ever; `store` tells.

        Raises:
            ConnectionFailedError: The server is away.
        """
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._barrier.passed()
        except (Error, TimeoutError) as error:
            raise ConnectionFailedError(
                f"NATS at {without_secrets(self._settings.url)} does not answer: {_reason(error)}"
            ) from error

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message of a subject, or None.

        Raises:
            RequestTimeoutError: No answer.
        """
        msg = await self._get(stream, {"last_by_subj": subject})
        if wire.status(msg.headers) == wire.NO_MESSAGE:
            return None
        return read_stored(msg.data, msg.headers)

    async def count(self, stream: str, subject: str, *, from_seq: int = 1) -> int:
        """How many messages of a subject there are from a sequence on; raises as `last` does."""
        msg = await self._get(stream, {"seq": from_seq, "next_by_subj": subject, "batch": 1})
        if wire.status(msg.headers) is None:
            return 1 + wire.pending(msg.headers)
        return wire.left(subject, msg.headers)

    async def _get(self, stream: str, what: dict[str, object]) -> Msg:
        request = json.dumps(what).encode()
        return await self.ask(
            subjects.jetstream("DIRECT.GET", stream), request, None, _GET_TIMEOUT_S
        )

    def read(
        self, stream: str, subject: str, *, from_seq: int = 1, from_ms: int = 0, page: int = 1000
    ) -> AsyncGenerator[Stored]:
        """The messages of a subject in stored order, from a JetStream sequence or a time on.

        No consumer is made: a thousand readers leave no state on the server.

        Raises:
            RequestTimeoutError: The server fell silent.
            NoResponderError: No server holds the stream right now.
        """
        start = at_time(from_ms) if from_ms else at_seq(from_seq)
        return replay(self.nats, self.publish, stream, subject, start, page)

    async def pull(self, stream: str, consumer: str) -> Pull:
        """Bind to a durable pull consumer that `topology` made."""
        sub = await self.jetstream.pull_subscribe_bind(consumer=consumer, stream=stream)
        return Pull(sub, self.wait_connected)

    async def flow(self, stream: str, consumer: str, *, bound: int) -> Flow:
        """Read a durable pull consumer as its messages come, at most `bound` of them ahead."""
        inbox = await Inbox.open(self.nats)
        subject = subjects.jetstream("CONSUMER.MSG.NEXT", stream, consumer)
        return Flow(self.nats, inbox, subject, lambda: self.reconnects, self.wait_connected, bound)

    async def close(self) -> None:
        """Send what is left and close. Never raises: there is nobody to tell.

        nats-py's own close may raise after the server was killed.
        """
        with contextlib.suppress(Exception):
            async with asyncio.timeout(3):
                if self.nats.is_connected:
                    await self.nats.flush(timeout=2)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(3):
                await self.nats.close()
        self._barrier.broken()
        self.nats.wake()

    async def _disconnected(self) -> None:
        if self.nats.is_closed or not self._connected.is_set():
            return
        self._connected.clear()
        self._barrier.broken()
        log.warning("nats_lost", server=without_secrets(self._settings.url), next="reconnecting")
        for callback in self._on_disconnect:
            callback()

    async def _reconnected(self) -> None:
        self.reconnects += 1
        self._connected.set()
        log.info("nats_back", server=without_secrets(self._settings.url))
        for callback in self._on_reconnect:
            callback()

    async def _error(self, error: Exception) -> None:
        """nats-py calls this for every failed try; what matters is logged above, once."""
        if not self._connected.is_set():
            self._dial_error = more_telling(self._dial_error, error)
        if isinstance(error, nats.errors.SlowConsumerError):
            log.warning("slow_consumer", subject=error.subject, action="healing from history")
        elif is_refusal(error):
            log.error("nats_refused", error=_reason(error), next=REFUSED)
        elif self._connected.is_set() and not isinstance(error, OSError | TimeoutError):
            log.debug("nats_error", error=_reason(error))


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
