"""The thirty lines of docs/streams.md go by the reading rule, as `Reading` does."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.documents import reader_of
from tests.unit.router.test_reading_rule import Writers, streams

from atlas.contracts.streams import StreamEvent
from atlas.reading import Reading, Verdict

type Event = dict[str, Any]


def _take() -> Callable[[list[Event], Event], bool]:
    code: dict[str, Callable[[list[Event], Event], bool]] = {}
    exec(reader_of("streams.md").partition("async def read")[0], code)
    return code["take"]


TAKE = _take()


def test_it_has_thirty_lines():
    assert len(reader_of("streams.md").splitlines()) == 30


@given(streams(), st.data())
def test_it_takes_ignores_and_misses_what_the_rule_does(writers: Writers, data):
    reading = Reading()
    events: list[Event] = [{"type": "", "seq": 0, "epoch": 0}]
    lost: set[int] = data.draw(st.sets(st.integers(0, len(writers.stored))))
    heard: list[StreamEvent] = [
        one for number, one in enumerate(writers.stored) if number not in lost
    ]
    for event in [*heard, *writers.stored]:
        if reading.terminal is not None:
            break
        verdict = reading.take(event)
        assert TAKE(events, event.model_dump(mode="json")) == (verdict is not Verdict.GAP)
        assert (events[-1]["seq"], events[-1]["epoch"]) == (reading.seq, reading.epoch)
    begun = max((n for n, one in enumerate(events) if one.get("next") == "restart"), default=0)
    text = "".join(one["text"] for one in events[begun:] if one["type"] == "text.delta")
    assert text == reading.text
