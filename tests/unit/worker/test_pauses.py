"""The time that an attempt is paused is not time that it used up."""

import time
from types import SimpleNamespace
from typing import Any

from atlas.contracts.work import Subtask
from atlas.worker.agent import _Loop
from atlas.worker.streaming import ModelStreams
from atlas.worker_settings import AgentLimits


def streams() -> ModelStreams:
    subtask = Subtask(
        task_id="t",
        subtask_id="s",
        attempt=1,
        capability="draft",
        instruction="i",
        goal="g",
        stream_id="x",
        idempotency_key="t:s:1",
    )
    nothing: Any = None
    return ModelStreams(nothing, "default", subtask, lane="batch", begin=nothing, silence_s=1)


async def test_a_pause_is_not_counted_while_it_lasts_and_afterwards(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    attempt = streams()
    request: Any = SimpleNamespace(messages=[])
    origin: Any = SimpleNamespace(streams=attempt)
    agent = _Loop(origin, request, origin, AgentLimits(max_ms=10_000))
    now_s += 2
    await attempt.pause()
    now_s += 50
    assert (attempt.active_s(), agent._left_s()) == (2, 8)
    await attempt.resume()
    now_s += 3
    assert (attempt.active_s(), agent._left_s()) == (5, 5)
