"""Which routers are alive, by their own health events."""

import asyncio

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.events import Event

_BEATS = 3
"""So many beats missed, and a router counts as dead."""
_STOPPED = float("-inf")

log = structlog.get_logger("atlas.peers")


class Peers:
    """Hears the other routers."""

    def __init__(self, router: str, beat_ms: int) -> None:
        self._router = router
        self._patience_s = _BEATS * beat_ms / 1000
        self._heard_s: dict[str, float] = {}
        self._since_s = 0.0

    async def open(self, bus: Bus) -> None:
        """Start listening."""
        self._listen_anew()
        bus.on_reconnect(self._listen_anew)
        await bus.subscribe(
            subjects.events_of("*", "provider_router", "service.health"), self._hear
        )

    def _listen_anew(self) -> None:
        """What nobody could hear while NATS was away is no silence of theirs."""
        self._since_s = asyncio.get_running_loop().time()
        self._heard_s = {router: at for router, at in self._heard_s.items() if at == _STOPPED}

    def is_alive(self, router: str) -> bool:
        """Whether a router is alive; while we have not listened long enough, it is taken to be."""
        if router == self._router:
            return True
        now_s = asyncio.get_running_loop().time()
        return now_s - self._heard_s.get(router, self._since_s) < self._patience_s

    def is_first(self) -> bool:
        """Whether no living router has a lesser name: for what one of them has to do."""
        return all(self._router <= router for router in self._heard_s if self.is_alive(router))

    async def _hear(self, msg: Msg) -> None:
        try:
            event = Event.from_json(msg.data)
        except ValidationError:
            log.debug("not_an_event", subject=msg.subject)
            return
        router = str(event.data.get("instance"))
        if event.data.get("state") == "stopped":
            self._heard_s[router] = _STOPPED
        else:
            self._heard_s[router] = asyncio.get_running_loop().time()
