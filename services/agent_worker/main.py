"""The composition root of the agent worker: built-in specialists as handlers of a worker."""

from contextlib import AbstractAsyncContextManager

from agent_worker.execution import Specialists
from agent_worker.specialists import SPECIALISTS
from agent_worker.wishes import Wishes
from atlas.service import Context
from atlas.worker.worker import Worker, WorkerApp


def compose(context: Context) -> AbstractAsyncContextManager[WorkerApp]:
    """Build the worker on a context, and run it."""
    settings = context.settings.worker
    specialists = Specialists(Wishes(context.bus), settings.model)
    worker = Worker()
    for capability in settings.capabilities or SPECIALISTS:
        worker.handles(capability)(specialists.do)
    return worker.compose(context)
