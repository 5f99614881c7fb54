"""What measurements of streams share: how a peer is read, and what is noted of it."""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

MARK = b"~"
"""Stands once in every chunk; a single byte, so that no read can cut it."""
CONNECTIONS = 1_000
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":true}'

type Counts = AsyncGenerator[int]
"""How many chunks each read brought."""
type Client = Callable[[str], AbstractAsyncContextManager[Callable[[], Counts]]]
"""Opens a client of a base URL; what it gives opens one stream."""


@dataclass(slots=True)
class Figures:
    """One client's rounds."""

    chunks_per_s: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def rate(self) -> float:
        """Chunks a second, the median of the rounds."""
        return statistics.median(self.chunks_per_s)

    def first_token_ms(self) -> tuple[float, float]:
        """The time to the first token: the median and the 95th percentile."""
        cuts = statistics.quantiles(self.first_ms, n=20, method="inclusive")
        return cuts[9], cuts[18]

    def row(self, name: str, peer: "Figures") -> str:
        """A line of the table."""
        p50, p95 = self.first_token_ms()
        return (
            f"| {name} | {self.rate():,.0f} | {p50:,.1f} | {p95:,.1f} "
            f"| {statistics.median(self.cpu_us):,.1f} | {self.rate() / peer.rate():.2f} |"
        )


async def measure(client: Client, url: str, streams: int, expected: int, into: Figures) -> None:
    """One round: all streams at once, each connection opened before by an answer of its own."""
    firsts: list[float] = []

    async def read(open_stream: Callable[[], Counts], *, is_counted: bool) -> int:
        began, total = time.perf_counter(), 0
        async with aclosing(open_stream()) as counts:
            async for count in counts:
                if count and not total and is_counted:
                    firsts.append((time.perf_counter() - began) * 1000)
                total += count
        return total

    async with client(url) as open_stream:
        await read(open_stream, is_counted=False)
        began, cpu = time.perf_counter(), time.process_time()
        totals = await asyncio.gather(*(read(open_stream, is_counted=True) for _ in range(streams)))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    total = sum(totals)
    if total != expected * streams:
        raise RuntimeError(f"{total} chunks came instead of {expected * streams}")
    into.chunks_per_s.append(total / wall)
    into.cpu_us.append(cpu / total * 1e6)
    into.first_ms.extend(firsts if len(firsts) > 1 else firsts * 2)


@asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncIterator[Callable[[], Counts]]:
    """`aiohttp` with nothing above it."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def stream() -> Counts:
            async with session.post(f"{url}/chat/completions", data=BODY) as response:
                async for data in response.content.iter_any():
                    yield data.count(MARK)

        yield stream
