"""Where a task's subtasks stand, kept so that nobody must look at all of them to find a few.

A decision asks for what can change: what runs, what is ready, what waits for its next attempt, what
can never begin. Each of these is a row of marks, at the subtask's place in the plan or, for what is
to go to the workers, in the order in which it goes. `_standing` says which marks a subtask has;
everything here follows from the records, from scratch (`Progress.of`) and change by change
(`after`) to the same. It is worked out when somebody asks (`Standing`).

What a subtask means to those that depend on it is three counts that they keep: how many of their
needs are not at their end, how many are lost, and how many are hopeless: lost, or sure to be.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, field

from agent_controller.tasks.marks import Marks
from agent_controller.tasks.records import SubtaskRecord
from atlas.contracts.tasks import SubtaskState

type Kind = Literal[
    "planned",
    "left",
    "asking_left",
    "busy",
    "queued",
    "running",
    "clock",
    "due",
    "unscheduled",
    "retrying",
    "asks_first",
    "ready",
    "awaiting",
    "unreachable",
    "failed",
    "asking",
    "hopeless",
    "hopeless_last",
    "abandoned",
]
"""A row of marks; `_standing` says what each is of, and what its numbers are."""
type Key = tuple[Kind, str]
"""A row, and the capability where each has one of its own."""
type _Counts = tuple[int, int, int]
"""Not at its end, lost, hopeless."""

LOST = (SubtaskState.FAILED, SubtaskState.CANCELLED)
"""The ends without a result."""
_BY_URGENCY: frozenset[Kind] = frozenset({"retrying", "asks_first", "ready"})
_NO_MARKS = Marks()
_MOST_PUT_OFF = 256
"""Changes worked out one by one; after more of them, all is worked out from scratch."""


class Layout(Struct, frozen=True):
    """What stays while the plan does. By place: a subtask's number in the order of all."""

    ids: tuple[str, ...] = ()
    places: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    by_urgency: tuple[int, ...] = ()
    """The places, those with the longest paths first."""
    ranks: tuple[int, ...] = ()
    """Where each place stands in `by_urgency`."""
    dependants: tuple[tuple[int, ...], ...] = ()
    spare: tuple[int, ...] = ()
    """Without how many of its needs a subtask can do."""
    last: frozenset[int] = frozenset()
    """Those whose results are the task's."""
    asks_first: bool = False
    """Whether a person must approve each subtask before it begins."""

    @classmethod
    def of(
        cls,
        records: Mapping[str, SubtaskRecord],
        *,
        needed: Callable[[SubtaskRecord], int],
        last: Collection[str],
        asks_first: bool,
    ) -> "Layout":
        """Of all subtasks, in their order.

        Args:
            records: The subtasks.
            needed: How many results a subtask needs.
            last: The ids of those whose results are the task's.
            asks_first: Whether a person must approve each subtask before it begins.
        """
        every = [*records.values()]
        places = {id_: place for place, id_ in enumerate(records)}
        dependants: list[list[int]] = [[] for _ in every]
        for place, record in enumerate(every):
            for need in record.depends_on:
                if need in places:
                    dependants[places[need]].append(place)
        by_urgency = sorted(range(len(every)), key=lambda place: -every[place].path)
        ranks = {place: rank for rank, place in enumerate(by_urgency)}
        return cls(
            ids=tuple(records),
            places=places,
            by_urgency=tuple(by_urgency),
            ranks=tuple(ranks[place] for place in range(len(every))),
            dependants=tuple(map(tuple, dependants)),
            spare=tuple(len(one.depends_on) - needed(one) for one in every),
            last=frozenset(places[id_] for id_ in last),
            asks_first=asks_first,
        )


class Progress(Struct, frozen=True):
    """The marks of all subtasks. Made by `of` from all records, by `after` from what changed."""

    layout: Layout = field(default_factory=Layout)
    needs: tuple[Marks, Marks, Marks] = (_NO_MARKS, _NO_MARKS, _NO_MARKS)
    """By place, of the subtasks that each depends on: not at their end, lost, hopeless."""
    rows: Mapping[Kind, Mapping[str, Marks]] = field(default_factory=lambda: MappingProxyType({}))
    """The marks by kind and capability, "" where all share a row; none without a mark."""

    @classmethod
    def of(cls, layout: Layout, records: Mapping[str, SubtaskRecord]) -> "Progress":
        """From scratch."""
        waits, lost = dict[int, int | None](), dict[int, int | None]()
        for place, record in enumerate(records.values()):
            there = sum(need in layout.places for need in record.depends_on)
            waits[place] = there or None
            lost[place] = len(record.depends_on) - there or None
        needs = (_NO_MARKS.changed(waits), _NO_MARKS.changed(lost), _NO_MARKS.changed(lost))
        return _moved(cls(layout, needs), None, records, range(len(layout.ids)))

    def after(
        self,
        before: Mapping[str, SubtaskRecord],
        now: Mapping[str, SubtaskRecord],
        changed: Iterable[str],
    ) -> "Progress":
        """After a change of some subtasks, of which none is new."""
        return _moved(
            self, before, now, [self.layout.places[id_] for id_ in dict.fromkeys(changed)]
        )

    def count(self, kind: Kind) -> int:
        """How many have a mark."""
        return sum(map(len, self.lanes(kind).values()))

    def row(self, kind: Kind, capability: str = "") -> Marks:
        """One row."""
        return self.rows.get(kind, {}).get(capability, _NO_MARKS)

    def lanes(self, kind: Kind) -> Mapping[str, Marks]:
        """The rows of a kind by capability."""
        return self.rows.get(kind, {})

    def ids(self, kind: Kind, most: int | None = None, capability: str | None = None) -> list[str]:
        """Those with a mark, or one not above `most`, of a capability or of all; in order."""
        return [*self.each(kind, most, capability)]

    def each(
        self, kind: Kind, most: int | None = None, capability: str | None = None
    ) -> Iterator[str]:
        """As `ids`, one after the other, for who needs but the first."""
        lanes = self.lanes(kind)
        rows = lanes.values() if capability is None else [self.row(kind, capability)]
        found = [row.places() if most is None else row.places(most) for row in rows]
        by_urgency, ids = self.layout.by_urgency, self.layout.ids
        for place in found[0] if len(found) == 1 else heapq.merge(*found):
            yield ids[by_urgency[place] if kind in _BY_URGENCY else place]

    def numbers(self, kind: Kind, most: int) -> Iterator[int]:
        """The numbers of a kind that are not above `most`."""
        for row in self.lanes(kind).values():
            yield from (row[place] for place in row.places(most))

    def in_order(self, ids: Iterable[str]) -> list[str]:
        """These as the plan has them."""
        return sorted(ids, key=self.layout.places.__getitem__)

    def rank(self, subtask_id: str) -> int:
        """Where a subtask stands among all, the longest path first; who is not there is last."""
        place = self.layout.places.get(subtask_id)
        return len(self.layout.ids) if place is None else self.layout.ranks[place]

    def least(self, kind: Kind, above: int | None = None) -> int | None:
        """The least number of a kind, or the least above another."""
        found = [row.least(above) for row in self.lanes(kind).values()]
        return min((one for one in found if one is not None), default=None)


class Standing:  # noqa: PLW1641 - compared, and never looked up
    """The progress of some records, worked out at first sight: who reads a long log needs the last.

    Its value follows from what it was made of, and never changes.
    """

    __slots__ = ("_base", "_changed", "_layout", "_progress", "_records")

    def __init__(
        self,
        layout: Layout | None = None,
        records: Mapping[str, SubtaskRecord] | None = None,
    ) -> None:
        """From scratch; without arguments, of nothing."""
        self._layout = layout or Layout()
        self._records = {} if records is None else records
        self._progress: Progress | None = None
        self._base: tuple[Progress, Mapping[str, SubtaskRecord]] | None = None
        self._changed: tuple[str, ...] = ()

    def after(self, records: Mapping[str, SubtaskRecord], changed: Iterable[str]) -> "Standing":
        """After a change of some subtasks, of which none is new."""
        later = Standing(self._layout, records)
        base = (self._progress, self._records) if self._progress is not None else self._base
        since = (*self._changed, *changed)
        if base is not None and len(since) <= _MOST_PUT_OFF:
            later._base, later._changed = base, since
        return later

    @property
    def progress(self) -> Progress:
        """The progress."""
        if self._progress is None:
            if self._base is None:
                self._progress = Progress.of(self._layout, self._records)
            else:
                progress, before = self._base
                self._progress = progress.after(before, self._records, self._changed)
                self._base, self._changed = None, ()
        return self._progress

    def __eq__(self, other: object) -> bool:
        """Whether the subtasks stand the same."""
        return isinstance(other, Standing) and self.progress == other.progress


def _standing(
    layout: Layout, place: int, record: SubtaskRecord, needs: _Counts
) -> Iterator[tuple[Key, int]]:
    """The marks of a subtask; where the number is no time, it is 0."""
    is_planned = record.planned is not None
    if not record.state.is_terminal:
        yield ("left" if is_planned else "asking_left", ""), 0
    if record.abandoned:
        yield ("abandoned", ""), 0
    match record.state:
        case SubtaskState.DISPATCHED:
            yield ("queued", record.capability), record.unheard_from_ms
        case SubtaskState.RUNNING:
            yield ("running", ""), record.unheard_from_ms
        case SubtaskState.RETRYING if record.not_before_ms is not None:
            yield ("retrying", record.capability), record.not_before_ms
        case SubtaskState.RETRYING:
            yield ("unscheduled", ""), 0
        case _:
            pass
    if record.is_live and record.clock_from_ms is not None:
        own_ms = record.planned.timeout_ms if record.planned is not None else None
        if own_ms:  # when its time is up
            yield ("due", ""), record.clock_from_ms + own_ms
        else:  # from when its time counts; how much it has, the limits say
            yield ("clock", ""), record.clock_from_ms
    if is_planned:
        yield from _planned_standing(layout, place, record, needs)


def _planned_standing(
    layout: Layout, place: int, record: SubtaskRecord, needs: _Counts
) -> Iterator[tuple[Key, int]]:
    waits, lost, hopeless = needs
    yield ("planned", ""), 0
    if record.is_live or record.state is SubtaskState.RETRYING:
        yield ("busy", ""), 0
    if record.state is SubtaskState.FAILED:
        yield ("failed", ""), 0
    if record.replan is not None:
        yield ("asking", ""), 0
    if record.state is SubtaskState.AWAITING_APPROVAL and record.waits_from_ms is not None:
        yield ("awaiting", ""), record.waits_from_ms
    if record.state in (SubtaskState.WAITING, SubtaskState.AWAITING_APPROVAL):
        if record.is_rejected or lost > layout.spare[place]:
            yield ("unreachable", ""), 0
        elif record.state is SubtaskState.WAITING and not waits:
            asks_first = layout.asks_first and not record.is_approved
            yield (("asks_first", "") if asks_first else ("ready", record.capability)), 0
    if _is_hopeless(layout, place, record, hopeless):
        yield ("hopeless", ""), 0
        if place in layout.last:
            yield ("hopeless_last", ""), 0


def _is_hopeless(layout: Layout, place: int, record: SubtaskRecord, hopeless: int) -> bool:
    """Whether no result will ever come of it, even if all goes well from here on."""
    if record.state in LOST or record.is_rejected:
        return True
    return not record.attempt and hopeless > layout.spare[place]


def _meaning(layout: Layout, place: int, record: SubtaskRecord, hopeless: int) -> _Counts:
    """What a subtask counts for with those that depend on it."""
    is_hopeless = _is_hopeless(layout, place, record, hopeless)
    return (int(not record.state.is_terminal), int(record.state in LOST), int(is_hopeless))


def _needs_of(progress: Progress, place: int) -> _Counts:
    waits, lost, hopeless = progress.needs
    return waits[place], lost[place], hopeless[place]


_UNTOLD: _Counts = (1, 0, 0)
"""What the needs that are there are taken for before anything is known of them."""


def _moved(
    progress: Progress,
    before: Mapping[str, SubtaskRecord] | None,
    now: Mapping[str, SubtaskRecord],
    changed: Sequence[int],
) -> Progress:
    """With the marks of these places moved, and of those that depend on them; None: all are new."""
    layout = progress.layout
    counts = {place: _needs_of(progress, place) for place in changed}
    """The needs of whoever may stand elsewhere now."""
    told: dict[int, _Counts] = {}
    todo = list(changed)
    while todo:  # ends, because nothing depends on itself
        place = todo.pop()
        id_ = layout.ids[place]
        if place not in told:
            told[place] = (
                _UNTOLD
                if before is None
                else _meaning(layout, place, before[id_], progress.needs[2][place])
            )
        meaning = _meaning(layout, place, now[id_], counts[place][2])
        if meaning == (was := told[place]):
            continue
        told[place] = meaning
        more = tuple(new - old for new, old in zip(meaning, was, strict=True))
        for dependant in layout.dependants[place]:
            waits, lost, hopeless = counts.get(dependant) or _needs_of(progress, dependant)
            counts[dependant] = (waits + more[0], lost + more[1], hopeless + more[2])
            if more[2]:
                todo.append(dependant)
    return _marked(progress, before, now, counts)


def _marked(
    progress: Progress,
    before: Mapping[str, SubtaskRecord] | None,
    now: Mapping[str, SubtaskRecord],
    counts: Mapping[int, _Counts],
) -> Progress:
    """With the needs of these places, and the marks that follow from them and the records."""
    layout = progress.layout
    needs: list[dict[int, int | None]] = [{}, {}, {}]
    moves: dict[Key, dict[int, int | None]] = {}
    for place, counted in counts.items():
        id_ = layout.ids[place]
        was = _needs_of(progress, place)
        for new, old, numbers in zip(counted, was, needs, strict=True):
            if new != old:
                numbers[place] = new or None
        stands = dict(_standing(layout, place, now[id_], counted))
        stood: dict[Key, int] = {}
        if before is not None:
            stood = dict(_standing(layout, place, before[id_], was))
        for key in stood.keys() | stands.keys():
            if stood.get(key) != stands.get(key):
                at = layout.ranks[place] if key[0] in _BY_URGENCY else place
                moves.setdefault(key, {})[at] = stands.get(key)
    rows = dict(progress.rows)
    for (kind, capability), numbers in moves.items():
        row = progress.row(kind, capability).changed(numbers)
        lanes = {**rows.get(kind, {}), capability: row}
        rows[kind] = {name: one for name, one in lanes.items() if one}
    waits, lost, hopeless = (
        row.changed(numbers) if numbers else row
        for row, numbers in zip(progress.needs, needs, strict=True)
    )
    return Progress(
        layout, (waits, lost, hopeless), {kind: lanes for kind, lanes in rows.items() if lanes}
    )
