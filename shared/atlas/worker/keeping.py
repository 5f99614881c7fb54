"""What an attempt made is kept while JetStream does not take it, instead of being made again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas.contracts.errors import (
    ConnectionFailedError,
    NoResponderError,
    RequestTimeoutError,
    StoreRefusedError,
)
from atlas.wire import is_for_want_of_room

_KEPT_S = 600.0
"""Then it is handed back: whoever gets it attaches to the same streams and does the rest anew."""

_AWAY = (ConnectionFailedError, NoResponderError, RequestTimeoutError)

log = structlog.get_logger("atlas.worker")


async def until_stored(
    store: Callable[[], Awaitable[None]], msg: Msg, *, every_s: float, kept_s: float = _KEPT_S
) -> None:
    """Store, again and again while there is no room, or no NATS; the work stays ours meanwhile.

    Raises:
        StoreRefusedError: There was no room for too long, or it is refused for another reason.
        AtlasError: NATS was away for too long.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + kept_s
    while True:
        try:
            await store()
        except (StoreRefusedError, *_AWAY) as error:
            passes = not isinstance(error, StoreRefusedError) or is_for_want_of_room(error)
            if not passes or clock() >= until_s:
                raise
            log.warning("result_kept", subject=msg.subject, error=error.message)
        else:
            return
        with contextlib.suppress(NatsError):  # the next mark may get through
            await msg.in_progress()
        await asyncio.sleep(every_s)
