"""Two controllers, one log: whatever happens between them, the task ends once and rightly."""

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.controller.task_machine import Controller, Ledger, accepted, report, result
from tests.unit.controller.task_world import LIMITS, START_MS, TERMINAL, node

from agent_controller.planning.planner import check_request
from agent_controller.tasks.effects import wake_at_ms
from agent_controller.tasks.fold import fold
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import ProviderAuthError, ProviderOverloadedError
from atlas.contracts.inference import Budget
from atlas.contracts.tasks import TaskAction, TaskControl, TaskRequest
from atlas.contracts.work import Subtask

WHO = st.sampled_from([0, 1])
MOST = 30
INDEX = st.integers(0, MOST)
CONTROLS = [
    *("approve", "resume", "approve", "resume", "pause", "approve one", "reject one", "cancel one"),
    "nothing",
]
ACCIDENTS = st.sampled_from(["effects", "effects", "nothing", "lost", "crash"])
WORDS = (
    "fails for good",
    "succeeds",
    "fails for good",
    "asks for a change",
    "succeeds",
    "fails for good",
    "fails",
    "starts",
)
FAILURES = {
    "fails": ProviderOverloadedError("busy"),
    "fails for good": ProviderAuthError("no key"),
}
SKEWS_MS = st.sampled_from([0, 0, 250, -250])


@st.composite
def requests(draw) -> TaskRequest:
    """A task with a plan of its own, and everything that may be asked of it."""
    size = draw(st.sampled_from([4, 4, 6, 3, 2, 1]))
    plan = []
    for here in range(size):
        before = draw(st.sets(st.integers(0, here - 1), max_size=3)) if here else set()
        quorum = draw(st.none() | st.integers(1, len(before))) if before else None
        needs = [f"n{there}" for there in sorted(before)]
        plan.append(node(f"n{here}", *needs, quorum=quorum, max_attempts=draw(st.integers(1, 2))))
    on_failure = draw(st.sampled_from([None, None, "quorum", "best_so_far"]))
    approval = draw(st.sampled_from(["none", "none", "plan", "subtasks"]))
    request = TaskRequest(
        goal="g",
        plan=plan,
        max_replans=draw(st.sampled_from([2, 1, 2, 0])),
        on_failure=on_failure,
        quorum=1 if on_failure == "quorum" else None,
        approval=approval,
        approval_expires_ms=draw(st.none() | st.just(60_000)) if approval != "none" else None,
        budget=draw(st.none() | st.integers(10, 100).map(lambda most: Budget(max_tokens=most))),
        deadline_ms=draw(st.none() | st.just(START_MS + 3_600_000)),
    )
    check_request(request)
    return request


@dataclass(frozen=True, slots=True)
class Twist:
    """How an answer to the question for another plan differs from a good one."""

    is_nonsense: bool = False
    also_removed: tuple[int, ...] = ()
    """Subtasks of the plan by their places, whatever became of them."""
    waits_for: int | None = None
    """A further subtask waits for the one at this place."""
    old_id: int | None = None
    """What is added has an id that the plan had at this place, or has."""


TWISTS = st.none() | st.builds(
    Twist,
    is_nonsense=st.integers(0, 7).map(lambda drawn: drawn == 1),
    also_removed=st.lists(INDEX, max_size=2).map(tuple),
    waits_for=st.none() | INDEX,
    old_id=st.none() | st.none() | INDEX,
)


def twisted(good: Any, twist: Twist | None, view: TaskView) -> Any:
    """The good answer, or what a model makes of it."""
    if twist is None:
        return good
    if twist.is_nonsense:
        return "no"
    ids = [one.subtask_id for one in view.planned]
    more = [ids[place % len(ids)] for place in twist.also_removed]
    added = [*good["added"]]
    if twist.waits_for is not None:
        needs = [ids[twist.waits_for % len(ids)]]
        added.append({**FURTHER, "id": f"more-{view.version}", "depends_on": needs})
    if twist.old_id is not None and added:
        old = [*view.removed, *ids]
        added[-1] = {**added[-1], "id": old[twist.old_id % len(old)]}
    return {**good, "added": added, "removed": [*good["removed"], *more]}


FURTHER = {"capability": "general", "instruction": "do"}


class TwoControllers(RuleBasedStateMachine):
    """Every step is one that a process can be interrupted after."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(TaskRequest(goal="g", pattern="single"), (0, 0))

    @initialize(request=requests(), skews=st.tuples(SKEWS_MS, SKEWS_MS))
    def begin(self, request: TaskRequest, skews: tuple[int, int]) -> None:
        self.now_ms = START_MS
        self.server = accepted(request)
        self.controllers = [Controller(self.server, skew) for skew in skews]
        self.ledger = Ledger()
        self.checked = 0
        self.controllers[0].settle(self.now_ms)

    @rule(who=WHO)
    def settle(self, who: int) -> None:
        self.controllers[who].settle(self.now_ms)

    @rule(who=WHO, is_fresh=st.booleans(), appends=st.integers(0, 3), then=ACCIDENTS)
    def step(self, who: int, *, is_fresh: bool, appends: int, then: str) -> None:
        """A part of what a controller does in one go, on what it knows, and what ends it."""
        one = self.controllers[who]
        if is_fresh:
            one.read()
        one.decide(self.now_ms)
        for _ in range(appends):
            one.append()
        if then == "lost":
            one.append(is_ack_lost=True)
        elif then == "crash":
            one.crash()
        elif then == "effects":
            one.carry_out(self.now_ms)

    @rule(ms=st.sampled_from([1, 700, 700, 700, 20_000, 20_000, 61_000, 700_000]))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule(who=WHO, asked=st.sampled_from(CONTROLS), index=INDEX, is_stale=st.booleans())
    def control(self, who: int, asked: str, index: int, *, is_stale: bool) -> None:
        """Anyone controls the task, or one of its subtasks, of which some are no more."""
        one = self.controllers[who]
        if not is_stale:
            one.read()
        if asked == "nothing":  # and of that a part, for it ends the game
            asked = "cancel" if index > MOST // 2 else "reject"
        action, _, of = asked.partition(" ")
        ids = list(one.view.subtasks)
        id_ = ids[index % len(ids)] if of == "one" and ids else None
        one.control(TaskControl(action=TaskAction(action), subtask_id=id_), self.now_ms)
        one.append()

    def pieces(self, *, of_planning: bool) -> list[Subtask]:
        """Work that has no result yet, and that which somebody may do again."""
        work = self.server.work.values()
        return [one for one in work if (one.capability == "planning") is of_planning]

    @precondition(lambda self: self.pieces(of_planning=False))
    @rule(who=WHO, word=st.sampled_from(WORDS))
    def work(self, who: int, word: str) -> None:
        """A worker does what was sent last, and is heard at once."""
        self.say(0, word)
        self.hear(who)

    @precondition(lambda self: self.pieces(of_planning=False))
    @rule(index=INDEX, word=st.sampled_from(WORDS))
    def work_late(self, index: int, word: str) -> None:
        """A worker does something that was sent some time, and perhaps was done already."""
        self.say(index, word)

    def say(self, index: int, word: str) -> None:
        """A worker's word on a piece of work, the last one sent being 0."""
        pieces = self.pieces(of_planning=False)
        piece = pieces[-1 - index % len(pieces)]
        match word:
            case "starts":
                self.server.said.append(report(piece, "started", f"w{index % 2}"))
            case "fails" | "fails for good":
                self.server.said.append(report(piece, "failed", "w1", FAILURES[word]))
            case _:
                output = f"{piece.subtask_id}:{piece.attempt}"
                why = "it must change" if word == "asks for a change" else None
                self.server.put_result(result(piece, output, "w1", why))

    @precondition(lambda self: self.pieces(of_planning=True))
    @rule(who=WHO, twist=TWISTS)
    def plan(self, who: int, twist: Twist | None) -> None:
        """A model answers the last question for another plan."""
        piece = self.pieces(of_planning=True)[-1]
        self.controllers[who].read()
        schema: Any = piece.output_schema
        good = schema["examples"][0]
        answer = twisted(good, twist, self.controllers[who].view)
        self.server.put_result(result(piece, answer, "w1", None))
        self.hear(who)

    def hear(self, who: int) -> None:
        """A controller takes what was said last, and goes on."""
        one = self.controllers[who]
        one.read()
        for said in self.server.said[-1:]:
            one.take(said, self.now_ms)
        while one.append():
            pass
        one.settle(self.now_ms)

    @precondition(lambda self: self.server.said)
    @rule(who=WHO, index=INDEX, is_fresh=st.booleans())
    def deliver(self, who: int, index: int, *, is_fresh: bool) -> None:
        """Something that was said is delivered, for the first time or again, to who may be late."""
        one = self.controllers[who]
        if is_fresh:
            one.read()
        one.take(self.server.said[-1 - index % len(self.server.said)], self.now_ms)

    @invariant()
    def the_log_is_right(self) -> None:
        for entry in self.server.entries()[self.checked :]:
            self.checked += 1
            self.ledger.take(entry)

    def teardown(self) -> None:
        """From here on nothing goes wrong: the task ends, and says all that it did."""
        last = Controller(self.server)
        for _ in range(60):
            last.settle(self.now_ms)
            if last.view.end is not None:
                break
            self.help_along(last)
        self.the_log_is_right()
        log = self.server.entries()
        assert [one.type in TERMINAL for one in log].count(True) == 1, "it has no end, or several"
        assert log[-1].type in TERMINAL
        assert last.view == fold(TaskView("default", "t1"), log), "the log tells everything"
        assert self.server.is_closed
        if log[-1].type == "task.failed":
            done = {one.subtask_id for one in last.view.planned if one.state == "succeeded"}
            assert set(log[-1].outputs) == done

    def help_along(self, last: Controller) -> None:
        """What was said is delivered, workers work, people answer, and time passes."""
        for said in list(self.server.said):
            last.take(said, self.now_ms)
            while last.append():
                pass
        for record in last.view.live:
            for piece in list(self.server.work.values()):
                if piece.subtask_id == record.subtask_id:
                    self.server.put_result(result(piece, "at last", "w3", None))
        for action in (TaskAction.RESUME, TaskAction.APPROVE):
            last.control(TaskControl(action=action), self.now_ms)
            while last.append():
                pass
        wake_ms = wake_at_ms(last.view, self.now_ms, LIMITS)
        self.now_ms = max(self.now_ms + 300, min(wake_ms or 0, self.now_ms + 20_000))


TestTwoControllers = TwoControllers.TestCase
TestTwoControllers.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
