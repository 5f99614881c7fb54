"""Tasks: what waits, what is done, how long it takes, and how busy the workers are."""

from atlas.telemetry import names
from deploy.observability.asking import has, label, quantile, rate, same, share, told, total
from deploy.observability.boards.parts import HERE, INSTANCES, QUEUE, legend, percentiles
from deploy.observability.panels import Board, Limits, Panel, Query

_ENDED = told(names.TASK_DURATION, HERE, part="count")
_TASKS = told(names.TASK_DURATION, HERE, part="bucket")
_SUBTASKS = told(names.SUBTASK_DURATION, HERE, part="bucket")
_TOOLS = told(names.TOOL_DURATION, HERE, part="bucket")
_WORK = has(names.QUEUE, "work")
_BUSY = share(total(told(names.WORKER_RUNNING, HERE)), total(told(names.WORKER_CONCURRENCY, HERE)))

_NOW = [
    Panel(
        "Held",
        [Query(total(told(names.TASKS_HELD, HERE)))],
        "Tasks that controllers remember, finished ones that somebody asked for included.",
        width=6,
        is_number=True,
    ),
    Panel(
        "Failed",
        [
            Query(
                share(
                    rate(
                        told(names.TASK_DURATION, HERE, has(names.OUTCOME, "failed"), part="count")
                    ),
                    rate(_ENDED),
                )
            )
        ],
        "Of the tasks that ended, the share that failed.",
        "percentunit",
        Limits(0.02, 0.1),
        width=6,
        is_number=True,
    ),
    Panel(
        "Work that waits",
        [Query(total(same(told(names.QUEUE_DEPTH, _WORK), *QUEUE)))],
        "Subtasks that no worker has taken yet.",
        limits=Limits(100, 1000),
        width=6,
        is_number=True,
    ),
    Panel(
        "Workers busy",
        [Query(_BUSY)],
        "Subtasks in progress, of those that all workers can do at a time.",
        "percentunit",
        Limits(0.9),
        width=6,
        is_number=True,
        most=1,
    ),
]
_WHAT_HAPPENS = [
    Panel(
        "Tasks ended",
        [Query(rate(_ENDED, names.OUTCOME), legend(names.OUTCOME))],
        "Tasks that ended, a second, by how.",
        "ops",
        stacked=True,
    ),
    Panel(
        "Log entries",
        [Query(rate(told(names.TASK_EVENTS, HERE), names.EVENT_TYPE), legend(names.EVENT_TYPE))],
        "What controllers write into the logs of tasks, a second.",
        "ops",
    ),
    Panel(
        "Subtasks ended",
        [
            Query(
                rate(
                    told(names.SUBTASK_DURATION, HERE, part="count"),
                    names.CAPABILITY,
                    names.OUTCOME,
                ),
                legend(names.CAPABILITY, names.OUTCOME),
            )
        ],
        "Attempts at subtasks that ended, a second.",
        "ops",
        stacked=True,
    ),
]
_HOW_LONG = [
    Panel(
        "Tasks take",
        percentiles(_TASKS, 0.5, 0.95),
        "From acceptance to the end, approvals and pauses included.",
        "s",
    ),
    Panel(
        "Subtasks take, 95%",
        [Query(quantile(0.95, _SUBTASKS, names.CAPABILITY), legend(names.CAPABILITY))],
        "From dispatch to the end, so with the time in the queue.",
        "s",
    ),
    Panel(
        "Agents take, 95%",
        [
            Query(
                quantile(0.95, told(names.AGENT_DURATION, HERE, part="bucket"), names.AGENT_NAME),
                legend(names.AGENT_NAME),
            )
        ],
        "What a worker needs for an attempt, without the time in the queue.",
        "s",
    ),
]
_QUEUES_AND_WORKERS = [
    Panel(
        "Work by capability",
        [
            Query(
                same(told(names.QUEUE_DEPTH, _WORK), names.CAPABILITY, names.PRIORITY),
                legend(names.CAPABILITY, names.PRIORITY),
            )
        ],
        "Subtasks that no worker has taken yet.",
        limits=Limits(100, 1000),
    ),
    Panel(
        "Workers",
        [
            Query(total(told(names.WORKER_RUNNING, HERE)), "in progress"),
            Query(total(told(names.WORKER_CONCURRENCY, HERE)), "at most"),
        ],
        "Subtasks in progress, and how many all workers can do at a time.",
    ),
    Panel(
        "Tools",
        [
            Query(
                quantile(0.95, _TOOLS, names.TOOL_NAME),
                "{{" + label(names.TOOL_NAME) + "}} 95%",
            )
        ],
        "What calls of tools take.",
        "s",
    ),
]

TASKS = Board(
    "atlas-tasks",
    "Atlas: tasks",
    "Tasks and their subtasks: what waits, what is done, how long it takes.",
    [INSTANCES],
    [
        ("Now", _NOW),
        ("What happens", _WHAT_HAPPENS),
        ("How long it takes", _HOW_LONG),
        ("Queues and workers", _QUEUES_AND_WORKERS),
    ],
)
