"""The subjects of the contract with who sends what there: rows for docs/contract.md."""

from atlas import subjects

type SubjectRow = tuple[str, str, str, str]

TENANT, STREAM, TASK, SUBTASK = "{tenant}", "{stream_id}", "{task_id}", "{subtask_id}"


def public_subjects() -> list[SubjectRow]:
    """Subjects for anyone: subject, who to whom, payload, kept in."""
    api = [
        ("generate", "router", "`GenerateRequest` → `ModelResponse`, `StreamAccepted` if streamed"),
        ("embed", "router", "`EmbedRequest` → `EmbedResponse`"),
        ("stream.history", "router", "`HistoryRequest` → `HistoryReply`"),
        ("stream.feedback", "router", "`StreamFeedback` → `FeedbackTaken`"),
        ("stream.delete", "router", "`StreamDelete` → `StreamDeleted`"),
        ("providers", "router", "`ProvidersRequest` → `ProvidersReply`"),
        ("task.submit", "controller", "`SubmitRequest` → `TaskAccepted`"),
        ("task.get", "controller", "`TaskGet` → `TaskStatus`"),
        ("task.list", "controller", "`TaskList` → `TaskListReply`"),
        ("task.history", "controller", "`TaskHistory` → `TaskHistoryReply`"),
        ("task.delete", "controller", "`TaskDelete` → `TaskDeleted`"),
        ("object.get", "controller", "`ObjectGet` → `ObjectPart`"),
        ("object.put", "controller", "`ObjectPut` → `ObjectTaken`"),
    ]
    doors = [
        (subjects.api(TENANT, name), f"anyone → {who}, request/reply", payload, "")
        for name, who, payload in api
    ]
    lanes = " or ".join(f"`{lane}`" for lane in subjects.LANES)
    return [
        *doors,
        (
            subjects.stream_request(TENANT, STREAM, "{lane}"),
            f"anyone → router: a durable door; lane {lanes}",
            "`ModelRequest`",
            subjects.REQUESTS,
        ),
        (
            subjects.stream_chunk(TENANT, STREAM),
            "→ anyone",
            "`StreamEvent`: what history holds, in its order",
            subjects.STREAMS,
        ),
        (
            subjects.stream_control(TENANT, STREAM),
            "anyone → router, request/reply",
            "`StreamControl` → `StreamStatus`",
            subjects.CONTROL,
        ),
        (
            subjects.task_submit(TENANT, TASK),
            "anyone → controller: a durable door",
            "`TaskRequest`",
            subjects.SUBMITS,
        ),
        (
            subjects.task_log(TENANT, TASK),
            "→ anyone",
            "`TaskEvent`: the truth about a task",
            subjects.TASKS,
        ),
        (
            subjects.task_control(TENANT, TASK),
            "anyone → controller, request/reply",
            "`TaskControl` → `TaskStatus`",
            subjects.CONTROL,
        ),
        (
            subjects.event(TENANT, "{source}", "{type}"),
            "every service → anyone",
            "`Event`",
            subjects.EVENTS,
        ),
    ]


def internal_subjects() -> list[SubjectRow]:
    """Subjects for services and workers: subject, who, payload, kept in."""
    return [
        (subjects.stream_owner(TENANT, STREAM), "router", "`Ownership`", subjects.STREAMS),
        (
            subjects.stream_write(TENANT, STREAM),
            "router",
            "`StreamEvent`; the server republishes what it stored as `.chunk`",
            subjects.STREAMS,
        ),
        (
            subjects.task_write(TENANT, TASK),
            "controller",
            "`TaskEvent`; republished as `.log`",
            subjects.TASKS,
        ),
        (
            subjects.work(TENANT, "{capability}", "{priority}"),
            "controller → worker",
            "`Subtask`",
            subjects.WORK,
        ),
        (
            # The attempt is a number; `report` only writes it down.
            subjects.report(TENANT, TASK, SUBTASK, 0).removesuffix("0") + "{attempt}",
            "worker → controller",
            "`SubtaskReport`",
            subjects.REPORTS,
        ),
        (
            subjects.result(TENANT, TASK, SUBTASK),
            "worker → controller",
            "`SubtaskResult`; the first one wins",
            subjects.REPORTS,
        ),
        (
            subjects.budget(TENANT, "{scope}", "{key}", "{unit}"),
            "router",
            "a counter; scope `day` or `month` (key: the date in UTC) or `task` (key: its id)",
            subjects.BUDGETS,
        ),
        (
            subjects.usage(TENANT, "DAY", "MODEL", "{unit}")
            .replace("DAY", "{date}")
            .replace("MODEL", "{model}"),
            "router",
            "a counter: what was used of a model in a day",
            subjects.BUDGETS,
        ),
        (
            subjects.reservation(TENANT, "{reservation_id}"),
            "router",
            "what a running stream holds of budgets, and for which router",
            subjects.RESERVATIONS,
        ),
        (
            subjects.upload(TENANT, "{object_id}", "{number}"),
            "controller",
            "the bytes of a part of an object, until its last part is there",
            subjects.UPLOADS,
        ),
        (
            subjects.dead(TENANT, "{kind}", "{id}"),
            "every service",
            "`DeadLetter`",
            subjects.DEAD,
        ),
    ]
