"""How a stream waits while NATS is away, and when it gives up."""

import asyncio

import structlog

from atlas.bus import Bus
from atlas.contracts.errors import AtlasError

_RETRY_S = 0.2
_LONGEST_S = 300.0

log = structlog.get_logger("atlas.writer")


class Outage:
    """The trouble of one stream; between troubles it is `over`."""

    def __init__(self, bus: Bus, stream_id: str) -> None:
        self._bus = bus
        self._stream_id = stream_id
        self._since_s: float | None = None

    def over(self) -> None:
        """What was tried has succeeded."""
        self._since_s = None

    async def until_back(self) -> None:
        """Wait until the server is there.

        Raises:
            ConnectionFailedError: It did not come back.
        """
        await self._bus.wait_connected(_LONGEST_S)

    async def rest(self, error: AtlasError) -> None:
        """Wait before another try.

        Raises:
            AtlasError: `error`, once the trouble has lasted too long.
        """
        now_s = asyncio.get_running_loop().time()
        if self._since_s is None:
            self._since_s = now_s
            log.info("waiting_for_nats", stream=self._stream_id, error=error.message)
        elif now_s - self._since_s > _LONGEST_S:
            raise error
        await asyncio.sleep(_RETRY_S)
        await self.until_back()
