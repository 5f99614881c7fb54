"""The ways in: whole answers, the durable door, which takes work while no service runs, control."""

import asyncio
import contextlib

from opentelemetry.trace import SpanKind

from atlas import subjects, telemetry
from atlas.bus import Bus
from atlas.client.requests import message_id
from atlas.contracts.errors import (
    ConnectionFailedError,
    InvalidTransitionError,
    NoResponderError,
    NotFoundError,
    RequestTimeoutError,
    StoreRefusedError,
    WorkCancelledError,
)
from atlas.contracts.inference import GenerateRequest, ModelResponse
from atlas.contracts.streams import StreamControl, StreamState, StreamStatus
from atlas.telemetry import names
from atlas.wire import told_outside

_REQUEST = "atlas.{tenant}.stream.{stream_id}.request.{lane}"
_GENERATE = "atlas.{tenant}.api.generate"
CONTROL_S = 5.0
"""The contract promises an answer within a second."""
_STARTS_S = 2.0
"""How long a NATS server that starts may say that nothing of it stores a subject."""
_ANSWER_S = 2.0
"""How long an answer may take before it is taken for lost, with the connection that broke."""
_AGAIN_S = 0.1


class Request:
    """A request on its way to the durable door, which accepts it while no service runs."""

    def __init__(
        self, data: bytes, model: str | None, lane: str, headers: dict[str, str], *, is_new: bool
    ) -> None:
        self._data = data
        self._model = model
        self._lane = lane
        self._headers = headers
        self.is_new = is_new
        """Whether the id was made here, so that nobody can have used it before."""

    async def send(self, bus: Bus, tenant: str, stream_id: str) -> None:
        """Store it, under a span with which its trace begins."""
        attributes: dict[str, telemetry.Attribute] = {
            names.STREAM_ID: stream_id,
            names.TENANT: tenant,
        }
        if self._model:
            attributes[names.REQUEST_MODEL] = self._model
        with telemetry.sending(_REQUEST, attributes):
            subject = subjects.stream_request(tenant, stream_id, self._lane)
            msg_id = message_id(tenant, stream_id, self._data)
            await store_durably(bus, subject, self._data, msg_id, self._headers)


async def ask_whole(
    bus: Bus,
    tenant: str,
    request: GenerateRequest,
    data: bytes,
    *,
    headers: dict[str, str],
    timeout_s: float,
) -> ModelResponse:
    """Ask for a whole answer and wait for it; the request brings an id of its own.

    Raises:
        RequestTimeoutError: No answer in time; says how to watch its stream.
        AtlasError: What the router answered, as the class that its code names.
    """
    attributes: dict[str, telemetry.Attribute] = {
        names.STREAM_ID: str(request.stream_id),
        names.TENANT: tenant,
    }
    if request.model:
        attributes[names.REQUEST_MODEL] = request.model
    with telemetry.sending(_GENERATE, attributes, kind=SpanKind.CLIENT):
        door = subjects.api(tenant, "generate")
        try:
            return await bus.request(
                door, data, ModelResponse, headers=headers, timeout_s=timeout_s
            )
        except RequestTimeoutError as error:
            raise RequestTimeoutError(
                f"no answer within {timeout_s:g} s; if a router took it, stream "
                f"{request.stream_id} has it: `atlas stream watch {request.stream_id}`"
            ) from error


async def store_durably(
    bus: Bus, subject: str, data: bytes, msg_id: str, headers: dict[str, str] | None = None
) -> None:
    """Publish on a durable door and wait until it is stored, also over a restart of NATS.

    What NATS had no answer for is published again until the connection's request timeout: the
    message id, and the id in the subject, make of both one request.

    Raises:
        NoResponderError: Nothing was stored; the server starts, or has no Atlas assets yet.
        RequestTimeoutError: No answer; it may or may not be stored.
        OverloadedError: More waits there than may; `retry_after_ms` says when to try again.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + bus.request_timeout_s
    starts_until_s: float | None = None
    while True:
        left_s = until_s - loop.time()
        wait_s = left_s if left_s < 2 * _ANSWER_S else _ANSWER_S
        try:
            await bus.store(subject, data, msg_id=msg_id, headers=headers, timeout_s=wait_s)
        except NoResponderError as error:
            starts_until_s = starts_until_s or min(until_s, loop.time() + _STARTS_S)
            if not await _may_ask_again(bus, starts_until_s):
                raise NoResponderError(
                    f"nothing on this NATS server stores {subject}: it starts just now, and this "
                    "may be asked again, or no Atlas service ever ran on it; start one with "
                    "`atlas up`"
                ) from error
        except RequestTimeoutError as error:
            if not await _may_ask_again(bus, until_s):
                raise RequestTimeoutError(
                    f"{subject}: no answer within {bus.request_timeout_s:g} s; it may be stored "
                    "or not, and may be asked again under the same id"
                ) from error
        except StoreRefusedError as error:
            raise told_outside(error) from error
        else:
            return


async def _may_ask_again(bus: Bus, until_s: float) -> bool:
    """Wait a moment, and for a connection that was lost; gives whether there is time left."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(_AGAIN_S)
    with contextlib.suppress(ConnectionFailedError):
        await bus.wait_connected(max(0.0, until_s - loop.time()))
    return loop.time() < until_s


async def send_control(
    bus: Bus, tenant: str, stream_id: str, control: StreamControl
) -> StreamStatus:
    """Ask for a control and give the resulting state.

    Raises:
        NotFoundError: There is no such stream.
        InvalidTransitionError: The state does not allow it; nothing was changed.
        RequestTimeoutError: No router answers; the control is kept for the next one.
    """
    subject = subjects.stream_control(tenant, stream_id)
    try:
        status = await bus.request(subject, control, StreamStatus, timeout_s=CONTROL_S)
    except RequestTimeoutError as error:
        raise RequestTimeoutError(
            f"no router answered the {control.action} of stream {stream_id} within "
            f"{CONTROL_S:g} s; it is kept and takes effect when one runs (`atlas up`)"
        ) from error
    if status.state is StreamState.NOT_FOUND:
        raise NotFoundError(f"there is no stream {stream_id}")
    if status.error is not None and status.error.code == InvalidTransitionError.code:
        raise InvalidTransitionError.of(status.error)
    return status


def cancelled(what: str, by: str | None, reason: str | None) -> WorkCancelledError:
    """The error that says who cancelled and why, as far as it is known."""
    who = f" by {by}" if by else ""
    why = f": {reason}" if reason else ""
    return WorkCancelledError(f"{what} was cancelled{who}{why}")
