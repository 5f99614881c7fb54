"""A stream as what a `Follower` follows: its subject, its history, and the reading rule."""

from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.client.following import Page
from atlas.contracts.errors import AtlasError, NotFoundError
from atlas.contracts.streams import (
    STREAM_EVENT,
    HistoryReply,
    HistoryRequest,
    StreamEvent,
    StreamState,
)
from atlas.reading import Reading, Verdict

_HISTORY_S = 3.0
_PAGE = 10_000
"""The router cuts a page to what a message holds."""


class StreamSource:
    """One stream, folded as far as it was read."""

    def __init__(self, bus: Bus, tenant: str, stream_id: str) -> None:
        self._bus = bus
        self._tenant = tenant
        self._stream_id = stream_id
        self.reading = Reading()

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"stream {self._stream_id}"

    @property
    def subject(self) -> str:
        """Its chunk subject."""
        return subjects.stream_chunk(self._tenant, self._stream_id)

    @property
    def position(self) -> int:
        """The `seq` that comes next."""
        return self.reading.next_seq

    @property
    def is_finished(self) -> bool:
        """Whether its terminal event was read."""
        return self.reading.terminal is not None

    def take(self, event: StreamEvent) -> Verdict:
        """Fold one event by the reading rule."""
        return self.reading.take(event)

    def decode(self, data: bytes) -> StreamEvent:
        """Read one chunk."""
        try:
            return STREAM_EVENT.validate_json(data)
        except ValidationError as error:
            raise AtlasError(
                f"{self.subject}: not a StreamEvent; is the router of another version?"
            ) from error

    async def page(self, position: int) -> Page[StreamEvent]:
        """A page of history, from any router."""
        async with self._bus.replays:
            reply = await self._bus.request(
                subjects.api(self._tenant, "stream.history"),
                HistoryRequest(stream_id=self._stream_id, from_seq=position, limit=_PAGE),
                HistoryReply,
                timeout_s=_HISTORY_S,
            )
        if reply.state is StreamState.NOT_FOUND:
            raise NotFoundError(f"there is no stream {self._stream_id}")
        return Page(reply.events, reply.next_seq, reply.state.is_terminal)
