"""Workers of your own: functions that do subtasks, with a model where they need one.

For example:

    from atlas.worker import Subtask, Worker, WorkContext

    worker = Worker()


    @worker.handles("translate")
    async def translate(subtask: Subtask, ctx: WorkContext) -> str:
        answer = await ctx.stream(f"{subtask.instruction} {ctx.inputs}")
        return answer.content


    worker.run()

It takes work as long as a hand is free, tells that it is at it, stops what nobody waits for any
more, and acknowledges last: whoever dies before that leaves the work to another. The built-in
agent worker is made of the same parts.
"""

from atlas.contracts.work import Subtask
from atlas.worker.agent import AgentLimitError
from atlas.worker.attempt import HandlerFailedError
from atlas.worker.context import WorkContext
from atlas.worker.output import OutputMismatchError
from atlas.worker.tools import ToolContext, ToolNotGrantedError, ToolUnavailableError
from atlas.worker.worker import Worker
from atlas.worker_settings import AgentLimits

__all__ = [
    "AgentLimitError",
    "AgentLimits",
    "HandlerFailedError",
    "OutputMismatchError",
    "Subtask",
    "ToolContext",
    "ToolNotGrantedError",
    "ToolUnavailableError",
    "WorkContext",
    "Worker",
]
