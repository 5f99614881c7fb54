"""The composition root of the agent worker: specialists as handlers of a worker."""

from contextlib import AbstractAsyncContextManager

from agent_worker.execution import Specialists
from agent_worker.specialists import SPECIALISTS, specialist_for
from agent_worker.wishes import Wishes
from atlas.service import Context
from atlas.worker.worker import Worker, WorkerApp
from atlas.worker_settings import SpecialisationSettings


def compose(context: Context) -> AbstractAsyncContextManager[WorkerApp]:
    """Build the worker on a context, and run it."""
    settings = context.settings.worker
    declared = settings.specialisations
    names = settings.capabilities or [*SPECIALISTS, *declared]  # once each, below
    known = {name: specialist_for(name, declared.get(name)) for name in names}
    specialists = Specialists(known, Wishes(context.bus), settings.model)
    worker = Worker()
    for name in known:
        one = declared.get(name, SpecialisationSettings())
        worker.handles(
            name,
            tools=one.tools,
            deny=one.deny,
            limits=settings.limits_of(name),
            concurrency=one.concurrency,
        )(specialists.do)
    return worker.compose(context)
