"""What stands on the wire: headers, acknowledgements, answers and stored messages, as values.

Pure functions from bytes to values and back; `bus` does the sending.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

import msgspec
from pydantic import ValidationError

from atlas import telemetry
from atlas.contracts.base import ATLAS_VERSION, Contract
from atlas.contracts.errors import (
    AtlasError,
    ErrorReply,
    FencedError,
    NoResponderError,
    OverloadedError,
    RequestTimeoutError,
    StoreRefusedError,
    error_from,
)
from atlas.contracts.events import Event
from atlas.contracts.inference import Budget

VERSION_HEADER = "Atlas-Version"
MSG_ID_HEADER = "Nats-Msg-Id"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_OF = "Nats-Expected-Last-Subject-Sequence-Subject"

INCREMENT = "Nats-Incr"
TASK_HEADER = "Atlas-Task"
TASK_BUDGET_HEADER = "Atlas-Task-Budget"
"""On a request that belongs to a task: its id, and the JSON of the `Budget` that all its streams
share."""

NO_MESSAGE = "404"
"""What a direct get answers in the header `Status` in place of a message."""

_SAME_ON_ITS_WAY = 10158  # JSStreamDuplicateMessageConflict, of a cluster
_NO_ROOM = frozenset({10002, 10023, 10028, 10047, 10077})
"""JSAccountResourcesExceeded, JSInsufficientResources (of the server), JSMemoryResourcesExceeded,
JSStorageResourcesExceeded, and a stream's own bound of messages or bytes (JSStreamStoreFailed)."""
_ROOM_AGAIN_MS = 5_000
_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})  # server/errors.json: JSStreamWrongLastSequence…


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a JetStream stream holds it."""

    subject: str
    seq: int
    data: bytes
    headers: Mapping[str, str]

    @property
    def at_ms(self) -> int:
        """When it was stored, by the server's clock."""
        return round(datetime.fromisoformat(self.headers["Nats-Time-Stamp"]).timestamp() * 1000)


def read_stored(data: bytes, headers: Mapping[str, str] | None) -> Stored:
    """A message that a direct get answered."""
    headers = headers or {}
    return Stored(headers["Nats-Subject"], int(headers["Nats-Sequence"]), data, headers)


def status(headers: Mapping[str, str] | None) -> str | None:
    """The status that the server gives instead of a message, or None."""
    return (headers or {}).get("Status")


def pending(headers: Mapping[str, str] | None) -> int:
    """How many messages follow this one, of those that were asked for."""
    return int((headers or {}).get("Nats-Num-Pending", 0))


def left(subject: str, headers: Mapping[str, str] | None) -> int:
    """How many messages of a subject follow the page that this status ends.

    The server ends a page early when it comes to 64 MB (its `max_pending`), and says so only here.

    Raises:
        NoResponderError: Nobody holds the stream right now.
        StoreRefusedError: It cannot be read for another reason.
    """
    match status(headers):
        case "204":
            return pending(headers)
        case "404":
            return 0
        case "503":
            raise NoResponderError(f"{subject}: no server holds its stream now; is JetStream up?")
        case other:
            told = (headers or {}).get("Description", "")
            raise StoreRefusedError(f"{subject}: JetStream does not read it: {other} {told}")


def task_headers(task_id: str, budget: Budget | None) -> dict[str, str]:
    """What goes with a request to a model that belongs to a task; nothing without a budget."""
    if budget is None:
        return {}
    return {TASK_HEADER: task_id, TASK_BUDGET_HEADER: budget.to_json().decode()}


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a caller's headers goes with the request that is made of the call."""
    return {name: headers[name] for name in (TASK_HEADER, TASK_BUDGET_HEADER) if name in headers}


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The W3C trace context that a message came with; empty where it has none."""
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


def outgoing_headers() -> dict[str, str]:
    """Contract version and W3C trace context for a message that leaves now."""
    headers = {VERSION_HEADER: str(ATLAS_VERSION)}
    telemetry.inject(headers)
    return headers


def header_block(headers: Mapping[str, str]) -> bytes | None:
    """Headers as NATS sends them; None when one is no line of its own and needs cleaning."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        return None
    return f"NATS/1.0\r\n{lines}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Ack:
    """What JetStream says of a message that it stored."""

    seq: int
    is_duplicate: bool
    """Its id was stored before, at `seq`; nothing was added."""
    value: int | None
    """Of a counter, after this increment; a duplicate's is not told."""


class _Refusal(msgspec.Struct):
    """Why JetStream did not store a message."""

    err_code: int | None = None
    description: str = ""


class _Answer(msgspec.Struct):
    """What JetStream answers to a publish, as far as it is read."""

    seq: int = 0
    duplicate: bool = False
    val: str | int | None = None
    error: _Refusal | None = None


_ACK = msgspec.json.Decoder(_Answer)


def read_ack(subject: str, data: bytes) -> Ack:
    """Read a JetStream acknowledgement.

    Raises:
        FencedError: An expected sequence was not met.
        RequestTimeoutError: The same message is on its way already; it may be stored or not.
        StoreRefusedError: Refused for another reason.
    """
    try:
        ack = _ACK.decode(data)
    except msgspec.MsgspecError as error:
        raise StoreRefusedError(f"{subject}: no acknowledgement but {data[:80]!r}") from error
    if (refusal := ack.error) is not None:
        if refusal.err_code == _SAME_ON_ITS_WAY:
            raise RequestTimeoutError(f"{subject}: {refusal.description}")
        kind = FencedError if refusal.err_code in _WRONG_LAST_SEQUENCE else StoreRefusedError
        raise kind(
            f"{subject}: JetStream did not store the message: {refusal.description}",
            details={"err_code": refusal.err_code},
        )
    if not ack.seq:
        raise StoreRefusedError(f"{subject}: no acknowledgement but {data[:80]!r}")
    return Ack(ack.seq, ack.duplicate, None if ack.val is None else int(ack.val))


def told_outside(error: AtlasError) -> AtlasError:
    """What whoever asks is told: that there is no room, where that is why JetStream refused.

    Inside, a refusal stays one, whatever its reason: whoever accepted something tries again.
    """
    if isinstance(error, StoreRefusedError) and is_for_want_of_room(error):
        return OverloadedError(
            f"{error.message}; nothing more is stored until there is room, try again later",
            retry_after_ms=_ROOM_AGAIN_MS,
            details=error.details,
        )
    return error


def is_for_want_of_room(error: StoreRefusedError) -> bool:
    """Whether a bound of the stream, the account or the server is reached."""
    return (error.details or {}).get("err_code") in _NO_ROOM


def unheard(subject: str) -> str:
    """What is wrong where NATS says that nobody listens on a subject, and what to do."""
    if subject.startswith("$JS.API."):
        return (
            f"no JetStream answers {subject}: the stream is missing, or has no leader just now; "
            "`atlas doctor` tells"
        )
    return (
        f"nobody listens on {subject}: is the service for it running? `atlas doctor` shows which "
        "are"
    )


def read_reply[M: Contract](data: bytes, answer: type[M]) -> M:
    """Read what a door answered.

    Raises:
        AtlasError: The door's `ErrorReply`, as the class that its code names.
    """
    if b'"error"' in data:
        _raise_error_reply(data)
    try:
        return answer.from_json(data)
    except ValidationError as error:
        raise AtlasError(
            f"the answer is no {answer.__name__}: {error.error_count()} problems; "
            "is the service of another version?"
        ) from error


def _raise_error_reply(data: bytes) -> None:
    """Raise what an `ErrorReply` says.

    Its only field is `error`; a status of something that failed has one among others.
    """
    with contextlib.suppress(ValueError):  # no JSON at all: the reader of the answer says so
        fields = json.loads(data)
        if isinstance(fields, dict) and fields.keys() == {"error"}:
            raise error_from(ErrorReply.model_validate(fields).error)


def read_event(subject: str, data: bytes) -> Event:
    """Read what a service tells.

    Raises:
        AtlasError: It is no `Event`.
    """
    try:
        return Event.from_json(data)
    except ValidationError as error:
        raise AtlasError(f"{subject}: not an Event; who publishes there?") from error


def without_secrets(url: str) -> str:
    """A NATS URL (or several, separated by commas) without user, password or token."""
    shown = []
    for one in url.split(","):
        parts = urlsplit(one)
        shown.append(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    return ",".join(shown)
