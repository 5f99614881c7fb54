"""What JetStream holds of a subject, read without a consumer (batched direct get, ADR-31)."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Protocol

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import subjects, wire
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import RequestTimeoutError
from atlas.inbox import Inbox
from atlas.live import LiveClient
from atlas.wire import Stored, read_stored

_NEXT_S = 15.0


class Publish(Protocol):
    """How a question leaves: `Bus.publish`."""

    async def __call__(self, subject: str, data: bytes, *, reply: str) -> None:
        """Send it."""
        ...


def at_seq(seq: int) -> JsonObject:
    """Where to begin: at a sequence."""
    return {"seq": seq}


def at_time(at_ms: int) -> JsonObject:
    """Where to begin: with what was stored since then."""
    return {"start_time": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()}


async def replay(  # noqa: PLR0917 - Bus.read names them
    nats: LiveClient,
    publish: Publish,
    stream: str,
    subject: str,
    start: JsonObject,
    page: int,
) -> AsyncGenerator[Stored]:
    """See `Bus.read`, the only caller. The server sends no more than 64 MB of a page at a time."""
    inbox = await Inbox.open(nats)
    try:
        while True:
            question = json.dumps({**start, "next_by_subj": subject, "batch": page}).encode()
            await publish(subjects.jetstream("DIRECT.GET", stream), question, reply=inbox.subject)
            while wire.status((msg := await _next(inbox, stream)).headers) is None:
                stored = read_stored(msg.data, msg.headers)
                start = at_seq(stored.seq + 1)
                yield stored
            if wire.left(subject, msg.headers) == 0:
                return
    finally:
        await inbox.close()


async def _next(inbox: Inbox, stream: str) -> Msg:
    try:
        return await inbox.next(_NEXT_S)
    except (NatsTimeoutError, TimeoutError) as error:
        raise RequestTimeoutError(f"reading {stream}: no answer within {_NEXT_S:g} s") from error
