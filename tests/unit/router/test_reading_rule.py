"""The reading rule holds whatever way a stream's events take to a watcher."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.errors import ProviderServerError
from atlas.contracts.inference import Cost, FinishReason, StreamMetrics, Usage
from atlas.contracts.streams import (
    AttemptFailed,
    NextStep,
    StreamAdopted,
    StreamCompleted,
    StreamEvent,
    StreamStarted,
    TextDelta,
)
from atlas.reading import Reading, Verdict, text_digest


@dataclass
class Writers:
    """Routers that write one stream, and what of it counts, kept without the reading rule."""

    stored: list[StreamEvent] = field(default_factory=list)
    counting: list[StreamEvent] = field(default_factory=list)
    epoch: int = 10

    def say(self, make: Callable[[int, int], StreamEvent]) -> None:
        """The owner writes its next event."""
        event = make(len(self.counting) + 1, self.epoch)
        self.stored.append(event)
        self.counting.append(event)

    def text(self, text: str) -> None:
        self.say(lambda seq, epoch: TextDelta(**_head(seq, epoch), text=text))

    def start(self) -> None:
        self.say(
            lambda seq, epoch: StreamStarted(
                **_head(seq, epoch), provider="p", model="p/m", attempt=1, reason="test"
            )
        )

    def fail(self, step: NextStep) -> None:
        error = ProviderServerError("broken", provider="p").to_info()
        self.say(
            lambda seq, epoch: AttemptFailed(
                **_head(seq, epoch), attempt=1, provider="p", error=error, next=step
            )
        )

    def adopt(self, forgotten: int, step: NextStep, late: int) -> None:
        """Another router takes over from some events back; the old one still writes a few.

        What is forgotten came after the new router read history, so it is nothing but text.
        """
        old_epoch, old_seq = self.epoch, len(self.counting)
        self.epoch += 7
        while forgotten and isinstance(self.counting[-1], TextDelta):
            self.counting.pop()
            forgotten -= 1
        from_seq = len(self.counting)
        from_epoch = self.counting[-1].epoch
        self.say(
            lambda seq, epoch: StreamAdopted(
                **_head(seq, epoch), from_seq=from_seq, from_epoch=from_epoch, attempt=2, next=step
            )
        )
        for place in range(1, late + 1):
            head = _head(old_seq + place, old_epoch)
            self.stored.append(TextDelta(**head, text="from the dead "))

    def complete(self) -> None:
        length, sha256 = text_digest(self.answer())
        self.say(
            lambda seq, epoch: StreamCompleted(
                **_head(seq, epoch),
                finish_reason=FinishReason.STOP,
                usage=Usage(),
                cost=Cost(),
                metrics=StreamMetrics(),
                events=seq,
                text_length=length,
                text_sha256=sha256,
            )
        )

    def answer(self) -> str:
        texts: list[str] = []
        for event in self.counting:
            if isinstance(event, TextDelta):
                texts.append(event.text)
            elif isinstance(event, StreamAdopted | AttemptFailed) and event.next == "restart":
                texts.clear()
        return "".join(texts)


def _head(seq: int, epoch: int) -> dict[str, object]:
    return {"stream_id": "s1", "seq": seq, "epoch": epoch, "at_ms": 0}


STEPS = st.sampled_from(["restart", "continue"])
HAPPENINGS = st.one_of(
    st.tuples(st.just("text"), st.text(max_size=3)),
    st.tuples(st.just("fail"), STEPS),
    st.tuples(st.just("adopt"), st.integers(0, 4), STEPS, st.integers(0, 3)),
)


@st.composite
def streams(draw) -> Writers:
    """A stream from its start to its end, by routers that fail, die and come back."""
    writers = Writers()
    writers.start()
    for what, *how in draw(st.lists(HAPPENINGS, max_size=25)):
        getattr(writers, what)(*how)
    writers.complete()
    for _ in range(draw(st.integers(0, 2))):
        writers.stored.append(TextDelta(**_head(99, 1), text="after the end"))
    return writers


def read(reading: Reading, events: list[StreamEvent]) -> None:
    """Fold a replay, which has no gap."""
    for event in events:
        assert reading.take(event) is not Verdict.GAP


@given(streams())
def test_history_reads_as_what_counts(writers: Writers):
    reading = Reading()
    read(reading, writers.stored)
    assert (reading.text, reading.seq) == (writers.answer(), len(writers.counting))
    assert reading.is_whole()


@given(streams(), st.data())
def test_every_mixture_of_live_and_replayed_events_reads_the_same(writers: Writers, data):
    stored, reading = writers.stored, Reading()
    for place, event in enumerate(stored):
        fate = data.draw(st.sampled_from(["comes", "comes", "is lost", "twice", "after a replay"]))
        if fate == "is lost":
            continue
        if fate == "after a replay":  # and history may be ahead of what is live
            read(reading, stored[: data.draw(st.integers(place, len(stored)))])
        for _ in range(2 if fate == "twice" else 1):
            if reading.take(event) is Verdict.GAP:
                read(reading, stored[: data.draw(st.integers(place + 1, len(stored)))])
                assert reading.take(event) is not Verdict.GAP
    read(reading, stored)
    assert (reading.text, reading.seq) == (writers.answer(), len(writers.counting))
    assert reading.is_whole()


@given(streams(), st.data())
def test_a_watcher_that_comes_late_joins_a_replay_with_what_is_live(writers: Writers, data):
    stored = writers.stored
    subscribed = data.draw(st.integers(0, len(stored)))
    replayed = data.draw(st.integers(subscribed, len(stored)))
    reading = Reading()
    read(reading, stored[:replayed])
    read(reading, stored[subscribed:])
    assert (reading.text, reading.seq) == (writers.answer(), len(writers.counting))


@given(streams(), st.data())
def test_a_gap_is_told_and_never_joined_over(writers: Writers, data):
    counting = writers.counting
    lost = data.draw(st.integers(0, len(counting) - 2))
    reading = Reading()
    read(reading, counting[:lost])
    following = counting[lost + 1]
    is_healing = isinstance(following, StreamAdopted) and following.from_seq <= lost
    assert is_healing or reading.take(following) is Verdict.GAP


def test_a_late_word_of_a_dead_router_is_not_taken_for_the_adoption_that_was_missed():
    writers = Writers()
    writers.start()
    writers.adopt(0, "restart", 1)
    writers.adopt(0, "continue", 0)
    writers.complete()
    started, missed, late, adopted, end = writers.stored
    reading = Reading()
    read(reading, [started, late])
    assert (reading.text, reading.take(adopted)) == ("from the dead ", Verdict.GAP)
    read(reading, [missed, adopted, end])
    assert (reading.text, reading.terminal) == ("", end)
