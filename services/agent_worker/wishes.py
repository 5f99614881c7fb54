"""What a specialist would like of a model is a wish: asked for where some model can grant it.

A subtask's own `requirements` are a demand and are passed on as they are; a wish that no configured
model meets would turn every subtask of a small installation into an error.
"""

import time

import structlog

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.catalogue import ProvidersReply, ProvidersRequest
from atlas.contracts.errors import AtlasError
from atlas.contracts.inference import Level, Requirements

_FRESH_S = 30.0
_ASK_S = 1.0

log = structlog.get_logger("agent_worker")


class Wishes:
    """Knows, from the routers' own door, which models there are."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: ProvidersReply | None = None
        self._asked_at = -_FRESH_S

    async def granted(self, tenant: str, wish: Requirements | None) -> Requirements | None:
        """The wish, or None when no model meets it, or no router says which models there are."""
        if wish is None:
            return None
        if time.monotonic() - self._asked_at > _FRESH_S:
            self._asked_at = time.monotonic()
            await self._ask(tenant)
        return wish if self._known is not None and can_meet(self._known, wish) else None

    async def _ask(self, tenant: str) -> None:
        door = subjects.api(tenant, "providers")
        try:
            self._known = await self._bus.request(
                door, ProvidersRequest(), ProvidersReply, timeout_s=_ASK_S
            )
        except AtlasError as error:  # no router now: what was known stays known
            self._asked_at -= _FRESH_S
            log.debug("models_unknown", error=error.message)


def can_meet(known: ProvidersReply, wish: Requirements) -> bool:
    """Whether a model meets the wish; the mock counts only where there is nothing else."""
    mocks = {one.provider for one in known.providers if one.kind == "mock"}
    real = [one for one in known.models if one.provider not in mocks]
    return any(
        all(
            one.capabilities.get(capability, Level.NONE).rank >= level.rank
            for capability, level in wish.needs().items()
        )
        for one in real or known.models
    )
