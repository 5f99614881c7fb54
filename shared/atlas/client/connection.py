"""`Atlas`: one connection, and everything a user can ask for over it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self

from atlas import subjects, telemetry
from atlas.bus import Bus
from atlas.client import choices
from atlas.client.callbacks import Callback, Callbacks
from atlas.client.doors import Request, ask_whole, send_control, store_durably
from atlas.client.embedding import embed
from atlas.client.following import SILENCE_S
from atlas.client.hearing import heard
from atlas.client.keeping import Keeping
from atlas.client.pieces import Piece
from atlas.client.requests import (
    Prompt,
    body,
    checked_id,
    headers_of,
    message_id,
    messages_of,
)
from atlas.client.source import StreamSource
from atlas.client.streams import Stream
from atlas.client.tasks import Task
from atlas.contracts.catalogue import Explanation, ProvidersReply
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.events import Event
from atlas.contracts.ids import new_id
from atlas.contracts.inference import (
    EmbedResponse,
    GenerateRequest,
    ModelRequest,
    ModelResponse,
)
from atlas.contracts.streams import StreamControl, StreamState, StreamStatus
from atlas.contracts.task_events import TaskEvent
from atlas.contracts.tasks import (
    TaskControl,
    TaskList,
    TaskListReply,
    TaskRequest,
    TaskStatus,
    TaskSummary,
)
from atlas.contracts.work import Subtask
from atlas.reading import Reading
from atlas.settings import Settings, load_settings
from atlas.telemetry import names

_SUBMIT = "atlas.{tenant}.task.{task_id}.submit"


class Atlas(Keeping):
    """A connection to Atlas; made with `Atlas.connect`."""

    def __init__(self, bus: Bus, tenant: str, *, silence_s: float = SILENCE_S) -> None:
        super().__init__(bus, tenant)
        self._silence_s = silence_s

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str | None = None,
        *,
        tenant: str | None = None,
        settings: Settings | None = None,
        silence_s: float = SILENCE_S,
    ) -> AsyncIterator[Self]:
        """Connect while the block runs.

        Args:
            url: Where NATS is; by default what the settings (`NATS_URL`) say.
            tenant: Whose streams and tasks; by default what the settings say.
            settings: By default what file and environment say.
            silence_s: How long a watcher may hear nothing, neither events nor a service.

        Raises:
            ConnectionFailedError: No NATS answers; says where it looked and what to start.
            ConfigurationError: The settings are wrong; names every problem.
        """
        settings = settings or load_settings()
        nats = settings.nats if url is None else settings.nats.model_copy(update={"url": url})
        bus = await Bus.connect(nats, "atlas-client")
        try:
            yield cls(bus, checked_id("tenant", tenant or settings.tenant), silence_s=silence_s)
        finally:
            await bus.close()

    async def generate(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        stream_id: str | None = None,
        subtask: Subtask | None = None,
        timeout_s: float = 300.0,
        **fields: object,
    ) -> ModelResponse:
        """Ask a model and wait for its whole answer.

        Args:
            prompt: A question, or the messages of a conversation.
            model: `provider/name` or a name of the catalogue; None: the default model.
            stream_id: An id of one's own; the same id and body again give the same answer.
            subtask: What a worker asks for: it counts against the budget of the whole task.
            timeout_s: How long to wait. The answer is made all the same: watch its stream.
            fields: Further fields of `ModelRequest`.

        Raises:
            InvalidRequestError: The request makes no sense; names every problem.
            AtlasError: What the router answered, as the class that its code names.
            RequestTimeoutError: No answer in time.
        """
        own = checked_id("stream", stream_id or new_id())
        request, data = body(
            GenerateRequest,
            {"messages": messages_of(prompt), "model": model, "stream_id": own, **fields},
        )
        if request.stream:
            raise InvalidRequestError("generate gives whole answers; use atlas.stream")
        headers = headers_of(subtask)
        return await ask_whole(
            self._bus, self.tenant, request, data, headers=headers, timeout_s=timeout_s
        )

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str | None = None,
        subtask: Subtask | None = None,
        timeout_s: float = 120.0,
        **fields: object,
    ) -> EmbedResponse:
        """Turn texts into vectors, one for each, all by the same model.

        Args:
            texts: One text, or as many as you like: they are sent in requests that fit.
            model: `provider/name` or a name of the catalogue; None: the first that is offered.
            subtask: As for `generate`.
            timeout_s: How long to wait for each request.
            fields: Further fields of `EmbedRequest`, such as `dimensions`.

        Raises:
            InvalidRequestError: The request makes no sense; names every problem.
            NoResponderError: No router runs.
            AtlasError: What the router answered, as the class that its code names.
        """
        given = [texts] if isinstance(texts, str) else list(texts)
        asked, headers = {"model": model, **fields}, headers_of(subtask)
        return await embed(
            self._bus, self.tenant, given, asked, headers=headers, timeout_s=timeout_s
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        stream_id: str | None = None,
        subtask: Subtask | None = None,
        lane: str = "interactive",
        cancel_on_exit: bool = False,
        on_state: Callback[StreamState] | None = None,
        on_text: Callback[Piece] | None = None,
        **fields: object,
    ) -> Stream:
        """Ask a model and stream its answer; to be opened with `async with`.

        The request goes through the durable door: it is accepted while every service is down.

        Args:
            prompt: A question, or the messages of a conversation.
            model: `provider/name` or a name of the catalogue; None: the default model.
            stream_id: An id of one's own; the same id and body again are the same stream.
            subtask: As for `generate`; its first stream has the `stream_id` that it brings.
            lane: `interactive` or `batch`.
            cancel_on_exit: Cancel what still runs when the block is left; by default it goes on,
                for a stream outlives its watchers.
            on_state: Called with each new state while the stream is read, and awaited if it is a
                coroutine function. What it raises comes out of the reading, which may go on.
            on_text: The same, with each piece of text that `async for` would give.
            fields: Further fields of `ModelRequest`.

        Raises:
            InvalidRequestError: The request makes no sense; names every problem.
        """
        if lane not in subjects.LANES:
            raise InvalidRequestError(f"there is no lane {lane!r}; take one of {subjects.LANES}")
        given = {"messages": messages_of(prompt), "model": model, **fields}
        _, data = body(ModelRequest, given)
        return Stream(
            self._bus,
            self.tenant,
            checked_id("stream", stream_id or new_id()),
            request=Request(data, model, lane, headers_of(subtask), is_new=stream_id is None),
            callbacks=Callbacks(on_state, on_text),
            cancel_on_exit=cancel_on_exit,
            silence_s=self._silence_s,
        )

    def watch_stream(
        self,
        stream_id: str,
        *,
        from_seq: int = 0,
        on_state: Callback[StreamState] | None = None,
        on_text: Callback[Piece] | None = None,
    ) -> Stream:
        """Watch a stream that somebody else asked for; to be opened with `async with`.

        Args:
            stream_id: Which one.
            from_seq: The first event to give, by default all, such as the one after the last you
                saw; the whole text is known all the same. For the end only take `stream_result`.
            on_state: As `stream` takes it.
            on_text: As `stream` takes it.
        """
        return Stream(
            self._bus,
            self.tenant,
            checked_id("stream", stream_id),
            callbacks=Callbacks(on_state, on_text),
            from_seq=from_seq,
            silence_s=self._silence_s,
        )

    async def stream_result(self, stream_id: str) -> ModelResponse:
        """Wait for the end of a stream that somebody asked for, and give its whole answer.

        Raises:
            AtlasError: What `Stream.result` raises.
            NotFoundError: There is no such stream.
        """
        async with self.watch_stream(stream_id) as stream:
            return await stream.result()

    async def read_stream(self, stream_id: str) -> Reading:
        """A stream as its history tells it now, without waiting for more.

        Raises:
            NotFoundError: There is no such stream.
            NoResponderError: No router runs.
        """
        source = StreamSource(self._bus, self.tenant, checked_id("stream", stream_id))
        position: int | None = 1
        while position is not None:
            page = await source.page(position)
            for event in page.events:
                source.take(event)
            position = page.next_position
        return source.reading

    async def control_stream(
        self, stream_id: str, action: str, *, reason: str | None = None, by: str | None = None
    ) -> StreamStatus:
        """Pause, resume or cancel a stream; gives the resulting state.

        Raises:
            NotFoundError: There is no such stream.
            InvalidTransitionError: The state does not allow it; nothing was changed.
            RequestTimeoutError: No router answers; the control is kept for the next one.
        """
        control, _ = body(StreamControl, {"action": action, "reason": reason, "by": by})
        return await send_control(self._bus, self.tenant, checked_id("stream", stream_id), control)

    async def submit(
        self,
        goal: str,
        *,
        inputs: Mapping[str, object] | None = None,
        plan: list[object] | None = None,
        pattern: str | None = None,
        task_id: str | None = None,
        **fields: object,
    ) -> Task:
        """Submit a task through the durable door: accepted while every service is down.

        Args:
            goal: What is to be reached.
            inputs: Named material, such as the text of files.
            plan: A plan of one's own, instead of `pattern`.
            pattern: How to break the goal down; `auto` by default.
            task_id: An id of one's own; the same id and body again are the same task.
            fields: Further fields of `TaskRequest`.

        Raises:
            InvalidRequestError: The request makes no sense; names every problem.
            PayloadTooLargeError: The inputs are more than a message may hold.
            OverloadedError: More submissions wait than may; nothing was stored.
        """
        given = {"goal": goal, "inputs": inputs, "plan": plan, "pattern": pattern, **fields}
        _, data = body(TaskRequest, given)
        own = checked_id("task", task_id or new_id())
        attributes: dict[str, telemetry.Attribute] = {
            names.TASK_ID: own,
            names.TENANT: self.tenant,
        }
        with telemetry.sending(_SUBMIT, attributes):
            subject = subjects.task_submit(self.tenant, own)
            await store_durably(self._bus, subject, data, message_id(self.tenant, own, data))
        return Task(self._bus, self.tenant, own, is_own=True, silence_s=self._silence_s)

    def task_handle(self, task_id: str) -> Task:
        """A task that somebody submitted, by its id."""
        own = checked_id("task", task_id)
        return Task(self._bus, self.tenant, own, is_own=False, silence_s=self._silence_s)

    def watch_task(self, task_id: str) -> AsyncGenerator[TaskEvent]:
        """The log of a task from its first entry, live, to its terminal one.

        Raises:
            NotFoundError: There is no such task.
            StreamGapError: A part of the log is lost.
            RequestTimeoutError: No event and no controller for too long.
        """
        return self.task_handle(task_id).events()

    async def task(self, task_id: str) -> TaskStatus:
        """Where a task is now. Raises `NotFoundError` where there is none."""
        return await self.task_handle(task_id).status()

    async def tasks(self, *, state: str | None = None, limit: int = 50) -> list[TaskSummary]:
        """Tasks, the newest first."""
        request, _ = body(TaskList, {"state": state, "limit": limit})
        door = subjects.api(self.tenant, "task.list")
        return (await self._bus.request(door, request, TaskListReply)).tasks

    async def control_task(
        self,
        task_id: str,
        action: str,
        *,
        subtask_id: str | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> TaskStatus:
        """Pause, resume, cancel, approve or reject; gives the resulting state.

        Raises:
            NotFoundError: There is no such task.
            InvalidTransitionError: The state does not allow it; nothing was changed.
            RequestTimeoutError: No controller answers.
        """
        given = {"action": action, "subtask_id": subtask_id, "reason": reason, "by": by}
        control, _ = body(TaskControl, given)
        return await self.task_handle(task_id).control(control)

    async def providers(self) -> ProvidersReply:
        """Providers, models, health, circuits and budgets, as one router sees them."""
        return await choices.providers(self._bus, self.tenant)

    async def explain(self, prompt: Prompt, **fields: object) -> Explanation:
        """Which models a router would ask for a request, in their order, and why not others.

        Args:
            prompt: As `generate` takes it.
            fields: Further fields of `ModelRequest`, such as `requirements`.

        Raises:
            InvalidRequestError: The request is not valid, or no model meets its requirements.
        """
        return await choices.explanation(self._bus, self.tenant, prompt, **fields)

    def events(self, source: str = "*", type_: str = ">") -> AsyncGenerator[Event]:
        """What the services tell, from now on, without end. Events inform; none is asked again.

        Args:
            source: A service, such as `provider_router`.
            type_: A type, such as `provider.circuit`, or `provider.>`.
        """
        return heard(self._bus, subjects.events_of(self.tenant, source, type_))
