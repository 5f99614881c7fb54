"""NATS as Atlas sees it: connections, queues, what JetStream holds, and doors."""

from atlas.telemetry import names
from deploy.observability.asking import (
    INSTANCE,
    has,
    lacks,
    quantile,
    rate,
    same,
    share,
    told,
    told_by_process,
    total,
)
from deploy.observability.boards.parts import HERE, INSTANCES, QUEUE, legend
from deploy.observability.panels import Board, Limits, Panel, Query

_DOORS = told(names.DOOR_DURATION, HERE, part="count")
_REFUSED = told(names.DOOR_DURATION, HERE, lacks(names.ERROR_TYPE, ""), part="count")
_PROCESS = ("job", INSTANCE)
_NAME = "{{job}} {{instance}}"
_OURS = total(told(names.NATS_CONNECTED), *_PROCESS)
"""Prometheus asks other processes too."""

_NOW = [
    Panel(
        "Connected",
        [Query(f"sum ({told(names.NATS_CONNECTED, HERE)})")],
        "Services that are connected to NATS.",
        limits=Limits(1, is_bad_below=True),
        width=6,
        is_number=True,
    ),
    Panel(
        "Without NATS",
        [Query(f"sum (1 - {told(names.NATS_CONNECTED, HERE)})")],
        "Services that run and have lost NATS.",
        limits=Limits(1, 1),
        width=6,
        is_number=True,
    ),
    Panel(
        "Dead letters",
        [Query(same(told(names.STORED_MESSAGES, has(names.JETSTREAM, "dead"))))],
        "What nobody could take, kept with the reason.",
        limits=Limits(1, 100),
        width=6,
        is_number=True,
    ),
    Panel(
        "Fullest stream",
        [
            Query(
                "max ("
                + share(
                    same(
                        told(names.STORED_BYTES, lacks(names.JETSTREAM, "events")), names.JETSTREAM
                    ),
                    same(told(names.STORED_LIMIT), names.JETSTREAM),
                )
                + ")"
            )
        ],
        "Of the streams that have a limit; events may be full, they are forgotten in order.",
        "percentunit",
        Limits(0.8, 0.9),
        width=6,
        is_number=True,
        most=1,
    ),
]
_CONNECTIONS = [
    Panel(
        "Reconnects",
        [
            Query(
                f"increase({told(names.NATS_RECONNECTS, HERE)}[$__rate_interval])",
                f"{{{{{INSTANCE}}}}}",
            )
        ],
        "How often a connection broke and came back.",
        limits=Limits(1),
    ),
    Panel(
        "Event loops",
        [Query(told(names.LOOP_LATENESS, HERE), _NAME)],
        "How late a service gets to what is due: a process that has no time answers NATS late.",
        "s",
        Limits(0.1, 0.25),
    ),
    Panel(
        "Doors, 95%",
        [
            Query(
                quantile(0.95, told(names.DOOR_DURATION, HERE, part="bucket"), names.DOOR),
                legend(names.DOOR),
            )
        ],
        "What a service needs to answer at each of its doors.",
        "s",
        Limits(1),
    ),
    Panel(
        "Calls",
        [Query(rate(_DOORS, names.DOOR), legend(names.DOOR))],
        "Calls of doors, a second.",
        "ops",
        stacked=True,
    ),
    Panel(
        "Refused calls",
        [Query(rate(_REFUSED, names.DOOR, names.ERROR_TYPE), legend(names.DOOR, names.ERROR_TYPE))],
        "Calls that were answered with an error, by its code.",
        "ops",
        stacked=True,
    ),
    Panel(
        "Dead letters",
        [Query(same(told(names.STORED_MESSAGES, has(names.JETSTREAM, "dead"))), "kept")],
        "What nobody could take; `atlas doctor` says what to do.",
    ),
]
_STORED = [
    Panel(
        "Waiting",
        [Query(same(told(names.QUEUE_DEPTH), *QUEUE), legend(*QUEUE))],
        "Messages that nobody has taken yet, by queue.",
        width=12,
    ),
    Panel(
        "Taken, not done",
        [Query(same(told(names.QUEUE_IN_PROGRESS), *QUEUE), legend(*QUEUE))],
        "Messages that somebody works on.",
        width=12,
    ),
    Panel(
        "Messages",
        [Query(same(told(names.STORED_MESSAGES), names.JETSTREAM), legend(names.JETSTREAM))],
        "What each stream of JetStream holds.",
    ),
    Panel(
        "Bytes",
        [Query(same(told(names.STORED_BYTES), names.JETSTREAM), legend(names.JETSTREAM))],
        "The same in bytes, on one replica.",
        "bytes",
        stacked=True,
    ),
    Panel(
        "How full",
        [
            Query(
                share(
                    same(told(names.STORED_BYTES), names.JETSTREAM),
                    same(told(names.STORED_LIMIT), names.JETSTREAM),
                ),
                legend(names.JETSTREAM),
            )
        ],
        "Of the limit, where a stream has one: beyond it submits are refused, and the others "
        "forget the oldest.",
        "percentunit",
        Limits(0.8, 0.9),
        most=1,
    ),
]

_PROCESSES = [
    Panel(
        "CPU",
        [Query(f"{rate(told_by_process('cpu_seconds_total'), *_PROCESS)} and {_OURS}", _NAME)],
        "Of one core; a service uses no more than one.",
        "percentunit",
        Limits(0.8, 0.95),
        width=12,
    ),
    Panel(
        "Memory",
        [Query(f"{total(told_by_process('resident_memory_bytes'), *_PROCESS)} and {_OURS}", _NAME)],
        "What each service holds.",
        "bytes",
        width=12,
    ),
]

NATS = Board(
    "atlas-nats",
    "Atlas: NATS",
    "NATS as Atlas sees it: connections, doors, queues, and what JetStream holds.",
    [INSTANCES],
    [
        ("Now", _NOW),
        ("Connections and doors", _CONNECTIONS),
        ("Queues and streams", _STORED),
        ("Processes", _PROCESSES),
    ],
)
