"""Server-sent events, read incrementally from bytes (WHATWG HTML, section 9.2).

Every provider here ends its lines with LF or CRLF; a lone CR is not taken as a line end, because
one at the end of a read could not be told from the first half of a CRLF without waiting.
"""

_BOM = b"\xef\xbb\xbf"


class SseParser:
    """Turns bytes, cut anywhere, into events.

    `id` and `retry` fields are ignored: a provider's stream is never resumed by event id.
    """

    __slots__ = ("_data", "_event", "_is_first", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._event = b""
        self._data: list[bytes] = []
        self._is_first = True

    @property
    def pending_bytes(self) -> int:
        """The size of the line, and of the event, that is not complete yet."""
        return self._size + sum(map(len, self._data))

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take the next bytes; returns the completed events as (event name or b"", data)."""
        if b"\n" not in data:
            # Collected, not concatenated: a long line in many small reads stays linear.
            self._pieces.append(data)
            self._size += len(data)
            return []
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
        lines = data.split(b"\n")
        rest = lines.pop()
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        return self._events(lines)

    def end(self) -> list[tuple[bytes, bytes]]:
        """The last event, when the body ended without the empty line that should close it."""
        return self._events([b"".join(self._pieces), b""])

    def _events(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        events: list[tuple[bytes, bytes]] = []
        if self._is_first:
            lines[0] = lines[0].removeprefix(_BOM)
            self._is_first = False
        for raw in lines:
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if not line:
                if self._data:
                    value = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append((self._event, value))
                    self._data = []
                self._event = b""
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[6:].removeprefix(b" ")
            elif line == b"data":
                self._data.append(b"")
        return events
