"""`Worker`: handlers by capability, and a process that does their work until SIGTERM."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from atlas import process, subjects
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError, ConfigurationError
from atlas.contracts.events import Offer
from atlas.contracts.ids import is_id
from atlas.contracts.inference import Level
from atlas.objects import Objects
from atlas.service import Context
from atlas.telemetry import meters, names
from atlas.wire import read_event
from atlas.worker.attempt import Attempts, Handler, Handling
from atlas.worker.desk import Desk
from atlas.worker.equipping import equipped
from atlas.worker.function_tools import FunctionTool
from atlas.worker.grants import Grant
from atlas.worker.queue import WorkQueue
from atlas.worker.reporting import Reporter
from atlas.worker.threads import Threads
from atlas.worker.toolbox import Toolbox
from atlas.worker_settings import AgentLimits

NAME = "agent_worker"
"""What every worker is called on the wire; its instance and capabilities tell them apart."""

QUEUE = "workers"

_CONTROLLER = "agent_controller"
"""Who tells of a worker that fell silent."""


@dataclass(frozen=True, slots=True)
class WorkerApp:
    """A worker as the service shell sees it."""

    context: Context
    desk: Desk
    offers: Mapping[str, Offer]
    toolbox: Toolbox
    threads: Threads

    async def drain(self) -> None:
        """Take nothing new; finish what runs within `drain_ms`, or hand it back."""
        await self.desk.drain(self.context.settings.worker.drain_ms / 1000)
        await self.context.events.emit("worker.gone", {**self.who(), "reason": "stopped"})

    async def announce(self) -> None:
        """Tell everybody that it is there, and what it can do."""
        await self.context.events.emit("worker.registered", self.who())

    async def contradict(self, msg: Msg) -> None:
        """It was told to be gone, and is there: it was stopped for a while, or NATS was away."""
        try:
            event = read_event(msg.subject, msg.data)
        except AtlasError:
            return  # anyone may publish there
        if event.data.get("worker") == self.context.instance:
            await self.announce()

    def health(self) -> JsonObject:
        """What it can do and how busy it is, and how its MCP servers are."""
        servers = {name: one.health() for name, one in self.toolbox.servers.items()}
        return {
            **self.who(),
            "running": self.desk.running,
            "concurrency": self.desk.concurrency,
            "free": max(0, self.desk.concurrency - self.desk.running),
            "load": dict(self.desk.load),
            "done": self.desk.done,
            **({"mcp": servers} if servers else {}),
            **({"hung_tools": hung} if (hung := self.threads.left_behind) else {}),
        }

    def metrics(self) -> JsonObject:
        """How the subtasks ended that ended here."""
        return {"subtasks": {"succeeded": self.desk.succeeded, "failed": self.desk.failed}}

    async def look(self) -> None:
        """Tell its gauges."""
        meters.tell(names.WORKER_RUNNING, [(self.desk.running, {})])
        meters.tell(names.WORKER_CONCURRENCY, [(self.desk.concurrency, {})])

    def troubles(self) -> Sequence[str]:
        """That no plain tool can be called any more; all else that it needs is NATS."""
        if self.threads.left_behind < self.threads.most:
            return ()
        said = (
            f"all {self.threads.most} threads for plain tools (worker.tool_threads) hang in calls "
            "that were given up; restart it, and give what the tools wait for a timeout"
        )
        return (said,)

    def who(self) -> JsonObject:
        """Which worker it is, and what it can do."""
        return {
            "worker": self.context.instance,
            "capabilities": list(self.offers),
            "offers": {
                name: offer.model_dump(mode="json", exclude_none=True)
                for name, offer in self.offers.items()
            },
        }


class Worker:
    """Does subtasks of the capabilities that it has handlers for.

    Args:
        concurrency: How many at a time; by default `worker.concurrency` of the settings.

    Raises:
        ConfigurationError: `concurrency` is below one.
    """

    def __init__(self, *, concurrency: int | None = None) -> None:
        if concurrency is not None and concurrency < 1:
            raise ConfigurationError(f"concurrency is {concurrency}; give 1 or more")
        self._concurrency = concurrency
        self._handlings: dict[str, _Registered] = {}
        self._tools: dict[str, FunctionTool] = {}

    def handles[H: Handler](
        self,
        capability: str,
        *,
        level: Level | str = Level.MODERATE,
        description: str | None = None,
        tools: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        limits: AgentLimits | None = None,
        concurrency: int | None = None,
    ) -> Callable[[H], H]:
        """Let the function that follows do subtasks of a capability.

        It is called with the `Subtask` and a `WorkContext`, and gives text or JSON; where the
        subtask has an `output_schema`, text is read as JSON, and what does not satisfy the schema
        is a failed attempt. An `AtlasError` that it raises is the reason why the attempt failed,
        and says whether another may do better; any other exception is a `HandlerFailedError`.

        It may be called again for the same subtask, after a crash or beside a worker that was
        thought to be dead; the first result counts. Give `subtask.idempotency_key` to whatever
        acts on the world.

        Args:
            capability: Its name, by which plans ask for it.
            level: How good it is at it, `basic` to `exceptional`.
            description: What it does, in a line of at most 200 characters. With the level it tells
                a model that plans when to use it.
            tools: What its agents (`ctx.agent`) may use, of this worker and of the settings: names,
                or beginnings with a `*`; None: what `@worker.tool` gives this worker.
            deny: Of these, what they may not.
            limits: Of its agents; by default `worker.limits` of the settings.
            concurrency: How many of it at a time, where fewer than the worker does altogether.

        Raises:
            ConfigurationError: The name cannot stand in a subject, has a handler already, level,
                description or concurrency make no sense, or what follows is no `async def` of two
                arguments.
        """
        if not is_id(capability):
            raise ConfigurationError(
                f"{capability!r} is no capability: 1 to 64 of the characters A-Z a-z 0-9 _ -"
            )
        if capability in self._handlings:
            raise ConfigurationError(
                f"{capability!r} has a handler already; give this one another name"
            )
        if concurrency is not None and concurrency < 1:
            raise ConfigurationError(
                f"{capability!r}: concurrency is {concurrency}; give 1 or more"
            )

        offer = _offer(capability, level, description)

        def take(handler: H) -> H:
            _check(capability, handler)
            grant = Grant(tuple(tools or ()), tuple(deny))
            handling = Handling(handler, grant, limits, concurrency)
            self._handlings[capability] = _Registered(handling, offer, has_all_tools=tools is None)
            return handler

        return take

    @overload
    def tool[F: Callable[..., object]](self, function: F, /) -> F: ...
    @overload
    def tool[F: Callable[..., object]](
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_ms: int | None = None,
    ) -> Callable[[F], F]: ...
    def tool(
        self,
        function: Callable[..., object] | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_ms: int | None = None,
    ) -> Any:
        """Let agents of this worker call the function that follows; `@worker.tool` is enough.

        The model is told of it what its types and its docstring say: the summary, and of each
        argument what stands under `Args:`. What it calls it with is checked before. A plain
        function runs in a thread; an `async` one must not block. A parameter of the type
        `ToolContext` gets what is known of the call. It gives text or what JSON can say; what it
        raises the model reads, and may do better. It may be called again for the same call, after a
        crash: give `context.idempotency_key` to whatever acts on the world.

        Args:
            function: What to call.
            name: As models call it; by default the function's name.
            description: By default the docstring's.
            timeout_ms: Of a call; by default `worker.tool_timeout_ms` of the settings.

        Raises:
            ConfigurationError: No model could use it, or the name is taken; says why.
        """

        def take(function: Callable[..., object]) -> Callable[..., object]:
            made = FunctionTool(function, name=name, description=description, timeout_ms=timeout_ms)
            if made.name == "read_result":
                raise ConfigurationError(
                    "'read_result' is the name of Atlas's own tool; give this one another name"
                )
            if made.name in self._tools:
                raise ConfigurationError(
                    f"there is a tool {made.name!r} already; give this one another name"
                )
            self._tools[made.name] = made
            return function

        return take if function is None else take(function)

    def run(self) -> None:
        """Do work until SIGTERM or SIGINT, then drain; the process's whole life.

        Settings are those of every service: `NATS_URL`, `ATLAS_*`, `atlas.yaml`. Exits with 2 and
        one line on stderr when they are wrong, NATS is away or there is no handler.
        """
        process.run(NAME, QUEUE, self.compose)

    @contextlib.asynccontextmanager
    async def compose(self, context: Context) -> AsyncIterator[WorkerApp]:
        """Build the worker on a context, and run it."""
        if not self._handlings:
            raise ConfigurationError(
                'there is nothing that this worker can do; put @worker.handles("…") before an '
                "async function"
            )
        settings, bus = context.settings, context.bus
        handlings = {name: one.complete(self._tools) for name, one in self._handlings.items()}
        grants = [one.grant for one in handlings.values()]
        objects = Objects(bus)
        async with equipped(self._tools.values(), settings.worker, grants, objects) as agents:
            queue = WorkQueue(bus, settings.topology, list(handlings))
            attempts = Attempts(
                bus,
                objects,
                handlings,
                agents,
                default_model=settings.worker.model,
                silence_s=settings.worker.stream_timeout_ms / 1000,
            )
            desk = Desk(
                worker=context.instance,
                bus=bus,
                queue=queue,
                attempts=attempts,
                reporter=Reporter(bus, context.instance),
                objects=objects,
                events=context.events,
                concurrency=self._concurrency or settings.worker.concurrency,
                bounds={
                    name: one.concurrency for name, one in handlings.items() if one.concurrency
                },
                ack_wait_s=settings.topology.ack_wait_ms / 1000,
            )
            await queue.open()
            offers = {name: one.offer for name, one in self._handlings.items()}
            app = WorkerApp(context, desk, offers, agents.toolbox, agents.caller.threads)
            gone = subjects.events_of(settings.tenant, _CONTROLLER, "worker.gone")
            told = await bus.subscribe(gone, app.contradict)
            async with asyncio.TaskGroup() as group:
                taking = group.create_task(desk.run())
                await app.announce()
                try:
                    yield app
                finally:
                    taking.cancel()
                    with contextlib.suppress(NatsError):  # the connection is closed already
                        await told.unsubscribe()
                    await queue.close()


@dataclass(frozen=True, slots=True)
class _Registered:
    """A handler as it was registered, maybe before some of the tools that it may use."""

    handling: Handling
    offer: Offer
    has_all_tools: bool

    def complete(self, tools: Mapping[str, FunctionTool]) -> Handling:
        """The handling, with the tools of its worker where none are named."""
        if not self.has_all_tools:
            return self.handling
        grant = replace(self.handling.grant, tools=tuple(tools))
        return replace(self.handling, grant=grant)


def _offer(capability: str, level: Level | str, description: str | None) -> Offer:
    levels = [one.value for one in Level if one is not Level.NONE]
    if level not in levels:
        raise ConfigurationError(
            f"the level of {capability!r} is {level!r}; give one of {', '.join(levels)}"
        )
    try:
        return Offer(level=Level(level), description=description)
    except ValidationError as error:
        raise ConfigurationError(
            f"the description of {capability!r} is {str(description)[:80]!r}; give one line of 1 "
            "to 200 characters, or none"
        ) from error


def _check(capability: str, handler: object) -> None:
    name = getattr(handler, "__name__", repr(handler))
    if not callable(handler) or not inspect.iscoroutinefunction(handler):
        raise ConfigurationError(
            f"the handler of {capability!r}, {name}, is no `async def`; make it one"
        )
    try:
        inspect.signature(handler).bind(None, None)
    except TypeError as error:
        raise ConfigurationError(
            f"the handler of {capability!r}, {name}, is called with a subtask and a context, and "
            f"does not take them: {error}"
        ) from error
