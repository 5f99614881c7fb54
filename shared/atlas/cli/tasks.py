"""`atlas task …`: what the commands do."""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from atlas.cli.figures import clock, money, one_line, tokens
from atlas.cli.following import follow
from atlas.cli.output import Output
from atlas.cli.session import DONE, configured, connected
from atlas.cli.submission import Submission, read_inputs
from atlas.cli.survey import tell_who_answers
from atlas.client import Atlas
from atlas.contracts.errors import AtlasError
from atlas.contracts.tasks import TaskStatus, TaskSummary
from atlas.embedded import standalone as everything
from atlas.settings import Settings

_GOAL_WIDTH = 60
_LOG_LINES = 20


async def run(submission: Submission, *, standalone: bool, as_json: bool) -> int:
    """Submit a task and follow it to its end; the exit status says how it ended."""
    output = Output(as_json=as_json)
    settings = configured(runs_router=standalone)
    submission.check(settings.controller.patterns)
    inputs = await asyncio.to_thread(read_inputs, submission.inputs)
    async with _private(settings, output) if standalone else connected(settings) as atlas:
        await tell_who_answers(atlas, output)
        task = await submission.send(atlas, inputs)
        try:
            return await follow(atlas, task, output)
        except asyncio.CancelledError:
            if not standalone:
                output.note(
                    f"task {task.task_id} goes on; see it with `atlas task watch {task.task_id}`, "
                    f"end it with `atlas task cancel {task.task_id}`"
                )
            raise


@asynccontextmanager
async def _private(settings: Settings, output: Output) -> AsyncIterator[Atlas]:
    """A NATS server and services for one command; their logs are shown when they fail."""
    if output.is_terminal:
        output.note("starting a NATS server and the services for this task …")
    with tempfile.TemporaryFile() as log:
        try:
            async with (
                everything(log_to=log) as stack,
                connected(settings, stack.nats_url) as atlas,
            ):
                yield atlas
        except AtlasError:
            output.note(await asyncio.to_thread(_end_of, log))
            raise


def _end_of(log: IO[bytes]) -> str:
    log.seek(0)
    return "".join(line.decode(errors="replace") for line in deque(log, maxlen=_LOG_LINES)).rstrip()


async def submit(submission: Submission, *, as_json: bool) -> int:
    """Submit a task and print where it is."""
    output = Output(as_json=as_json)
    settings = configured()
    submission.check(settings.controller.patterns)
    inputs = await asyncio.to_thread(read_inputs, submission.inputs)
    async with connected(settings) as atlas:
        task = await submission.send(atlas, inputs)
    output.show(task.accepted, task.task_id)
    if output.is_terminal:
        output.note(f"follow it with `atlas task watch {task.task_id}`")
    return DONE


async def watch(task_id: str, *, as_json: bool) -> int:
    """Follow a task that somebody submitted."""
    async with connected() as atlas:
        return await follow(atlas, atlas.task_handle(task_id), Output(as_json=as_json))


async def show(task_id: str, *, as_json: bool) -> int:
    """Show where a task is now."""
    async with connected() as atlas:
        status = await atlas.task(task_id)
    Output(as_json=as_json).show(status, _as_text(status))
    return DONE


async def list_tasks(state: str | None, limit: int, *, as_json: bool) -> int:
    """List tasks, the newest first."""
    output = Output(as_json=as_json)
    async with connected() as atlas:
        found = await atlas.tasks(state=state, limit=limit)
    for one in found:
        output.show(one, _as_row(one))
    if not found and output.is_terminal:
        output.note("no tasks; submit one with `atlas task run --goal …`")
    return DONE


async def control(
    task_id: str,
    action: str,
    subtask: str | None,
    reason: str | None,
    by: str | None,
    *,
    as_json: bool,
) -> int:
    """Pause, resume, cancel, approve or reject; show the resulting state."""
    async with connected() as atlas:
        status = await atlas.control_task(task_id, action, subtask_id=subtask, reason=reason, by=by)
    Output(as_json=as_json).show(status, f"task {task_id}: {status.state.replace('_', ' ')}")
    return DONE


async def delete(task_id: str, *, as_json: bool) -> int:
    """Remove a task that has ended."""
    async with connected() as atlas:
        deleted = await atlas.delete_task(task_id)
    said = (
        f"task {task_id}: deleted, with {deleted.streams} streams, {deleted.objects} objects and "
        f"{deleted.messages} messages"
    )
    Output(as_json=as_json).show(deleted, said)
    return DONE


def _as_row(task: TaskSummary) -> str:
    done = f"{task.subtasks_done}/{task.subtasks}"
    return (
        f"{task.task_id:36}  {task.state.replace('_', ' '):17}  {done:>7}  "
        f"{clock(task.accepted_at_ms)}  {one_line(task.goal, _GOAL_WIDTH)}"
    )


def _as_text(status: TaskStatus) -> str:
    lines = [
        f"task {status.task_id}: {status.state.replace('_', ' ')}",
        f"goal     {one_line(status.goal, 200)}",
        f"usage    {tokens(status.usage)}, {money(status.cost)}",
    ]
    lines += [f"  {one.subtask_id:24}  {one.state.replace('_', ' ')}" for one in status.subtasks]
    if status.error is not None:
        lines.append(f"error    {status.error.message}")
    if status.output_ref is not None:
        lines += ["", f"the output is large; `atlas task watch {status.task_id}` shows it"]
    if isinstance(status.output, str):
        lines += ["", status.output]
    return "\n".join(lines)
