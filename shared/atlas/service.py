"""What every service is built on: its doors, its events, and what its process asks of it.

`process.run` is the process around it. Doors are endpoints of NATS's own service protocol
(`nats.micro`), so `nats micro list` and `$SRV.PING` know every running service.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol

import structlog
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.micro.request import Request
from nats.micro.service import Service
from opentelemetry.trace import SpanKind

from atlas import door, subjects, telemetry
from atlas.bus import Bus
from atlas.contracts.base import Contract, JsonObject, UserInput, now_ms
from atlas.contracts.errors import (
    AtlasError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
)
from atlas.contracts.events import Event
from atlas.contracts.ids import ID_PATTERN, is_id
from atlas.finishing import finish
from atlas.settings import Settings
from atlas.telemetry import meters, names
from atlas.wire import told_outside

VERSION = version("atlas-llm")
_OVERLOAD_RETRY_MS = 500
_CONCURRENT_CALLS = 1_000
"""Calls in progress per door; one more is answered with `overloaded`."""

log = structlog.get_logger("atlas.service")


class App(Protocol):
    """What a composition root yields."""

    async def drain(self) -> None:
        """Take nothing new; finish or hand back what is running. Bounded by the app itself."""
        ...

    def health(self) -> JsonObject:
        """What `service.health` says besides state and instance, such as running streams."""
        ...

    def metrics(self) -> JsonObject:
        """What `service.metrics` counts besides calls and reconnects; all since the start."""
        ...

    async def look(self) -> None:
        """Tell the gauges of its own; called every few seconds where metrics are exported."""
        ...

    def troubles(self) -> Sequence[str]:
        """What keeps it from its work, each in a sentence for `/readyz`."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a service is built on."""

    name: str
    instance: str
    settings: Settings
    bus: Bus
    doors: "Doors"
    events: "Events"


@dataclass(frozen=True, slots=True)
class Call[M: UserInput]:
    """One call of a door: who asks, what, and the bytes as they came."""

    tenant: str
    id: str
    """The id in the subject of a door that has one, such as `….task.{task_id}.control`."""
    body: M
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Events:
    """Publishes what happens as `Event`s, for anyone."""

    def __init__(self, bus: Bus, source: str, instance: str, tenant: str) -> None:
        self._bus = bus
        self._source = source
        self._instance = instance
        self._tenant = tenant

    async def emit(self, type_: str, data: JsonObject, *, tenant: str | None = None) -> None:
        """Publish one event. While NATS is away it may be lost: events inform, logs decide."""
        event = Event(
            type=type_,
            source=self._source,
            at_ms=now_ms(),
            data={"instance": self._instance, **data},
        )
        subject = subjects.event(tenant or self._tenant, self._source, type_)
        try:
            await self._bus.send(subject, event)
        except AtlasError as error:
            log.debug("event_lost", type=type_, error=error.message)


@dataclass(slots=True)
class Doors:
    """The request/reply doors of a service."""

    bus: Bus
    service: Service
    queue: str
    calls: Counter[str] = field(default_factory=Counter)
    """How often each door was called, by its name."""
    _running: list[set[asyncio.Task[None]]] = field(default_factory=list)
    """The calls in progress of each door: many that wait at one keep nobody from another."""

    async def open[M: UserInput](
        self,
        name: str,
        subject: str,
        model: type[M],
        handler: Callable[[Call[M]], Awaitable[Contract]],
    ) -> None:
        """Serve `subject`: read a `model`, call `handler`, answer its value or an `ErrorReply`."""
        running: set[asyncio.Task[None]] = set()

        async def accept(request: Request) -> None:
            self.calls[name] += 1
            reply = request._msg.reply  # noqa: SLF001 - nats-py tells it nowhere else
            if reply and not subjects.is_inbox(reply):
                log.warning("reply_refused", subject=request.subject, reply=reply)
                return
            if len(running) >= _CONCURRENT_CALLS:
                refusal = _overloaded(name)
                refused = {names.DOOR: name, names.ERROR_TYPE: refusal.code}
                meters.record(names.DOOR_DURATION, 0.0, refused)
                await _answer(request, refusal.to_reply())
                return
            task = asyncio.create_task(_serve(request, name, _template(subject), model, handler))
            running.add(task)
            task.add_done_callback(running.discard)

        self._running.append(running)
        self.calls[name] = 0
        await self.service.add_endpoint(
            name=name, subject=subject, queue_group=self.queue, handler=accept
        )

    async def close(self, timeout_s: float) -> None:
        """Stop listening and wait for the calls in progress."""
        with contextlib.suppress(NatsError, OSError):  # the server may be gone already
            await self.service.stop()
        await finish(set().union(*self._running), timeout_s)


async def _serve[M: UserInput](
    request: Request,
    name: str,
    template: str,
    model: type[M],
    handler: Callable[[Call[M]], Awaitable[Contract]],
) -> None:
    headers = request.headers or {}
    began_s = time.monotonic()
    labels = {names.DOOR: name}
    try:
        with telemetry.processing(template, headers, kind=SpanKind.SERVER):
            parsed = _names_in(request.subject)
            body = door.read(model, request.data, headers)
            answer = await handler(Call(parsed.tenant, parsed.id, body, request.data, headers))
    except AtlasError as error:
        told = told_outside(error)
        answer, labels[names.ERROR_TYPE] = told.to_reply(), told.code
    except Exception:
        log.exception("door_failed", door=name)
        inside = AtlasError(f"{template} failed inside; the service's log has the cause")
        answer, labels[names.ERROR_TYPE] = inside.to_reply(), inside.code
    meters.record(names.DOOR_DURATION, time.monotonic() - began_s, labels)
    await _answer(request, answer)


def _names_in(subject: str) -> subjects.Parsed:
    """The tenant and id of a call: a `*` would read what belongs to others."""
    parsed = subjects.parse(subject)
    for what, name in (("tenant", parsed.tenant), ("id", parsed.id)):
        if not is_id(name):
            raise InvalidRequestError(
                f"subject: {name!r} is no {what}; these match {ID_PATTERN}, literally"
            )
    return parsed


async def _answer(request: Request, answer: Contract) -> None:
    try:
        await request.respond(answer.to_json())
    except ValueError:  # no reply subject: published, not asked; it was carried out all the same
        log.debug("answer_not_asked_for", subject=request.subject)
    except MaxPayloadError:
        await _answer(request, _too_large(answer).to_reply())
    except NatsError as error:  # NATS went away
        log.warning("answer_not_sent", subject=request.subject, error=type(error).__name__)


def _too_large(answer: Contract) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"it was carried out, but the answer, a {type(answer).__name__} of "
        f"{len(answer.to_json())} bytes, is more than NATS takes in a message; ask for history, "
        "which comes in pages, or raise the server's max_payload"
    )


def _template(subject: str) -> str:
    """The subject as the contract writes it, for spans: `atlas.{tenant}.task.{task_id}.control`."""
    kind = subject.split(".")[2]
    return subject.replace("*", "{tenant}", 1).replace("*", f"{{{kind}_id}}", 1)


def _overloaded(name: str) -> OverloadedError:
    return OverloadedError(
        f"{name}: {_CONCURRENT_CALLS} calls are in progress; try again later",
        retry_after_ms=_OVERLOAD_RETRY_MS,
    )


type Compose = Callable[[Context], AbstractAsyncContextManager[App]]
