"""Any number of routers, in any order, with lost acknowledgements and deaths: the budget holds."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from provider_router.accounting.budgets import (
    Increment,
    Limit,
    Line,
    Scope,
    Unit,
    granted,
    standing,
)

LIMIT = Limit("acme", Scope.DAY, "2026-07-31", Unit.TOKENS, 1_000)
ROUTERS = st.sampled_from(["a", "b", "c", "d"])


@dataclass
class Counter:
    """What JetStream does: it adds an increment whose id it does not know, and keeps all."""

    value: int = 0
    history: list[tuple[str, Increment]] = field(default_factory=list)

    def add(self, reservation: str, increment: Increment) -> None:
        known = {(whose, one.number) for whose, one in self.history}
        if (reservation, increment.number) not in known:
            self.value += increment.amount
            self.history.append((reservation, increment))

    def of(self, reservation: str) -> list[tuple[int, int]]:
        return [(one.number, one.amount) for whose, one in self.history if whose == reservation]


@dataclass
class Stream:
    """A stream's reservation, as its router knows it."""

    name: str
    router: str
    line: Line = field(default_factory=lambda: Line(LIMIT))
    asked: tuple[int, int] | None = None
    """What it asks for at the least, and what it holds granted before."""
    used: int = 0
    is_settled: bool = False


class Routers(RuleBasedStateMachine):
    """Reserve, extend, give back, settle and die in any order; each increment may be repeated."""

    streams = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.counter = Counter()
        self.all: list[Stream] = []
        self.overrun = 0

    @rule(target=streams, router=ROUTERS)
    def open(self, router: str) -> Stream:
        stream = Stream(f"s{len(self.all)}", router)
        self.all.append(stream)
        return stream

    @rule(stream=streams, asked=st.integers(1, 600), least=st.integers(1, 600))
    def ask(self, stream: Stream, asked: int, least: int) -> None:
        if stream.line.under_way is None and not stream.is_settled:
            stream.line.ask(asked)
            stream.asked = (asked, min(asked, least))

    @rule(stream=streams)
    def arrive_without_an_answer(self, stream: Stream) -> None:
        """The increment is stored, or stored again, and its acknowledgement is lost."""
        if stream.line.under_way is not None:
            self.counter.add(stream.name, stream.line.under_way)

    @rule(stream=streams)
    def be_answered(self, stream: Stream) -> None:
        """It is stored, or was, and the router reads the counter as it is now."""
        line = stream.line
        if line.under_way is None:
            return
        self.counter.add(stream.name, line.under_way)
        line.stands()
        if stream.asked is not None:
            (asked, least), stream.asked = stream.asked, None
            grant = granted(LIMIT.amount, self.counter.value, asked, least)
            stream.line.granted += grant.kept
            if grant.give_back:
                line.ask(-grant.give_back)

    @rule(stream=streams, part=st.floats(0, 1), chunk=st.integers(0, 20))
    def use(self, stream: Stream, part: float, chunk: int) -> None:
        """A stream uses what was granted, and at its end one chunk more."""
        if not stream.is_settled and stream.line.granted:
            used = max(stream.used, int(stream.line.granted * part))
            stream.used = used + (chunk if used == stream.line.granted else 0)

    @rule(stream=streams)
    def settle(self, stream: Stream) -> None:
        if stream.line.under_way is None and not stream.is_settled:
            self._settle(stream, stream.line)

    @rule(stream=streams)
    def come_back(self, stream: Stream) -> None:
        """The stream's router was not dead: it reads what others made of the reservation."""
        if stream.is_settled:
            stream.line.found(*standing(Line(LIMIT), self.counter.of(stream.name)))
            stream.is_settled, stream.asked = False, None

    @rule(router=ROUTERS, looks=st.integers(1, 3))
    def die_and_be_reconciled(self, router: str, looks: int) -> None:
        """The router is gone; one or more others settle what it held, by what history says."""
        for stream in self.all:
            if stream.router == router and not stream.is_settled:
                found = [self._of_history(stream) for _ in range(looks)]
                for line in found:  # each saw the same history before any of them settled
                    self._settle(stream, line)

    def _settle(self, stream: Stream, line: Line) -> None:
        if stream.used != line.held:
            self.counter.add(stream.name, line.ask(stream.used - line.held))
        self.overrun += 0 if stream.is_settled else max(0, stream.used - stream.line.granted)
        stream.is_settled, stream.line.under_way = True, None

    def _of_history(self, stream: Stream) -> Line:
        line = Line(LIMIT)
        line.found(*standing(line, self.counter.of(stream.name)))
        return line

    @invariant()
    def what_is_granted_never_exceeds_the_limit(self) -> None:
        spent = sum(one.used for one in self.all if one.is_settled)
        held = sum(one.line.granted for one in self.all if not one.is_settled)
        assert spent + held <= LIMIT.amount + self.overrun

    @invariant()
    def what_is_granted_stands_in_the_counter(self) -> None:
        spent = sum(one.used for one in self.all if one.is_settled)
        held = sum(one.line.granted for one in self.all if not one.is_settled)
        assert self.counter.value >= spent + held

    def teardown(self) -> None:
        """All are settled in the end: the counter says what was used, and nothing else."""
        for stream in self.all:
            if not stream.is_settled:
                self._settle(stream, self._of_history(stream))
        assert self.counter.value == sum(one.used for one in self.all)


TestRouters = Routers.TestCase
TestRouters.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
