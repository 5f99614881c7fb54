"""Streams: answers of models as they come."""

from atlas.telemetry import names
from deploy.observability.asking import (
    INSTANCE,
    has,
    label,
    quantile,
    rate,
    same,
    share,
    told,
    total,
)
from deploy.observability.boards.parts import (
    FIRST,
    HERE,
    INSTANCES,
    PROVIDER,
    PROVIDERS,
    QUEUE,
    TOKENS,
    WITH_ERROR,
    legend,
    percentiles,
)
from deploy.observability.panels import Board, Limits, Panel, Query

_OF_ENDED = told(names.OPERATION_DURATION, HERE, PROVIDER, part="count")
_ENDED = told(names.STREAMS_ENDED, HERE)
_PACE = told(names.TIME_PER_OUTPUT_CHUNK, HERE, PROVIDER, part="bucket")
_TOOK = told(names.OPERATION_DURATION, HERE, PROVIDER, part="bucket")
_LATENESS = told(names.LOOP_LATENESS, HERE)

STREAMS = Board(
    "atlas-streams",
    "Atlas: streams",
    "Answers of models as they come: how many, how fast, how they end, and what waits.",
    [INSTANCES, PROVIDERS],
    [
        (
            "Now",
            [
                Panel(
                    "Running",
                    [Query(total(told(names.STREAMS_RUNNING, HERE)))],
                    "Streams that routers own now.",
                    width=6,
                    is_number=True,
                ),
                Panel(
                    "Failed",
                    [
                        Query(
                            share(
                                rate(told(names.STREAMS_ENDED, HERE, has(names.OUTCOME, "failed"))),
                                rate(_ENDED),
                            )
                        )
                    ],
                    "Of the streams that ended, the share that failed, refused ones included.",
                    "percentunit",
                    Limits(0.02, 0.05),
                    width=6,
                    is_number=True,
                ),
                Panel(
                    "First content, 95%",
                    [Query(quantile(0.95, FIRST))],
                    "From the claim of a stream to its first content.",
                    "s",
                    Limits(3, 10),
                    width=6,
                    is_number=True,
                ),
                Panel(
                    "Waiting",
                    [
                        Query(
                            total(
                                same(told(names.QUEUE_DEPTH, has(names.QUEUE, "requests")), *QUEUE)
                            )
                        )
                    ],
                    "Requests that no router has taken yet.",
                    limits=Limits(50, 500),
                    width=6,
                    is_number=True,
                ),
            ],
        ),
        (
            "How many, and how they end",
            [
                Panel(
                    "Ended",
                    [Query(rate(_ENDED, names.OUTCOME), legend(names.OUTCOME))],
                    "Streams that ended, by how.",
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Errors",
                    [
                        Query(rate(WITH_ERROR, names.ERROR_TYPE), legend(names.ERROR_TYPE)),
                    ],
                    "Failed streams and embeddings, by the contract's error code.",
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Waiting by lane",
                    [
                        Query(
                            same(told(names.QUEUE_DEPTH, has(names.QUEUE, "requests")), names.LANE),
                            "{{" + label(names.LANE) + "}} waiting",
                        ),
                        Query(
                            same(
                                told(names.QUEUE_IN_PROGRESS, has(names.QUEUE, "requests")),
                                names.LANE,
                            ),
                            "{{" + label(names.LANE) + "}} in progress",
                        ),
                    ],
                    "Requests that wait for a router, and those that one has.",
                ),
            ],
        ),
        (
            "How fast",
            [
                Panel(
                    "Time to first content",
                    percentiles(FIRST, 0.5, 0.95, 0.99),
                    "From the claim of a stream to its first content.",
                    "s",
                    Limits(3, 10),
                ),
                Panel(
                    "Time between chunks",
                    percentiles(_PACE, 0.5, 0.95),
                    "The mean of each stream, pauses left out.",
                    "s",
                ),
                Panel(
                    "Length of streams",
                    percentiles(_TOOK, 0.5, 0.95, 0.99),
                    "From the claim to the end, pauses included; embeddings too.",
                    "s",
                ),
                Panel(
                    "By model",
                    [
                        Query(
                            rate(_OF_ENDED, names.REQUEST_MODEL, names.ACCOUNT),
                            "{{"
                            + label(names.ACCOUNT)
                            + "}}/{{"
                            + label(names.REQUEST_MODEL)
                            + "}}",
                        )
                    ],
                    "Streams and embeddings that ended, by model.",
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Tokens",
                    [Query(rate(TOKENS, names.TOKEN_TYPE), legend(names.TOKEN_TYPE))],
                    "Tokens a second, of failed attempts too.",
                    "short",
                ),
                Panel(
                    "Routers' event loops",
                    [
                        Query(
                            f"{_LATENESS} and on ({INSTANCE}) {told(names.STREAMS_RUNNING)}",
                            "{{instance}}",
                        )
                    ],
                    "How late a router gets to what is due; late routers read slow streams in "
                    "larger pieces.",
                    "s",
                    Limits(0.1, 0.25),
                ),
            ],
        ),
    ],
)
