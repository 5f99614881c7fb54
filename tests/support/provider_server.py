"""A real HTTP server that answers as a provider would, well or badly, and recorded traffic for it.

Recordings are third-party data beside the repository, never in it; tests that use them skip, and
say what is missing, where they are absent.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings"

_STALL_S = 0.3
"""A write that takes longer than this counts as held back by the client."""


_PROBED = ("/models", "/api/version")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded exchange: what was asked, and the response's bytes."""

    name: str
    url: str
    request: object
    body: bytes

    @property
    def path(self) -> str:
        """The path of the URL that was asked."""
        return "/" + self.url.split("://", 1)[1].split("/", 1)[1]


def recorded_names() -> list[str]:
    """The names of all recordings, none where they are absent."""
    return sorted(path.stem for path in RECORDINGS.glob("*.body"))


def recording(name: str) -> Recording:
    """One recording by its name, such as `openai-chat-text-0`; skips the test without it."""
    body, about = RECORDINGS / f"{name}.body", RECORDINGS / f"{name}.json"
    if not body.is_file() or not about.is_file():
        pytest.skip(f"no recorded provider traffic: {body} and .json are missing")
    told = json.loads(about.read_text())
    return Recording(name, told["url"], told["request"], body.read_bytes())


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers, and how.

    `cuts` are byte positions at which the body is cut into writes of their own, `pause_s` a rest
    between the writes. After `break_at` bytes the connection is broken; `then_silent` keeps it
    open without a word after the body; `is_endless` repeats the body until the client leaves.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cuts: tuple[int, ...] = ()
    pause_s: float = 0.0
    headers_after_s: float = 0.0
    break_at: int | None = None
    then_silent: bool = False
    is_endless: bool = False

    def pieces(self) -> list[bytes]:
        """The body in the pieces in which it is written."""
        end = len(self.body) if self.break_at is None else self.break_at
        cuts = sorted({cut for cut in self.cuts if 0 < cut < end})
        return [self.body[start:stop] for start, stop in pairwise([0, *cuts, end])]


def refusal(status: int, error: object, headers: Mapping[str, str] | None = None) -> Reply:
    """A refusal with a JSON body."""
    return Reply(
        json.dumps(error).encode(), status, {"Content-Type": "application/json", **(headers or {})}
    )


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it came over the wire; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


class ProviderServer:
    """Answers every request with `reply`, and remembers what was asked."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[ReceivedRequest] = []
        self.warmed_with: list[dict[str, str]] = []
        """The headers of the requests that only opened a connection; they are not in `requests`."""
        self.probes: list[ReceivedRequest] = []
        """The questions that cost nothing; they are not in `requests` either."""
        self.probe_reply = refusal(404, {"error": {"message": "there is no such thing"}})
        self.connections: set[int] = set()
        self.written_bytes = 0
        self.asked = asyncio.Event()
        self.probed = asyncio.Event()
        self.written = asyncio.Event()
        """A whole body was."""
        self.stalled = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.url = ""
        self._open: set[asyncio.Transport] = set()

    def reply_to(self, request: ReceivedRequest) -> Reply:  # noqa: ARG002 - for those who need it
        """The reply to one request; `reply`, unless a subclass knows better."""
        return self.reply

    def hang_up(self) -> None:
        """Close every connection that is open."""
        for transport in self._open:
            transport.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Handle one request."""
        transport = request.transport
        assert transport is not None
        self.connections.add(transport.get_extra_info("peername")[1])
        is_probe = request.path.endswith(_PROBED)
        if request.method == "GET" and not is_probe:
            self.warmed_with.append(dict(request.headers))
            await asyncio.sleep(self.reply.headers_after_s)
            return web.Response(status=404)
        received = _received(request, await request.read())
        (self.probes if is_probe else self.requests).append(received)
        (self.probed if is_probe else self.asked).set()
        self._open.add(transport)
        try:
            reply = self.probe_reply if is_probe else self.reply_to(received)
            return await self._write(request, reply)
        except (asyncio.CancelledError, ConnectionResetError):
            self.disconnected.set()
            raise
        finally:
            self._open.discard(transport)

    async def _write(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", **reply.headers}
        response = web.StreamResponse(status=reply.status, headers=headers)
        await asyncio.sleep(reply.headers_after_s)
        await response.prepare(request)
        for number, piece in enumerate(reply.pieces()):
            if number:
                await asyncio.sleep(reply.pause_s)
            await response.write(piece)
            self.written_bytes += len(piece)
        self.written.set()
        while reply.is_endless:
            await self._write_watched(response, reply.body)
        if reply.break_at is not None:
            assert request.transport is not None
            request.transport.close()
        elif reply.then_silent:
            await asyncio.Event().wait()
        return response

    async def _write_watched(self, response: web.StreamResponse, piece: bytes) -> None:
        """Write, and tell when the client holds the write back."""
        loop = asyncio.get_running_loop()
        watch = loop.call_later(_STALL_S, self.stalled.set)
        try:
            await response.write(piece)
        finally:
            watch.cancel()
        self.written_bytes += len(piece)


def _received(request: web.Request, body: bytes) -> ReceivedRequest:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return ReceivedRequest(request.method, request.path_qs, headers, body)


@asynccontextmanager
async def serving(
    reply: Reply,
    make: Callable[[Reply], ProviderServer] = ProviderServer,
    at: socket.socket | None = None,
) -> AsyncIterator[ProviderServer]:
    """A server on a port of its own, or on a bound socket, where nobody listened before."""
    server = make(reply)
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.SockSite(runner, at) if at else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
