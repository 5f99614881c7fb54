"""What a stream published and does not know to be stored, to be written again if it was lost."""

from collections import deque
from collections.abc import Iterator

from provider_router.streaming.encoding import Content, encode_content
from provider_router.streaming.making import MakeEvent

type Item = Content | MakeEvent


class Outbox:
    """Published items in their order, each with its number in the window and its seq."""

    def __init__(self, confirmed: int) -> None:
        self._sent: deque[tuple[int, int, int, Item]] = deque()
        self.confirmed = confirmed
        """The last seq that is known to be stored."""
        self.size_bytes = 0

    def __iter__(self) -> Iterator[tuple[int, Item]]:
        return ((seq, item) for _, seq, _, item in self._sent)

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def last_number(self) -> int:
        """The number of the last item in the window; there must be one."""
        return self._sent[-1][0]

    def add(self, number: int, seq: int, size_bytes: int, item: Item) -> None:
        """An item was published."""
        self._sent.append((number, seq, size_bytes, item))
        self.size_bytes += size_bytes

    def clear(self, confirmed: int) -> None:
        """Nothing waits any more, and history reaches to `confirmed`."""
        self._sent.clear()
        self.confirmed, self.size_bytes = confirmed, 0

    def again(self, from_seq: int, number: int) -> "Outbox":
        """What history lacks if it reaches to `from_seq`, numbered to follow an adoption."""
        again = Outbox(from_seq)
        lacking = [(size_bytes, item) for _, seq, size_bytes, item in self._sent if seq > from_seq]
        for seq, (size_bytes, item) in enumerate(lacking, start=from_seq + 2):
            again.add(number, seq, size_bytes, item)
        return again


def encoded(item: Item, stream_id: str, seq: int, epoch: int) -> bytes:
    """An item as the event that it is at this place."""
    if callable(item):
        return item(stream_id, seq, epoch).to_json()
    return encode_content(stream_id, seq, epoch, item)
