"""What runs now, as text and as a screen."""

import io

import pytest
from rich.console import Console

from atlas.cli.figures import clock
from atlas.cli.top_view import as_text, draw
from atlas.client.overview import Open, Overview, Providers, Queue, RunningTask
from atlas.client.roll import RunningStream, ServiceSeen
from atlas.contracts.catalogue import GroupInfo, ProviderInfo, Strategy
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.tasks import TaskState

_NOW = 100_000


def _seen(service: str, instance: str, metrics: object = None, **health: object) -> ServiceSeen:
    return ServiceSeen(
        service=service,
        instance=instance,
        state="ready",
        heard_at_ms=_NOW,
        health=health,
        metrics=metrics,
    )


def _queue(consumer: str, waiting: int = 0) -> Queue:
    return Queue(
        stream="ATLAS_WORK", consumer=consumer, waiting=waiting, in_progress=0, delivered_again=0
    )


def _overview(open_tasks: int = 1) -> Overview:
    running = [
        RunningTask(
            task_id=f"t{number}",
            state=TaskState.AWAITING_APPROVAL,
            goal="compare\nlakes",
            subtasks=5,
            subtasks_done=2,
            usage=Usage(input_tokens=10, output_tokens=20),
            cost=Cost(total_usd=0.5),
            accepted_at_ms=_NOW - 65_000,
        )
        for number in range(open_tasks)
    ]
    return Overview(
        at_ms=_NOW,
        services=[
            _seen("agent_controller", "c1", {"decisions": 1_234}, open_tasks=3),
            _seen(
                "agent_worker",
                "w1",
                running=2,
                concurrency=8,
                capabilities=["code", "draft"],
                load={"code": 2},
            ),
            _seen(
                "provider_router",
                "r1",
                {"uptime_ms": 9_000, "streams": {"completed": 5, "failed": 0}},
                streams=2,
                configuration_problem="wrong",
            ),
        ],
        queues=[_queue("workers-code-normal", 7), _queue("workers-draft-low")],
        providers=Providers(
            router="r1",
            providers=[
                ProviderInfo(provider="a", kind="openai", health="healthy", in_flight=2),
                ProviderInfo(provider="b", kind="openai", circuit="open", last_error="refused"),
            ],
            models={"a": 3},
            groups=[
                GroupInfo(group="fast", strategy=Strategy.FAILOVER, members=["a/one", "b/two"])
            ],
        ),
        streams=Open(
            count=2,
            shown=[
                RunningStream(stream_id="s1"),
                RunningStream(stream_id="s2", model="a/one", started_at_ms=_NOW - 1_500),
            ],
        ),
        tasks=Open(count=open_tasks, shown=running),
        unanswered={},
    )


def test_everything_that_runs_stands_in_its_table():
    told = [" ".join(line.split()) for line in as_text(_overview()).splitlines() if line]
    assert told == [
        f"at {clock(_NOW)}",
        "services",
        "service instance state load so far up",
        "agent controller c1 ready open tasks 3 1,234 decisions",
        "provider router r1 ready with an old configuration streams 2 5 completed 9.0s",
        "workers",
        "worker state load so far up can",
        "w1 ready ██░░░░░░ 2/8 code (2), draft",
        "queues",
        "consumer stream waiting in progress delivered again",
        "workers-code-normal ATLAS_WORK 7 0 0",
        "1 empty",
        "providers",
        "provider health circuit in flight models success first token last error",
        "a healthy closed 2 3",
        "b unknown open until its configuration changes 0 0 refused",
        "as router r1 sees them",
        "groups",
        "group strategy candidates away",
        "fast failover a/one b/two",
        "streams (2 open)",
        "stream model since",
        "s2 a/one 1.5s",
        "s1",
        "tasks (1 open)",
        "task state done tokens cost since goal",
        "t0 awaiting approval 2/5 10 in, 20 out $0.50 1m 05s compare lakes",
    ]


@pytest.mark.parametrize("part", ["queues", "providers", "streams", "tasks"])
def test_what_does_not_answer_is_told_beside_the_others(part):
    text = as_text(
        _overview().model_copy(update={part: None, "unanswered": {part: "nobody listens"}})
    )
    assert f"\n{part}\n  nobody listens" in text
    assert "w1" in text


def test_nobody_at_all_is_told_with_what_to_start():
    text = as_text(_overview().model_copy(update={"services": []}))
    assert "atlas up" in text
    assert "atlas-agent-worker" in text


@pytest.mark.parametrize(
    ("height", "tasks", "shown"), [(70, 20, 20), (40, 20, 13), (33, 200, 6), (5, 2, 1)]
)
def test_a_screen_shows_as_many_rows_as_it_has_room_for_and_counts_the_others(height, tasks, shown):
    console = Console(file=io.StringIO(), width=160, height=height, force_terminal=False)
    console.print(draw(_overview(open_tasks=tasks), height))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert sum("awaiting approval" in line for line in lines) == shown
    assert (f"  … and {tasks - shown} more" in lines) is (shown < tasks)
    assert len(lines) <= height or shown == 1
