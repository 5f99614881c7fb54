"""What becomes one event: content joined by time, by size or at delimiters (`BufferOptions`).

Pure: content and times in, the content of events out. The order never changes, and what is held
leaves before content of another kind. `adaptive` and `off` hold nothing and have no joiner.
"""

from atlas.contracts.flow import BufferOptions
from provider_router.providers.base import ToolCall
from provider_router.streaming.encoding import Content, continues, join, payload, with_payload

_MOST_CHARS = 65_536
"""What is held at most where a request gives no bound of its own."""


class Joiner:
    """Holds the content of one stream until its event is complete."""

    def __init__(self, options: BufferOptions) -> None:
        self._most_chars = options.coalesce_chars or _MOST_CHARS
        self._most_s = None if options.coalesce_ms is None else options.coalesce_ms / 1000
        self._delimiters = options.coalesce_delimiters or []
        self._reach = max(map(len, self._delimiters), default=1) - 1
        self._held: list[Content] = []
        self._chars = 0
        self._tail = ""
        """The end of what is held, as far as a delimiter may have begun in it."""
        self.due_s: float | None = None
        """When what is held must leave; None where nothing is, or nothing bounds the time."""

    def add(self, contents: list[Content], now_s: float) -> list[Content]:
        """Take content that came at `now_s`; gives the events that are complete by then."""
        events: list[Content] = []
        for content in contents:
            if self._held and not continues(self._held[-1], content):
                events += self.flush()
            rest = content
            while (end := self._delimiter_end(payload(rest))) is not None:
                begun, rest = _cut(rest, end)
                self._hold(begun, now_s)
                events += self.flush()
                if not payload(rest):
                    break
            else:
                self._hold(rest, now_s)
                if self._chars >= self._most_chars:
                    events += self.flush()
        if self.due_s is not None and now_s >= self.due_s:
            events += self.flush()
        return events

    def flush(self) -> list[Content]:
        """Give up what is held, as one event or as none."""
        held, self._held, self._chars, self._tail, self.due_s = self._held, [], 0, "", None
        return [join(held)] if held else []

    def _hold(self, content: Content, now_s: float) -> None:
        if not self._held and self._most_s is not None:
            self.due_s = now_s + self._most_s
        text = payload(content)
        self._held.append(content)
        self._chars += len(text)
        if self._reach:
            self._tail = (self._tail + text)[-self._reach :]

    def _delimiter_end(self, text: str) -> int | None:
        """Where in a text that follows what is held the first delimiter is complete."""
        if not self._delimiters:
            return None
        known = len(self._tail)
        searched = self._tail + text
        ends = [
            at + len(one)
            for one in self._delimiters
            if (at := searched.find(one, max(0, known - len(one) + 1))) >= 0
        ]
        return min(ends) - known if ends else None


def _cut(content: Content, end: int) -> tuple[Content, Content]:
    """Content in two, after `end` characters; a call is named in its first part only."""
    text = payload(content)
    first, rest = with_payload(content, text[:end]), with_payload(content, text[end:])
    return first, ToolCall(rest.index, arguments=rest.arguments) if isinstance(
        rest, ToolCall
    ) else rest
