"""A worker tells that it is at it while its reports are fresh, however long messages stay its."""

import asyncio
from typing import Any

import pytest

from atlas.worker.desk import beat
from atlas.worker.reporting import BEAT_S


@pytest.mark.parametrize(("ack_wait_s", "beat_s"), [(600, BEAT_S), (3, 1)])
async def test_reports_come_at_the_beat_also_where_the_ack_wait_is_long(
    monkeypatch, ack_wait_s, beat_s
):
    passed: list[float] = []
    told: list[float] = []

    async def sleep(seconds: float) -> None:
        passed.append(seconds)
        if sum(passed) > 30:
            raise asyncio.CancelledError

    class Silent:
        async def in_progress(self) -> None: ...

        async def progress(self, _what: object) -> None:
            told.append(sum(passed))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    silent: Any = Silent()
    with pytest.raises(asyncio.CancelledError):
        await beat(silent, silent, ack_wait_s)
    assert set(passed) == {beat_s}
    assert told == [5, 10, 15, 20, 25, 30]
