"""What is waited for in tests where no event tells of it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import overload

_LOOK_S = 0.01


@overload
async def eventually[T](look: Callable[[], Awaitable[T]], within_s: float = 10) -> T: ...


@overload
async def eventually[T](look: Callable[[], T], within_s: float = 10) -> T: ...


async def eventually[T](look: Callable[[], T | Awaitable[T]], within_s: float = 10) -> T:
    """Look again and again until what is seen is true; gives it.

    Raises:
        AssertionError: It was not in time, with what was seen last.
    """
    seen: T | None = None
    try:
        async with asyncio.timeout(within_s):
            while True:
                looked = look()
                seen = await looked if inspect.isawaitable(looked) else looked
                if seen:
                    return seen
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not so within {within_s} s: {seen!r} at the last look") from None


async def standing_still(figure: Callable[[], int], quiet_s: float = 0.5) -> int:
    """Wait until a figure has not grown for a while; gives it."""
    loop = asyncio.get_running_loop()
    seen, since_s = figure(), loop.time()
    async with asyncio.timeout(20):
        while loop.time() - since_s < quiet_s:
            await asyncio.sleep(_LOOK_S)
            if figure() != seen:
                seen, since_s = figure(), loop.time()
    return seen
