"""What a handler is given beside its subtask."""

from collections.abc import Awaitable, Callable

from pydantic_core import PydanticSerializationError, to_json

from atlas.client.requests import Prompt, body, messages_of
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import ModelRequest, ModelResponse
from atlas.contracts.tasks import Subtask
from atlas.worker.streaming import ModelStreams

_TASK_INPUTS = "task"
"""The key under which a subtask's inputs hold those of the task."""
_MOST_PROGRESS_BYTES = 64 * 1024

type Tell = Callable[[JsonObject], Awaitable[None]]
"""Reports progress."""


class WorkContext:
    """Models, progress and inputs for one attempt at a subtask.

    Attributes:
        tenant: Whose task it is.
        inputs: What the subtasks made that this one depends on, by their ids; large ones too.
        task_inputs: The named material that came with the task.
    """

    def __init__(
        self,
        tenant: str,
        subtask: Subtask,
        streams: ModelStreams,
        tell: Tell,
        default_model: str | None,
    ) -> None:
        self._subtask = subtask
        self._streams = streams
        self._tell = tell
        self._default_model = default_model
        given = dict(subtask.inputs)
        material = given.pop(_TASK_INPUTS, None)
        self.tenant = tenant
        self.inputs: JsonObject = given
        self.task_inputs: JsonObject = material if isinstance(material, dict) else {}

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
        given = {"messages": messages_of(prompt), "model": model, **fields}
        if given.get("requirements") is None:
            given["requirements"] = self._subtask.requirements
        if model is None and given["requirements"] is None:
            given["model"] = self._default_model
        request, _ = body(ModelRequest, given)
        return await self.ask(request)

    async def ask(self, request: ModelRequest) -> ModelResponse:
        """As `stream`, with a request that is put together already; nothing is filled in.

        Raises:
            AtlasError: As `stream`.
        """
        origin = {
            "task_id": self._subtask.task_id,
            "subtask_id": self._subtask.subtask_id,
            "attempt": str(self._subtask.attempt),
        }
        metadata = {**(request.metadata or {}), **origin}
        return await self._streams.ask(request.model_copy(update={"metadata": metadata}))

    async def progress(self, **what: object) -> None:
        """Tell how far it is, in JSON values of your own; one that is lost is nothing.

        Raises:
            InvalidRequestError: It is no JSON, or more than 64 KiB.
        """
        try:
            size_bytes = len(to_json(what))
        except PydanticSerializationError as error:
            raise InvalidRequestError(f"progress: {error}; give JSON values") from error
        if size_bytes > _MOST_PROGRESS_BYTES:
            raise InvalidRequestError(
                f"progress: {size_bytes} bytes, and {_MOST_PROGRESS_BYTES} are the most; tell how "
                "far it is, and return what it made"
            )
        await self._tell(what)
