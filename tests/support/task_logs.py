"""Records logs of tasks as this version writes them, for every later version to fold.

`make task-logs` runs it at a release. It starts a NATS server and all services, carries out tasks
that together meet every type of event, and writes their logs, byte by byte but for the names of
workers, into a folder named for the version, each with what this version folds it to.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL

from agent_controller.tasks.entries import read_entry
from agent_controller.tasks.fold import fold
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas, Task
from atlas.contracts.streams import TextDelta
from atlas.contracts.task_events import (
    SubtaskSpent,
    SubtaskStarted,
    TaskAwaitingApproval,
    TaskPlanned,
)
from atlas.contracts.tasks import TaskAction, TaskControl
from atlas.embedded import standalone
from atlas.nats_settings import NatsSettings

LOGS = Path(__file__).parents[1] / "fixtures" / "task_logs"
ENVIRONMENT = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}
_TENANT = "default"
_DEADLINE_S = 120.0
_WORKER = re.compile(rb'"worker":"([^"]+)"')


def step(id_: str, *depends_on: str, **more: object) -> object:
    needs = list(depends_on)
    return {"id": id_, "capability": "draft", "instruction": "do", "depends_on": needs, **more}


HURRIED = {"timeout_ms": 1, "max_attempts": 2}
"""No model answers in a millisecond: each attempt fails."""


async def approved(atlas: Atlas) -> Task:
    """A plan that is approved, paused and resumed, and completed."""
    plan: list[object] = [step("a"), step("b", "a")]
    task = await atlas.submit("approved", plan=plan, approval="plan", approval_expires_ms=600_000)
    await _until(task, TaskAwaitingApproval)
    await task.pause("a moment")
    await task.resume()
    await task.control(TaskControl(action=TaskAction.APPROVE, by="anna", reason="fine"))
    return task


async def replanned(atlas: Atlas) -> Task:
    """A step that fails twice, and a model that changes the plan."""
    plan: list[object] = [step("a"), step("b", "a", **HURRIED), step("c", "a", "b")]
    return await atlas.submit("replanned", plan=plan, max_replans=1)


async def failed(atlas: Atlas) -> Task:
    """A step that fails for good, and what depends on it."""
    return await atlas.submit("failed", plan=[step("a", **HURRIED), step("b", "a"), step("c")])


async def cancelled(atlas: Atlas) -> Task:
    """A step that is rejected, one that is cancelled, and the end by a person."""
    plan: list[object] = [step("a"), step("b"), step("c")]
    task = await atlas.submit("cancelled", plan=plan, approval="subtasks")
    await _until(task, TaskAwaitingApproval, 3)
    for action, id_ in ((TaskAction.REJECT, "a"), (TaskAction.CANCEL, "b")):
        await task.control(TaskControl(action=action, subtask_id=id_, by="anna", reason="no"))
    await task.cancel("enough")
    return task


async def spent(atlas: Atlas) -> Task:
    """A step that is cancelled while its model answers: what that had used is told."""
    plan: list[object] = [step("a"), step("b")]
    task = await atlas.submit("spent", plan=plan, approval="subtasks", on_failure="best_so_far")
    await _until(task, TaskAwaitingApproval, 2)
    await task.control(TaskControl(action=TaskAction.APPROVE, subtask_id="a"))
    stream_id = await _stream_of(task)
    async with atlas.watch_stream(stream_id) as stream:
        async for event in stream.events():
            if isinstance(event, TextDelta):
                break
    await task.control(TaskControl(action=TaskAction.CANCEL, subtask_id="a"))
    await _until(task, SubtaskSpent)
    await task.control(TaskControl(action=TaskAction.APPROVE, subtask_id="b"))
    return task


async def expired(atlas: Atlas) -> Task:
    """A plan that a model made and that nobody approves."""
    task = await atlas.submit("expired", approval="plan", approval_expires_ms=100)
    await _until(task, TaskPlanned)
    return task


TASKS: tuple[Callable[[Atlas], Awaitable[Task]], ...] = (
    approved,
    replanned,
    failed,
    cancelled,
    expired,
    spent,
)


async def _until(task: Task, kind: type, times: int = 1) -> None:
    async for event in task.events():
        times -= isinstance(event, kind)
        if not times:
            return


async def _stream_of(task: Task) -> str:
    """Where the first subtask that starts can be watched."""
    async for event in task.events():
        if isinstance(event, SubtaskStarted) and event.stream_id is not None:
            return event.stream_id
    raise AssertionError("nothing started")


def folded(stored: list[bytes]) -> dict[str, object]:
    """What a log comes to, without what has its default: later versions have more of that."""
    view = fold(TaskView(_TENANT, "recorded"), map(read_entry, stored))
    status = view.to_status().model_dump(mode="json", exclude_defaults=True)
    return {
        **status,
        "planner": view.planner,
        "replans": view.replans,
        "removed": sorted(view.removed),
        "paused_ms": view.paused_ms,
        "plan": [node.id for node in view.plan or ()],
    }


async def _stored(bus: Bus, task: Task) -> list[bytes]:
    """The log, without the names of the machine's workers."""
    subject = subjects.task_write(_TENANT, task.task_id)
    lines = b"\n".join([one.data async for one in bus.read(subjects.TASKS, subject)])
    for name in set(_WORKER.findall(lines)):
        lines = lines.replace(name, b"worker-1")
    return lines.split(b"\n")


async def record(folder: Path) -> None:
    """Write the logs of this version into a folder."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with (
        asyncio.timeout(_DEADLINE_S),
        standalone(environment=ENVIRONMENT, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        bus = await Bus.connect(NatsSettings(url=stack.nats_url), "recorder")
        try:
            for make in TASKS:
                task = await make(atlas)
                async for _ in task.events():
                    pass
                await asyncio.to_thread(_write, folder / make.__name__, await _stored(bus, task))
        finally:
            await bus.close()


def _write(path: Path, stored: list[bytes]) -> None:
    path.with_suffix(".jsonl").write_bytes(b"".join(entry + b"\n" for entry in stored))
    told = json.dumps(folded(stored), indent=2, ensure_ascii=False)
    path.with_suffix(".view.json").write_text(f"{told}\n")


if __name__ == "__main__":
    asyncio.run(record(LOGS / version("atlas-llm")))
