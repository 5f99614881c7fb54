"""How far a handler or a tool is: checked, and the latest word of whoever speaks too fast."""

import asyncio
from collections.abc import Awaitable, Callable

from pydantic_core import PydanticSerializationError, to_json

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import InvalidRequestError

_MOST_BYTES = 64 * 1024
_PAUSE_S = 0.2
"""Between two words of one tool."""

type Tell = Callable[[JsonObject], Awaitable[None]]
"""Reports progress."""


def check_progress(what: JsonObject) -> None:
    """Refuse what is no progress.

    Raises:
        InvalidRequestError: It is no JSON, or more than 64 KiB.
    """
    try:
        size_bytes = len(to_json(what))
    except PydanticSerializationError as error:
        raise InvalidRequestError(f"progress: {error}; give JSON values") from error
    if size_bytes > _MOST_BYTES:
        raise InvalidRequestError(
            f"progress: {size_bytes} bytes, and {_MOST_BYTES} are the most; tell how far it is, "
            "and return what it made"
        )


class LatestProgress:
    """What a tool tells, from any thread; of words in quick succession the last one is passed on.

    Args:
        tool: Its name, which stands beside its words.
        tell: Reports them.
    """

    def __init__(self, tool: str, tell: Tell) -> None:
        self._tool = tool
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._latest: JsonObject = {}
        self._has_news = asyncio.Event()

    def put(self, what: JsonObject) -> None:
        """Take a word.

        Raises:
            InvalidRequestError: It is no progress.
        """
        check_progress(what)
        self._loop.call_soon_threadsafe(self._take, what)

    def _take(self, what: JsonObject) -> None:
        self._latest = what
        self._has_news.set()

    async def run(self) -> None:
        """Pass on what comes. Never returns."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await self._tell({"tool": self._tool, "progress": self._latest})
            await asyncio.sleep(_PAUSE_S)
