"""The times between a provider's chunks, in constant memory: a histogram of about 6 % a bucket."""

import time

_BITS = 4
"""What a value keeps of its leading bits: eight buckets for each power of two."""
_BUCKETS = (64 - _BITS << _BITS - 1) + (1 << _BITS)
"""For every difference of two clock readings."""
_TICKS_PER_MS = 1e6 / 1024
"""A tick is 1,024 ns: a shift is cheaper than a division."""


class Gaps:
    """Counts the gaps of one stream."""

    __slots__ = ("_counts", "_last")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._last: int | None = None

    def chunk_came(self) -> None:
        """A read brought content. The per-chunk path, so it counts without another call."""
        now = time.monotonic_ns() >> 10
        if self._last is not None:
            gap = now - self._last
            shift = gap.bit_length() - _BITS
            self._counts[gap if shift <= 0 else (shift << 3) + (gap >> shift)] += 1
        self._last = now

    def interrupted(self) -> None:
        """What comes next is no gap of the provider's: a pause, or another attempt."""
        self._last = None

    def percentile_ms(self, share: float) -> float | None:
        """The gap that this share of all gaps does not exceed, in ms; None when there is none."""
        left = share * sum(self._counts)
        for bucket, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return round(_middle(bucket) / _TICKS_PER_MS, 3)
        return None


def _middle(bucket: int) -> float:
    """The middle of what a bucket holds, in ticks."""
    shift = max(0, (bucket >> 3) - 1)
    return ((bucket - (shift << 3)) << shift) + ((1 << shift) - 1) / 2
