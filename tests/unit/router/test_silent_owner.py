"""A control that comes as its stream is being owned, and that its owner did not hear."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.contracts.streams import StreamState, StreamStatus
from provider_router.handlers import Handlers
from provider_router.streaming.store import StreamAddress

ADDRESS = StreamAddress("default", "s1")


def handlers(status: StreamStatus | None) -> Handlers:
    """Of a router that owns the stream, and whose gate is open or not yet."""
    supervisor = SimpleNamespace(owns=ADDRESS.__eq__, status=lambda _: status)
    given: Any = SimpleNamespace()
    return Handlers(given, given, given, cast("Any", supervisor), given, given)


def pause() -> Msg:
    subject = subjects.stream_control(ADDRESS.tenant, ADDRESS.stream_id)
    return cast("Msg", SimpleNamespace(subject=subject, data=b'{"action":"pause"}', headers=None))


@pytest.mark.parametrize(
    "status", [StreamStatus(stream_id="s1", state=StreamState.PAUSED, seq=3), None]
)
async def test_its_router_answers_with_where_the_stream_is_once_its_gate_is_open(
    status: StreamStatus | None,
):
    assert await handlers(status)._control_answer(pause()) == status
