"""A stream of a real router as those see it who watch it: pause, callbacks, many watchers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from atlas.client import Atlas, Piece
from atlas.contracts.errors import InvalidRequestError, InvalidTransitionError, WorkCancelledError
from atlas.contracts.streams import StreamState
from atlas.settings import Settings
from tests.support.provider_server import ProviderServer, Reply, serving
from tests.support.router import Stack, chat, chat_cuts, provider, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = [f"word {number} " for number in range(60)]
MODEL = "acme/some-model"
WATCHERS = 200
CONNECTIONS = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider_server():
    async with serving(Reply()) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory, provider_server: ProviderServer):
    providers = {"acme": provider("openai", provider_server.url, api="chat")}
    async with stack(tmp_path_factory.mktemp("router"), providers) as made:
        yield made


@pytest.fixture
def server(provider_server: ProviderServer) -> ProviderServer:
    """A provider that takes its time, as if it had never been asked."""
    provider_server.requests.clear()
    provider_server.disconnected.clear()
    provider_server.reply = Reply(chat(WORDS), cuts=chat_cuts(WORDS), pause_s=0.01)
    return provider_server


@asynccontextmanager
async def _clients(running: Stack) -> AsyncIterator[list[Atlas]]:
    """Clients with a connection each."""
    async with AsyncExitStack() as undo:
        connect = [Atlas.connect(running.nats.url, settings=Settings()) for _ in range(CONNECTIONS)]
        yield [await undo.enter_async_context(one) for one in connect]


@pytest.mark.usefixtures("server")
async def test_every_control_gives_what_the_router_acknowledged(running: Stack):
    async with asyncio.timeout(30), running.atlas.stream("Hello", model=MODEL) as stream:
        pieces = aiter(stream)
        await anext(pieces)
        paused = await stream.pause("lunch", by="me")
        assert (paused.stream_id, paused.state) == (stream.stream_id, StreamState.PAUSED)
        assert (await stream.resume()).state is StreamState.ACTIVE
        assert (await stream.cancel("enough", by="me")).state is StreamState.CANCELLED
        with pytest.raises(InvalidTransitionError):
            await stream.pause()
        with pytest.raises(WorkCancelledError, match="by me: enough"):
            async for _ in pieces:
                pass
        assert stream.state is StreamState.CANCELLED
        paused_event, resumed = stream.reading.controls
        assert (paused_event.by, paused_event.reason, resumed.by) == ("me", "lunch", None)


@pytest.mark.usefixtures("server")
async def test_a_reason_that_is_too_long_is_refused_before_it_is_sent(running: Stack):
    async with running.atlas.stream("Hello", model=MODEL, cancel_on_exit=True) as stream:
        with pytest.raises(InvalidRequestError, match="reason"):
            await stream.pause("x" * 2_000)


async def test_callbacks_are_told_every_state_and_every_piece(
    running: Stack, server: ProviderServer
):
    states: list[StreamState] = []
    texts: list[str] = []

    async def on_state(state: StreamState) -> None:
        await asyncio.sleep(0)
        states.append(state)
        if state is StreamState.PAUSED:
            await stream.resume()

    async def pause_once(piece: Piece) -> None:
        if "word 3 " in piece:
            await stream.pause()

    def on_text(piece: Piece) -> object:
        texts.append(piece)
        return pause_once(piece)

    async with asyncio.timeout(30):
        async with running.atlas.stream(
            "Hello", model=MODEL, on_state=on_state, on_text=on_text
        ) as stream:
            response = await stream.result()
    assert states == [
        StreamState.INITIALIZING,
        StreamState.ACTIVE,
        StreamState.PAUSED,
        StreamState.ACTIVE,
        StreamState.COMPLETED,
    ]
    assert "".join(texts) == response.content == "".join(WORDS)
    assert len(server.requests) == 1


async def test_what_a_callback_raises_comes_out_of_the_reading_which_may_go_on(
    running: Stack, server: ProviderServer
):
    seen: list[str] = []

    def on_text(piece: Piece) -> None:
        seen.append(piece)
        if len(seen) == 3:
            raise ZeroDivisionError("of mine")

    async with asyncio.timeout(30):
        async with running.atlas.stream("Hello", model=MODEL, on_text=on_text) as stream:
            with pytest.raises(ZeroDivisionError, match="of mine") as raised:
                await stream.result()
            (note,) = raised.value.__notes__
            assert note.startswith("raised by on_text at event ")
            assert stream.stream_id in note
            seqs = [event.seq async for event in stream.events()]
            response = await stream.result()
    assert "".join(seen) == response.content == "".join(WORDS)
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    assert f"event {seqs[0]} of" in note  # the event is not lost for whoever reads on
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["on_state", "on_text"])
async def test_a_callback_that_is_no_function_is_refused(running: Stack, name: str):
    with pytest.raises(InvalidRequestError, match=f"{name}: 'print' is no function"):
        running.atlas.watch_stream("s1", **{name: "print"})  # type: ignore[arg-type]


async def test_a_stream_outlives_who_asked_for_it_unless_it_said_otherwise(
    running: Stack, server: ProviderServer
):
    async with asyncio.timeout(30):
        async with running.atlas.stream("Hello", model=MODEL) as left:
            await anext(aiter(left))
        response = await running.other.stream_result(left.stream_id)
        assert response.content == "".join(WORDS)
        async with running.atlas.stream("Hello", model=MODEL, cancel_on_exit=True) as stopped:
            await anext(aiter(stopped))
        with pytest.raises(WorkCancelledError, match="the caller left"):
            await running.other.stream_result(stopped.stream_id)
        await server.disconnected.wait()


async def test_the_figures_of_a_stream_grow_while_it_runs_and_are_the_routers_at_its_end(
    running: Stack, server: ProviderServer
):
    async with asyncio.timeout(30), running.atlas.stream("Hello", model=MODEL) as stream:
        assert stream.metrics.chunks == 0
        pieces = aiter(stream)
        for _ in range(5):
            await anext(pieces)
        live = stream.metrics
        assert (live.chunks, live.attempts) == (5, 1)
        assert live.time_to_first_token_ms is not None
        await stream.result()
        assert stream.reading.terminal is not None
        assert stream.metrics == stream.reading.terminal.metrics  # type: ignore[union-attr]
        assert stream.metrics.chunks >= 5
        assert stream.metrics.duration_ms >= live.duration_ms
    assert len(server.requests) == 1


@pytest.mark.parametrize("is_killed", [False, True], ids=["", "while NATS is killed"])
async def test_many_watchers_early_and_late_end_with_the_same_text_and_the_provider_is_asked_once(
    running: Stack, server: ProviderServer, is_killed: bool
):
    async def watch(atlas: Atlas, stream_id: str) -> tuple[str, tuple[int, ...]]:
        async with atlas.watch_stream(stream_id) as stream:
            seqs = [event.seq async for event in stream.events()]
            return (await stream.result()).content, tuple(seqs)

    async with asyncio.timeout(60), _clients(running) as clients, asyncio.TaskGroup() as group:
        async with running.atlas.stream("Hello", model=MODEL) as stream:
            watching = []
            pieces = aiter(stream)
            for number in range(WATCHERS):
                one = watch(clients[number % CONNECTIONS], stream.stream_id)
                watching.append(group.create_task(one))
                if number % 20 == 0:
                    await anext(pieces, None)
                if is_killed and number == WATCHERS // 2:
                    await running.nats.kill()
                    await running.nats.start()
            response = await stream.result()
        seen = Counter([await one for one in watching])
    ((text, seqs),) = seen
    assert seen[text, seqs] == WATCHERS
    assert text == response.content == "".join(WORDS)
    assert seqs == tuple(range(1, len(seqs) + 1))
    assert len(server.requests) == 1
