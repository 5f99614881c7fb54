"""A busy router rests between the reads of slow streams, and a router with time does not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from provider_router.streaming.easing import Easing


class Held:
    """A connection that counts how often it is held, and whether it is now."""

    def __init__(self) -> None:
        self.times = 0
        self.is_held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        self.times += 1
        self.is_held = True
        yield
        self.is_held = False


def late(seconds: float, times: int = 200) -> Easing:
    easing = Easing()
    for _ in range(times):
        easing.saw(seconds)
    return easing


async def rested(easing: Easing, chunks: int = 1) -> int:
    connection = Held()
    await easing.rest(chunks, connection.held)
    assert not connection.is_held
    return connection.times


async def test_a_router_with_time_never_rests():
    assert await rested(Easing()) == 0
    assert await rested(late(0.001)) == 0


async def test_a_late_router_holds_the_connections_of_slow_streams():
    easing, connection = late(0.01), Held()
    resting = asyncio.create_task(easing.rest(1, connection.held))
    await asyncio.sleep(0)
    assert connection.is_held
    await resting
    assert not connection.is_held


async def test_a_fast_provider_is_never_held():
    assert await rested(late(1.0), chunks=100) == 0


async def test_a_router_that_has_caught_up_rests_no_more():
    easing = late(0.01)
    assert await rested(easing) == 1
    for _ in range(200):
        easing.saw(0.0)
    assert await rested(easing) == 0


@given(st.lists(st.floats(-1.0, 100.0), max_size=50))
def test_lateness_is_never_negative_and_never_more_than_was_seen(seen):
    easing = Easing()
    for one in seen:
        easing.saw(one)
    assert 0.0 <= easing.late_s <= max([0.0, *seen])


async def test_lateness_is_measured(monkeypatch):
    easing = Easing()
    told = asyncio.Event()
    monkeypatch.setattr(easing, "saw", lambda _: told.set())
    running = asyncio.create_task(easing.run())
    await asyncio.wait_for(told.wait(), 5)
    running.cancel()
