"""A task's log as lines and as rows."""

import io
import re

import pytest
from rich.console import Console

from atlas.cli import figures
from atlas.cli.board import Board
from atlas.cli.lines import line
from atlas.cli.live_view import draw
from atlas.contracts.errors import ProviderRateLimitError
from atlas.contracts.inference import Cost, Usage, UsageSource
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskDispatched,
    SubtaskFailed,
    SubtaskRetried,
    SubtaskSpent,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskApprovalRejected,
    TaskApproved,
    TaskAwaitingApproval,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskPlanned,
    TaskReplanned,
    TaskResumed,
)
from atlas.contracts.tasks import PlannedSubtask, SubtaskState, TaskRequest, TaskState

_PLAN = [
    PlannedSubtask(id="research", capability="research", instruction="look"),
    PlannedSubtask(id="write", capability="writing", instruction="w", depends_on=["research"]),
]
_ERROR = ProviderRateLimitError("slow down").to_info()
_SPENT = {"usage": Usage(input_tokens=1000, output_tokens=20), "cost": Cost(total_usd=0.25)}


def _of(kind, **fields) -> TaskEvent:
    event: TaskEvent = kind(task_id="t1", version=1, at_ms=1_000, **fields)
    return event


ACCEPTED = _of(TaskAcceptedEvent, request=TaskRequest(goal="a report"), request_sha256="x")
PLANNED = _of(TaskPlanned, plan=_PLAN, planner="pattern")
NOT_SERVED = _of(
    SubtaskDispatched,
    subtask_id="research",
    attempt=1,
    capability="search",
    stream_id="s1",
    warning="nobody can",
)
STARTED = _of(SubtaskStarted, subtask_id="research", attempt=1, worker="w1", stream_id="s1")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (ACCEPTED, "task t1 accepted: a report"),
        (PLANNED, "planned by pattern: research, write after research"),
        (
            _of(TaskReplanned, added=_PLAN[:1], removed=["old"], reason="too slow"),
            "replanned (too slow): research, without old",
        ),
        (_of(TaskAwaitingApproval), "the plan waits for approval: atlas task approve t1"),
        (
            _of(TaskAwaitingApproval, subtask_id="write"),
            "write waits for approval: atlas task approve t1 --subtask write",
        ),
        (_of(TaskApproved, by="me"), "the plan approved by me"),
        (_of(TaskApprovalRejected, reason="no"), "the plan rejected: no"),
        (
            _of(
                SubtaskDispatched,
                subtask_id="write",
                attempt=2,
                capability="writing",
                stream_id="s2",
            ),
            "write dispatched (writing, attempt 2)",
        ),
        (NOT_SERVED, "research dispatched (search, attempt 1): nobody can"),
        (STARTED, "research started (worker w1, stream s1)"),
        (
            _of(SubtaskSucceeded, subtask_id="research", attempt=1, worker="w1", **_SPENT),
            "research succeeded (1,000 in, 20 out, $0.25)",
        ),
        (
            _of(SubtaskFailed, subtask_id="write", attempt=1, error=_ERROR, final=False),
            "write failed in attempt 1: slow down",
        ),
        (
            _of(SubtaskFailed, subtask_id="write", attempt=3, error=_ERROR, final=True),
            "write failed for good: slow down",
        ),
        (
            _of(SubtaskRetried, subtask_id="write", attempt=2, not_before_ms=0, reason="busy"),
            "write will be tried again, attempt 2: busy",
        ),
        (_of(SubtaskCancelled, subtask_id="write", by="me"), "write cancelled by me"),
        (
            _of(SubtaskSpent, subtask_id="write", attempt=1, worker="w1", **_SPENT),
            "write attempt 1 had used 1,000 in, 20 out, $0.25",
        ),
        (_of(TaskPaused, by="me", reason="lunch"), "paused by me: lunch"),
        (_of(TaskResumed), "resumed"),
        (_of(TaskCompleted, output="x", **_SPENT), "completed (1,000 in, 20 out, $0.25)"),
        (_of(TaskFailed, error=_ERROR, **_SPENT), "failed: slow down"),
        (_of(TaskCancelled, by="me", **_SPENT), "cancelled by me"),
    ],
)
def test_every_entry_of_a_log_is_one_line(event, said):
    assert line(event).partition(" ")[2] == said


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            _of(SubtaskSucceeded, subtask_id="research", attempt=1, worker="w1", **_SPENT),
            "research succeeded (1,000 in, 20 out, $0.25, 4.2s)",
        ),
        (
            _of(SubtaskFailed, subtask_id="write", attempt=1, error=_ERROR, final=False),
            "write failed in attempt 1 after 4.2s: slow down",
        ),
        (_of(TaskCompleted, output="x", **_SPENT), "completed (1,000 in, 20 out, $0.25, 4.2s)"),
        (_of(TaskFailed, error=_ERROR, **_SPENT), "failed after 4.2s: slow down"),
        (_of(TaskCancelled, by="me", **_SPENT), "cancelled after 4.2s by me"),
    ],
)
def test_an_entry_that_ends_something_says_how_long_that_took(event, said):
    assert line(event, took_ms=4_200).partition(" ")[2] == said


def test_what_failed_attempts_used_counts_and_the_running_one_is_estimated():
    board = Board("t1")
    failed = _of(
        SubtaskFailed, subtask_id="research", attempt=1, error=_ERROR, final=False, **_SPENT
    )
    for event in (ACCEPTED, PLANNED, STARTED, failed, STARTED):
        board.take(event)
    board.rows["research"].say("x" * 400)
    drawn = _drawn(board)
    assert "~120 tok" in drawn  # 20 of the failed attempt, and 400 characters
    assert "1,000 in, 20 out, $0.25" in drawn.splitlines()[0]
    board.take(_of(SubtaskSucceeded, subtask_id="research", attempt=2, worker="w1", **_SPENT))
    assert " 40 tok" in _drawn(board)
    assert "2,000 in, 40 out, $0.50" in _drawn(board).splitlines()[0]


def test_the_cost_of_what_comes_is_estimated_by_the_price_of_its_model():
    board = Board("t1")
    failed = _of(
        SubtaskFailed, subtask_id="research", attempt=1, error=_ERROR, final=False, **_SPENT
    )
    for event in (ACCEPTED, PLANNED, STARTED, failed, STARTED):
        board.take(event)
    row = board.rows["research"]
    row.say("x" * 4_000)
    assert _drawn(board).count(" $0.25") == 2  # as long as no price is known
    board.prices, row.model = {"a/one": 50.0}, "a/one"
    assert _drawn(board).count("~$0.30") == 2  # of the subtask, and of the whole
    board.take(_of(SubtaskSucceeded, subtask_id="research", attempt=2, worker="w1", **_SPENT))
    assert _drawn(board).count(" $0.50") == 2
    assert "~" not in _drawn(board)


def test_what_a_subtask_used_that_the_plan_lost_stays_in_the_total():
    board = Board("t1")
    done = _of(SubtaskSucceeded, subtask_id="research", attempt=1, worker="w1", **_SPENT)
    replanned = _of(TaskReplanned, added=[], removed=["research"], reason="too slow")
    for event in (ACCEPTED, PLANNED, STARTED, done, replanned):
        board.take(event)
    assert list(board.rows) == ["write"]
    assert (board.usage.output_tokens, board.cost.total_usd) == (20, 0.25)
    assert "the plan was changed: too slow" in _drawn(board)


def test_what_a_given_up_attempt_had_used_replaces_its_estimate_and_leaves_that_of_the_next():
    board = Board("t1")
    late = _of(SubtaskFailed, subtask_id="research", attempt=1, error=_ERROR, final=False)
    spent = _of(SubtaskSpent, subtask_id="research", attempt=1, worker="w1", **_SPENT)
    for event in (ACCEPTED, PLANNED, NOT_SERVED, STARTED):
        board.take(event)
    board.rows["research"].say("x" * 400)
    for event in (late, spent):
        board.take(event)
    assert " 20 tok" in _drawn(board)
    again = _of(
        SubtaskDispatched, subtask_id="research", attempt=2, capability="search", stream_id="s2"
    )
    for event in (again, STARTED):
        board.take(event)
    board.rows["research"].say("x" * 400)
    board.take(spent)
    assert "~140 tok" in _drawn(board)


def test_what_was_given_up_of_a_subtask_that_the_plan_lost_is_in_the_total_only():
    board = Board("t1")
    replanned = _of(TaskReplanned, added=[], removed=["research"], reason="too slow")
    spent = _of(SubtaskSpent, subtask_id="research", attempt=1, worker="w1", **_SPENT)
    for event in (ACCEPTED, PLANNED, replanned, spent):
        board.take(event)
    assert list(board.rows) == ["write"]
    assert (board.usage.output_tokens, board.cost.total_usd) == (20, 0.25)


def test_an_approval_that_expires_says_until_when_it_waits():
    said = line(_of(TaskAwaitingApproval, expires_at_ms=3_600_000))
    assert re.search(r"the plan waits for approval until \d\d:\d\d:\d\d: atlas task approve", said)


def test_a_line_break_in_a_goal_does_not_break_the_line():
    event = _of(TaskAcceptedEvent, request=TaskRequest(goal="a\nb"), request_sha256="x")
    assert "\n" not in line(event)


def _drawn(board: Board, width: int = 110, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(draw(board, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_running_subtask_shows_the_end_of_its_answer_and_its_tokens():
    board = Board("t1")
    for event in (ACCEPTED, PLANNED, STARTED):
        board.take(event)
    board.rows["research"].say("x" * 4000 + " the end")
    drawn = _drawn(board)
    assert "a report" in drawn
    assert "the end" in drawn
    assert "~1,002 tok" in drawn
    assert "after research" in drawn
    assert all(len(one) <= 110 for one in drawn.splitlines())


def test_a_restarted_answer_replaces_what_was_shown():
    board = Board("t1")
    for event in (ACCEPTED, PLANNED, STARTED):
        board.take(event)
    row = board.rows["research"]
    row.say("void")
    row.say("new", restart=True)
    assert (row.tail, row.characters) == ("new", 3)


def test_a_subtask_that_no_worker_announces_to_take_says_so_until_one_takes_it():
    board = Board("t1")
    for event in (ACCEPTED, PLANNED, NOT_SERVED):
        board.take(event)
    assert "nobody can" in _drawn(board)
    board.take(STARTED)
    assert "nobody can" not in _drawn(board)


def test_a_failure_is_shown_until_the_next_attempt_starts():
    board = Board("t1")
    failed = _of(SubtaskFailed, subtask_id="research", attempt=1, error=_ERROR, final=False)
    for event in (ACCEPTED, PLANNED, STARTED, failed):
        board.take(event)
    assert "slow down" in _drawn(board)
    board.take(STARTED)
    assert board.rows["research"].state is SubtaskState.RUNNING
    assert "slow down" not in _drawn(board)


def test_what_waits_for_a_person_says_how_to_approve_it():
    board = Board("t1")
    for event in (ACCEPTED, PLANNED, _of(TaskAwaitingApproval)):
        board.take(event)
    assert "atlas task approve t1" in _drawn(board)
    board.take(_of(TaskApproved))
    assert board.state is TaskState.RUNNING
    assert "atlas task approve" not in _drawn(board)


def test_more_subtasks_than_fit_are_counted_and_the_running_ones_are_shown():
    board = Board("t1")
    plan = [PlannedSubtask(id=f"n{one}", capability="c", instruction="i") for one in range(100)]
    board.take(_of(TaskPlanned, plan=plan, planner="caller"))
    board.take(_of(SubtaskStarted, subtask_id="n99", attempt=1, worker="w1"))
    drawn = _drawn(board, height=20)
    assert len(drawn.splitlines()) <= 20
    assert "n99" in drawn
    assert "and 86 more" in drawn


def test_the_end_stands_in_the_header():
    board = Board("t1")
    for event in (ACCEPTED, _of(TaskCompleted, **_SPENT)):
        board.take(event)
    assert "completed" in _drawn(board)


def test_estimates_and_missing_prices_are_marked():
    assert figures.tokens(Usage(output_tokens=5, source=UsageSource.ESTIMATED)) == "~0 in, ~5 out"
    assert figures.money(Cost(total_usd=0.000012, complete=False)) == "≥ $0.000012"
    assert figures.duration(187) == "3m 07s"
