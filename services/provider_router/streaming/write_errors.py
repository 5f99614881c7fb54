"""What may go wrong with the writing of a stream, and what of it passes."""

from atlas.contracts.errors import (
    AtlasError,
    ConnectionFailedError,
    ErrorCategory,
    NoResponderError,
    OverloadedError,
    RequestTimeoutError,
    StoreRefusedError,
)

MAY_PASS = (
    RequestTimeoutError,
    ConnectionFailedError,
    NoResponderError,
    StoreRefusedError,
    OverloadedError,
)
"""What a server says, or fails to say, while it goes down, comes up, or has no room; and that this
router has none."""


class OwnershipLostError(AtlasError):
    """Another router owns the stream; say nothing more on its behalf."""

    code = "ownership_lost"


class StreamOverError(AtlasError):
    """The stream has its terminal event already."""

    code = "stream_over"


class HistoryLostError(AtlasError):
    """History lacks events that were known to be stored; the attempt begins anew."""

    code = "history_lost"
    category = ErrorCategory.SERVER
    retryable = True
