"""Ids and the names that stand in subjects.

An id is `[A-Za-z0-9_-]{1,64}`: safe as one token of a NATS subject. Clients make their own when
they want idempotency; otherwise `new_id` gives a UUIDv7 (RFC 9562), which sorts by time.
"""

import hashlib
import os
import re
import time
from typing import Annotated

from pydantic import Field

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_ID = re.compile(ID_PATTERN)

type Id = Annotated[str, Field(pattern=ID_PATTERN)]
type StreamId = Annotated[str, Field(pattern=ID_PATTERN, description="The address of a stream.")]
type TaskId = Annotated[str, Field(pattern=ID_PATTERN, description="The address of a task.")]
type SubtaskId = Annotated[str, Field(pattern=ID_PATTERN, description="Unique within its task.")]
type Capability = Annotated[
    str, Field(pattern=ID_PATTERN, description="What a worker can do, such as `research`.")
]


def is_id(text: str) -> bool:
    """Whether `text` may stand as an id, and so as one token of a subject."""
    return _ID.match(text) is not None and not text.endswith("\n")


def new_id() -> str:
    """A new UUIDv7 as text: 48 bits of milliseconds, then version, variant and random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derived_id(*parts: str | int) -> str:
    """The same id for the same parts, always: what makes a repeated dispatch harmless.

    32 hexadecimal digits of SHA-256 over the parts, which are joined by `:` (no id contains one).
    """
    return hashlib.sha256(":".join(str(part) for part in parts).encode()).hexdigest()[:32]
