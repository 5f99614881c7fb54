"""The provider of a run of chaos: real HTTP, and broken as each stream's plan says."""

from collections import Counter

from tests.chaos.plan import Plan, PlannedStream
from tests.support.provider_server import ProviderServer, ReceivedRequest, Reply
from tests.support.router import chat, chat_chunk, chat_cuts


class Upstream(ProviderServer):
    """Answers a stream's request, whose prompt is its id, with its planned text."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(Reply())
        self._streams = {one.stream_id: one for one in plan.streams}
        self.attempts: Counter[str] = Counter()
        """How often each stream's request came."""

    @property
    def open(self) -> int:
        """How many answers are on their way."""
        return len(self._open)

    def reply_to(self, request: ReceivedRequest) -> Reply:
        messages = request.json()["messages"]
        assert isinstance(messages, list)
        stream = self._streams[messages[-1]["content"]]
        attempt = self.attempts[stream.stream_id]
        self.attempts[stream.stream_id] += 1
        return _reply(stream, stream.break_after(attempt))


def _reply(stream: PlannedStream, words: int | None) -> Reply:
    """The whole answer, or so many words of it and a half of the next one's event."""
    pieces = stream.pieces
    break_at = None
    if words is not None:
        begun = b"".join(map(chat_chunk, pieces[:words]))
        break_at = len(begun) + len(chat_chunk(pieces[words])) // 2
    return Reply(chat(pieces), cuts=chat_cuts(pieces), pause_s=stream.pace_s, break_at=break_at)
