"""What JetStream holds of a subject, read without a consumer (batched direct get, ADR-31)."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import wire
from atlas.contracts.errors import RequestTimeoutError
from atlas.wire import Stored, read_stored

_NEXT_S = 15.0
_PENDING_BYTES = 256 * 2**20


class Publish(Protocol):
    """How a question leaves: `Bus.publish`."""

    async def __call__(self, subject: str, data: bytes, *, reply: str) -> None:
        """Send it."""
        ...


async def replay(  # noqa: PLR0917 - Bus.read names them
    nats: Client, publish: Publish, stream: str, subject: str, from_seq: int, page: int
) -> AsyncGenerator[Stored]:
    """See `Bus.read`, the only caller."""
    inbox = nats.new_inbox()
    sub = await nats.subscribe(inbox, pending_bytes_limit=_PENDING_BYTES)
    try:
        while True:
            request = {"seq": from_seq, "next_by_subj": subject, "batch": page}
            question = json.dumps(request).encode()
            await publish(f"$JS.API.DIRECT.GET.{stream}", question, reply=inbox)
            while wire.status((msg := await _next(sub, stream)).headers) is None:
                stored = read_stored(msg.data, msg.headers)
                from_seq = stored.seq + 1
                yield stored
            if wire.left(subject, msg.headers) == 0:
                return
    finally:
        with contextlib.suppress(Error):  # the connection is gone, and the inbox with it
            await sub.unsubscribe()


async def _next(sub: Subscription, stream: str) -> Msg:
    try:
        return await sub.next_msg(timeout=_NEXT_S)
    except (NatsTimeoutError, TimeoutError) as error:
        raise RequestTimeoutError(f"reading {stream}: no answer within {_NEXT_S:g} s") from error
