"""Examples of a task's request, events and doors."""

from atlas.contracts.base import Contract
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskDispatched,
    SubtaskFailed,
    SubtaskRetried,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskApprovalRejected,
    TaskApproved,
    TaskAwaitingApproval,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHistory,
    TaskHistoryReply,
    TaskPaused,
    TaskPlanned,
    TaskReplanned,
    TaskResumed,
)
from atlas.contracts.tasks import (
    Approval,
    OnFailure,
    Pattern,
    PlannedSubtask,
    Priority,
    SubmitRequest,
    SubtaskState,
    SubtaskView,
    TaskAccepted,
    TaskAction,
    TaskControl,
    TaskGet,
    TaskList,
    TaskListReply,
    TaskRequest,
    TaskState,
    TaskStatus,
    TaskSummary,
)

from .errors_and_events import AT_MS, ERROR
from .inference import BUDGET, COST, REQUIREMENTS, USAGE

ID = "survey-1"
SHA256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
SCHEMA: dict[str, object] = {"type": "object", "required": ["facts"]}

NODE = PlannedSubtask(
    id="facts",
    capability="research",
    instruction="Collect the facts.",
    depends_on=["outline"],
    quorum=1,
    output_schema=SCHEMA,
    requirements=REQUIREMENTS,
    tools=["search"],
    inputs={"topic": "lakes"},
    task_inputs=["lakes"],
    timeout_ms=120_000,
    max_attempts=2,
)
REQUEST = TaskRequest(
    goal="Compare three lakes.",
    inputs={"lakes": ["Zürichsee", "Walensee", "Bodensee"]},
    pattern=Pattern.MAP_REDUCE,
    pattern_options={"over": "lakes"},
    plan=[NODE],
    on_failure=OnFailure.QUORUM,
    quorum=1,
    max_parallel=4,
    budget=BUDGET,
    priority=Priority.HIGH,
    approval=Approval.PLAN,
    deadline_ms=AT_MS + 600_000,
    metadata={"team": "maps"},
)
ACCEPTED = TaskAcceptedEvent(
    task_id=ID, version=1, at_ms=AT_MS, request=REQUEST, request_sha256=SHA256
)
VIEW = SubtaskView(
    subtask_id="facts",
    capability="research",
    instruction="Collect the facts.",
    depends_on=["outline"],
    state=SubtaskState.FAILED,
    attempt=2,
    worker="worker-1",
    stream_id="stream-7",
    output={"facts": []},
    output_ref="default/survey-1/facts",
    error=ERROR,
)
SUMMARY = TaskSummary(
    task_id=ID,
    state=TaskState.RUNNING,
    goal="Compare three lakes.",
    version=7,
    subtasks=4,
    subtasks_done=1,
    accepted_at_ms=AT_MS,
    updated_at_ms=AT_MS + 5_000,
)

TASKS: dict[str, Contract] = {
    "PlannedSubtask": NODE,
    "TaskRequest": REQUEST,
    "SubmitRequest": SubmitRequest(task_id=ID, **dict(REQUEST)),
    "TaskAccepted": TaskAccepted(
        task_id=ID,
        log_subject="atlas.default.task.survey-1.log",
        control_subject="atlas.default.task.survey-1.control",
    ),
    "TaskAcceptedEvent": ACCEPTED,
    "TaskPlanned": TaskPlanned(
        task_id=ID,
        version=2,
        at_ms=AT_MS,
        plan=[NODE],
        planner="last_resort",
        reason="the model's plan had a cycle",
    ),
    "TaskReplanned": TaskReplanned(
        task_id=ID,
        version=9,
        at_ms=AT_MS,
        added=[NODE],
        removed=["guess"],
        reason="the first source was gone",
    ),
    "TaskAwaitingApproval": TaskAwaitingApproval(
        task_id=ID, version=3, at_ms=AT_MS, subtask_id="facts"
    ),
    "TaskApproved": TaskApproved(
        task_id=ID, version=4, at_ms=AT_MS, subtask_id="facts", by="ada", reason="looks right"
    ),
    "TaskApprovalRejected": TaskApprovalRejected(
        task_id=ID, version=4, at_ms=AT_MS, subtask_id="facts", by="ada", reason="too dear"
    ),
    "SubtaskDispatched": SubtaskDispatched(
        task_id=ID,
        version=5,
        at_ms=AT_MS,
        subtask_id="facts",
        attempt=1,
        capability="research",
        stream_id="stream-7",
    ),
    "SubtaskStarted": SubtaskStarted(
        task_id=ID,
        version=6,
        at_ms=AT_MS,
        subtask_id="facts",
        attempt=1,
        worker="worker-1",
        stream_id="stream-7",
    ),
    "SubtaskSucceeded": SubtaskSucceeded(
        task_id=ID,
        version=7,
        at_ms=AT_MS,
        subtask_id="facts",
        attempt=1,
        worker="worker-1",
        output={"facts": ["deep", "cold"]},
        output_ref="default/survey-1/facts",
        usage=USAGE,
        cost=COST,
    ),
    "SubtaskFailed": SubtaskFailed(
        task_id=ID,
        version=7,
        at_ms=AT_MS,
        subtask_id="facts",
        attempt=1,
        worker="worker-1",
        error=ERROR,
        final=False,
        usage=USAGE,
        cost=COST,
    ),
    "SubtaskRetried": SubtaskRetried(
        task_id=ID,
        version=8,
        at_ms=AT_MS,
        subtask_id="facts",
        attempt=2,
        not_before_ms=AT_MS + 500,
        reason="provider_rate_limit",
    ),
    "SubtaskCancelled": SubtaskCancelled(
        task_id=ID, version=8, at_ms=AT_MS, subtask_id="facts", by="ada", reason="not needed"
    ),
    "TaskPaused": TaskPaused(task_id=ID, version=8, at_ms=AT_MS, by="ada", reason="lunch"),
    "TaskResumed": TaskResumed(task_id=ID, version=9, at_ms=AT_MS, by="ada", reason="back"),
    "TaskCompleted": TaskCompleted(
        task_id=ID,
        version=10,
        at_ms=AT_MS,
        output="The Walensee is the coldest.",
        output_ref="default/survey-1/answer",
        lost=["facts"],
        cause=ERROR,
        usage=USAGE,
        cost=COST,
    ),
    "TaskFailed": TaskFailed(
        task_id=ID,
        version=10,
        at_ms=AT_MS,
        error=ERROR,
        outputs={"outline": "three lakes"},
        usage=USAGE,
        cost=COST,
        goal="Compare three lakes.",
    ),
    "TaskCancelled": TaskCancelled(
        task_id=ID,
        version=10,
        at_ms=AT_MS,
        by="ada",
        reason="enough",
        usage=USAGE,
        cost=COST,
    ),
    "TaskControl": TaskControl(
        action=TaskAction.APPROVE, subtask_id="facts", reason="looks right", by="ada"
    ),
    "SubtaskView": VIEW,
    "TaskStatus": TaskStatus(
        task_id=ID,
        state=TaskState.FAILED,
        version=10,
        goal="Compare three lakes.",
        pattern=Pattern.MAP_REDUCE,
        subtasks=[VIEW],
        output="The Walensee is the coldest.",
        output_ref="default/survey-1/answer",
        lost=["facts"],
        cause=ERROR,
        usage=USAGE,
        cost=COST,
        accepted_at_ms=AT_MS,
        updated_at_ms=AT_MS + 5_000,
        error=ERROR,
    ),
    "TaskGet": TaskGet(task_id=ID),
    "TaskList": TaskList(limit=10, state=TaskState.RUNNING),
    "TaskSummary": SUMMARY,
    "TaskListReply": TaskListReply(tasks=[SUMMARY]),
    "TaskHistory": TaskHistory(task_id=ID, from_version=3, limit=100),
    "TaskHistoryReply": TaskHistoryReply(
        events=[ACCEPTED], state=TaskState.PLANNING, next_version=2
    ),
}
