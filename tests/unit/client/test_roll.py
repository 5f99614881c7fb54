"""Who is there and what runs, as events tell."""

import pytest

from atlas.client.roll import Roll
from atlas.contracts.events import Event


def _event(type_: str, source: str = "agent_worker", **data: object) -> Event:
    return Event(type=type_, source=source, at_ms=1, data=data)


def _beat(instance: str = "w1", state: str = "ready", **more: object) -> Event:
    data = {"instance": instance, "state": state, **more}
    return Event(type="service.health", source="agent_worker", at_ms=1, data=data)


def test_a_service_is_there_with_what_it_said_last():
    roll = Roll(silent_after_ms=5_000)
    roll.hear(_beat(running=1), 0)
    roll.hear(_event("service.metrics", instance="w1", uptime_ms=7), 500)
    roll.hear(_beat(state="draining", running=2, concurrency=True), 1_000)
    (seen,) = roll.services(2_000)
    assert (seen.service, seen.instance, seen.state) == ("agent_worker", "w1", "draining")
    assert (seen.count("running"), seen.count("concurrency")) == (2, None)
    assert seen.metrics == {"instance": "w1", "uptime_ms": 7}


def test_a_service_that_says_nothing_is_silent_and_later_forgotten():
    roll = Roll(silent_after_ms=5_000)
    roll.hear(_beat(), 0)
    assert [one.state for one in roll.services(5_000)] == ["ready"]
    assert [one.state for one in roll.services(5_001)] == ["silent"]
    assert roll.services(60_001) == []
    assert roll.instances == set()


def test_a_service_that_says_that_it_stopped_is_gone_at_once():
    roll = Roll(silent_after_ms=5_000)
    roll.hear(_beat("w1"), 0)
    roll.hear(_beat("w2"), 0)
    roll.hear(_beat("w1", "stopped"), 1)
    assert [one.instance for one in roll.services(1)] == ["w2"]


def test_a_stream_is_known_from_its_start_to_its_end():
    roll = Roll(silent_after_ms=5_000)
    started = {"stream_id": "s1", "model": "mock/standard"}
    roll.hear(_event("stream.started", "provider_router", **started), 0)
    assert roll.stream("s1").model == "mock/standard"
    assert roll.stream("s2").model is None
    roll.hear(_event("stream.failed", "provider_router", stream_id="s1"), 1)
    assert roll.stream("s1").model is None


@pytest.mark.parametrize(
    "event",
    [
        _event("service.health", instance=7, state="ready"),
        _event("service.metrics", instance="unheard"),
        _event("stream.started", stream_id="s1", model=None),
        _event("stream.completed"),
        _event("budget.exceeded", stream_id="s1"),
    ],
)
def test_what_tells_nothing_changes_nothing(event):
    roll = Roll(silent_after_ms=5_000)
    roll.hear(event, 0)
    assert roll.services(0) == []
    assert roll.stream("s1").model is None
