"""What all decoders share: bytes to events, and failures that lose nothing read before them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from atlas.contracts.errors import ProviderError
from provider_router.providers.base import Delta
from provider_router.providers.errors import Origin, stream_error, told_error
from provider_router.providers.refusals import read_stream_error
from provider_router.providers.sse import SseParser

MAX_EVENT_BYTES = 32 * 2**20
"""Above any event a provider sends; an endless line must not eat the router's memory."""

_QUOTED_BYTES = 80
_HEAD_BYTES = 16 * 2**10
"""What is kept of a body until its first event, to say what it is when none comes."""


class EventParser(Protocol):
    """Cuts a body into events of (name or b"", data)."""

    @property
    def pending_bytes(self) -> int:
        """What is held back until its event is complete."""
        ...

    def feed(self, data: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Take the next bytes; returns the completed events."""
        ...

    def end(self) -> Sequence[tuple[bytes, bytes]]:
        """The body is over; returns what is still held back."""
        ...


class EventDecoder(ABC):
    """A `base.Decoder` that gives each event to `_take` and keeps the first failure."""

    def __init__(self, origin: Origin, parser: EventParser | None = None) -> None:
        self._origin = origin
        self._parser: EventParser = parser if parser is not None else SseParser()
        self._head = b""
        self._has_events = False
        self.is_done = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes; returns what they completed, often nothing."""
        if not self._has_events and len(self._head) < _HEAD_BYTES:
            self._head += data
        deltas = self._decode(self._parser.feed(data))
        if self._parser.pending_bytes > MAX_EVENT_BYTES:
            self._fail(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return deltas

    def end(self) -> list[Delta]:
        """The body is over; sets `failure` to a ProviderStreamError when the answer is not."""
        deltas = self._decode(self._parser.end())
        if not self.is_done and self.failure is None:
            deltas += self._end()
        if not self.is_done and self.failure is None:
            if self._has_events:
                self._fail("the stream broke off before its end; the same request may succeed")
            else:
                self.failure = self._no_stream()
        return deltas

    @abstractmethod
    def _take(self, event: bytes, data: bytes, deltas: list[Delta]) -> None:
        """Append what one event means; set `is_done` at the provider's own end.

        Raises:
            ProviderError: The event tells an error.
            msgspec.DecodeError: The event is malformed.
        """

    def _end(self) -> list[Delta]:
        """A last word where the body may end without an end marker; may set `is_done`."""
        return []

    def _no_stream(self) -> ProviderError:
        """The failure of a body without one event: some servers tell an error so, with a 200."""
        head = self._head.strip()
        if not head:
            return stream_error(
                self._origin, "an accepted request was answered with nothing; check base_url"
            )
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            value = msgspec.json.decode(head)
            if isinstance(value, dict | list):
                return told_error(self._origin, read_stream_error(value))
        quoted = head[:_QUOTED_BYTES].decode(errors="replace")
        return stream_error(self._origin, f"{quoted!r} is no stream of answers; check base_url")

    def _decode(self, events: Sequence[tuple[bytes, bytes]]) -> list[Delta]:
        deltas: list[Delta] = []
        self._has_events = self._has_events or bool(events)
        for event, data in events:
            if self.is_done or self.failure is not None:
                break
            try:
                self._take(event, data, deltas)
            except ProviderError as error:
                self.failure = error
            except (msgspec.DecodeError, ValueError) as error:
                quoted = data[:_QUOTED_BYTES].decode(errors="replace")
                self._fail(f"malformed event {quoted!r}: {error}", error)
        return deltas

    def _fail(self, what: str, cause: Exception | None = None) -> None:
        if self.failure is None:
            self.failure = stream_error(self._origin, what)
            self.failure.__cause__ = cause
