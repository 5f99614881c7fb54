"""What a user says, turned into the bytes that a door takes. Pure.

Everything is read back strictly before it is sent, so that a misspelt field is named here, with
the nearest known name, and not by a service somewhere else.
"""

import hashlib
from collections.abc import Mapping, Sequence

from pydantic_core import PydanticSerializationError, to_json

from atlas import door
from atlas.contracts.base import UserInput
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.ids import is_id
from atlas.contracts.inference import Message
from atlas.contracts.work import Subtask
from atlas.wire import task_headers

type Prompt = str | Sequence[Message | Mapping[str, object]]
"""A question, or a conversation of messages."""


def messages_of(prompt: Prompt) -> list[object]:
    """The messages of a prompt; a string is one message of the user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def body[M: UserInput](model: type[M], fields: Mapping[str, object]) -> tuple[M, bytes]:
    """The value and its bytes: what was said, in the order of the model's fields.

    Fields that are None are left out. The same values always give the same bytes, as the router's
    own door makes them, for a repeat to be known from a conflict.

    Raises:
        InvalidRequestError: With the path of each problem.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        data = to_json(given, exclude_none=True)
    except PydanticSerializationError as error:
        raise InvalidRequestError(f"the {model.__name__} is not JSON: {error}") from error
    value = door.read(model, data)
    return value, value.model_dump_json(exclude_unset=True).encode()


def headers_of(subtask: Subtask | None) -> dict[str, str]:
    """What goes with a request made for a subtask: the budget that its task's streams share.

    Raises:
        InvalidRequestError: It is something else than a `Subtask`.
    """
    if subtask is None:
        return {}
    if not isinstance(subtask, Subtask):
        raise InvalidRequestError(
            f"subtask is a {type(subtask).__name__}; give the Subtask that the worker got, "
            "as Subtask.from_json reads it from the message"
        )
    return task_headers(subtask.task_id, subtask.task_budget)


def checked_id(kind: str, id_: str) -> str:
    """The id, when it may stand in a subject.

    Raises:
        InvalidRequestError: It may not; says what may.
    """
    if not is_id(id_):
        raise InvalidRequestError(
            f"{id_!r} is no {kind} id: 1 to 64 of the characters A-Z a-z 0-9 _ -"
        )
    return id_


def message_id(tenant: str, id_: str, data: bytes) -> str:
    """The `Nats-Msg-Id` that makes a repeat harmless, and lets another body be seen as another."""
    return f"{tenant}:{id_}:{hashlib.sha256(data).hexdigest()}"
