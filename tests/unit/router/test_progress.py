"""How long a stream has run, and since when it is paused, by its history."""

from typing import Any

import pytest

from atlas.contracts.streams import StreamEvent, StreamPaused, StreamResumed, StreamStarted
from provider_router.streaming.progress import paused_at_ms, ran_ms


def _event(kind: Any, at_ms: int) -> StreamEvent:
    more = {"provider": "p", "model": "p/m", "attempt": 1, "reason": ""}
    given = more if kind is StreamStarted else {}
    event: StreamEvent = kind(stream_id="s", seq=1, epoch=1, at_ms=at_ms, **given)
    return event


@pytest.mark.parametrize(
    ("history", "ran"),
    [
        ([], 0),
        ([(StreamStarted, 100)], 900),
        ([(StreamStarted, 100), (StreamStarted, 500)], 900),
        ([(StreamStarted, 100), (StreamPaused, 300)], 200),
        ([(StreamStarted, 100), (StreamPaused, 300), (StreamResumed, 700)], 500),
        ([(StreamPaused, 300), (StreamResumed, 700), (StreamPaused, 800)], 100),
        ([(StreamStarted, 2_000)], 0),
    ],
)
def test_a_stream_has_run_since_its_first_event_but_for_its_pauses(history, ran):
    assert ran_ms([_event(kind, at_ms) for kind, at_ms in history], 1_000) == ran


@pytest.mark.parametrize(
    ("history", "since"),
    [
        ([(StreamStarted, 100)], None),
        ([(StreamStarted, 100), (StreamPaused, 300)], 300),
        ([(StreamPaused, 300), (StreamStarted, 400), (StreamPaused, 500)], 300),
        ([(StreamPaused, 300), (StreamResumed, 400)], None),
        ([(StreamPaused, 300), (StreamResumed, 400), (StreamPaused, 500)], 500),
    ],
)
def test_a_pause_began_when_it_was_told_first(history, since):
    assert paused_at_ms([_event(kind, at_ms) for kind, at_ms in history]) == since
