"""What a handler is given beside its subtask."""

from collections.abc import Awaitable, Callable, Sequence

from atlas.client.requests import Prompt, body, messages_of
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import ModelRequest, ModelResponse
from atlas.contracts.work import Subtask
from atlas.worker.progress import Tell, check_progress
from atlas.worker.streaming import ModelStreams
from atlas.worker_settings import AgentLimits

_TASK_INPUTS = "task"
"""The key under which a subtask's inputs hold those of the task."""
_LONGEST_REASON = 4_000

type RunAgent = Callable[
    [ModelRequest, Sequence[str], AgentLimits | None], Awaitable[ModelResponse]
]
"""Answers a request with tools: those that are named, or all that the capability may use."""


class WorkContext:
    """Models, progress and inputs for one attempt at a subtask.

    Attributes:
        tenant: Whose task it is.
        inputs: What the subtasks made that this one depends on, by their ids; large ones too.
        task_inputs: The named material that came with the task.
        replan: Why the rest of the plan must change; set by `ask_to_replan`.
    """

    def __init__(
        self,
        tenant: str,
        subtask: Subtask,
        streams: ModelStreams,
        *,
        run_agent: RunAgent,
        tell: Tell,
        default_model: str | None,
    ) -> None:
        self._subtask = subtask
        self._streams = streams
        self._run_agent = run_agent
        self._tell = tell
        self._default_model = default_model
        given = dict(subtask.inputs)
        material = given.pop(_TASK_INPUTS, None)
        self.tenant = tenant
        self.inputs: JsonObject = given
        self.task_inputs: JsonObject = material if isinstance(material, dict) else {}
        self.replan: str | None = None

    async def stream(
        self, prompt: Prompt, *, model: str | None = None, **fields: object
    ) -> ModelResponse:
        """Ask a model, and wait for its whole answer; anyone may watch it as it comes.

        The first stream has the id that the controller chose. All pause with the task, are
        cancelled with it, and are paid from the subtask's budget. The same question asked again by
        a repeated delivery is answered by the same stream.

        Args:
            prompt: A question, or the messages of a conversation.
            model: `provider/name` or a name of the catalogue; None: by the `requirements` of the
                subtask, or `worker.model` of the settings, or the router's default.
            fields: Further fields of `ModelRequest`.

        Raises:
            InvalidRequestError: The request makes no sense; names every problem.
            AtlasError: How the stream ended, as the class that its code names. Let it pass, and
                the attempt failed for this reason.
        """
        return await self.ask(self._request(prompt, model, fields))

    async def ask(self, request: ModelRequest) -> ModelResponse:
        """As `stream`, with a request that is put together already; nothing is filled in.

        Raises:
            AtlasError: As `stream`.
        """
        return await self._streams.ask(self._marked(request))

    async def agent(
        self,
        prompt: Prompt,
        *,
        tools: Sequence[str] | None = None,
        limits: AgentLimits | None = None,
        model: str | None = None,
        **fields: object,
    ) -> ModelResponse:
        """Let a model work with tools until it has an answer; gives that of its last round.

        The model calls tools, side by side where it asks for several, reads what they answer, and
        is asked again. Each round is a stream like any other. When `limits` are reached it is asked
        once more, without tools, for the best answer that it can give.

        Args:
            prompt: A question, or the messages of a conversation.
            tools: The names of those to offer; None: those that the subtask asks for, or all that
                this capability may use. Never more than the subtask asks for, if it does.
            limits: Of rounds, time, money and calls; None: as the settings say.
            model: As for `stream`.
            fields: Further fields of `ModelRequest`.

        Raises:
            InvalidRequestError: The request makes no sense; names every problem.
            ToolNotGrantedError: A tool is asked for that this capability may not use.
            ToolUnavailableError: A server is away whose tools are needed; another attempt may do.
            AgentLimitError: The model has no answer after its last round.
            AtlasError: How a stream ended, as for `stream`.
        """
        request = self._request(prompt, model, fields)
        return await self.ask_agent(request, tools=tools, limits=limits)

    async def ask_agent(
        self,
        request: ModelRequest,
        *,
        tools: Sequence[str] | None = None,
        limits: AgentLimits | None = None,
    ) -> ModelResponse:
        """As `agent`, with a request that is put together already; nothing is filled in.

        Raises:
            AtlasError: As `agent`.
        """
        asked = self._subtask.tools
        if tools is not None:
            asked = [name for name in tools if not asked or name in asked]
            if not asked:
                return await self.ask(request)
        return await self._run_agent(self._marked(request), asked, limits)

    def _request(
        self, prompt: Prompt, model: str | None, fields: dict[str, object]
    ) -> ModelRequest:
        given = {"messages": messages_of(prompt), "model": model, **fields}
        if given.get("requirements") is None:
            given["requirements"] = self._subtask.requirements
        if model is None and given["requirements"] is None:
            given["model"] = self._default_model
        request, _ = body(ModelRequest, given)
        return request

    def _marked(self, request: ModelRequest) -> ModelRequest:
        """The request with where it comes from."""
        origin = {
            "task_id": self._subtask.task_id,
            "subtask_id": self._subtask.subtask_id,
            "attempt": str(self._subtask.attempt),
        }
        metadata = {**(request.metadata or {}), **origin}
        return request.model_copy(update={"metadata": metadata})

    def ask_to_replan(self, reason: str) -> None:
        """Say with the result that the rest of the plan must change, and why.

        What the handler returns counts all the same. A model changes the plan if the task's
        `max_replans` allows it; of several reasons the last is told.

        Raises:
            InvalidRequestError: There is no reason, or it has more than 4,000 characters.
        """
        if not reason.strip() or len(reason) > _LONGEST_REASON:
            raise InvalidRequestError(
                f"ask_to_replan: the reason has {len(reason)} characters; say in 1 to "
                f"{_LONGEST_REASON} what was found and what must change"
            )
        self.replan = reason

    async def progress(self, **what: object) -> None:
        """Tell how far it is, in JSON values of your own; one that is lost is nothing.

        Raises:
            InvalidRequestError: It is no JSON, or more than 64 KiB.
        """
        check_progress(what)
        await self._tell(what)
