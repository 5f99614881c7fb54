"""A stream that is over can be read again: from its beginning, from anywhere, or only its end.

Run `python examples/09_replay.py`: it starts a NATS server and a router of its own, with the mock,
which costs nothing. The server is killed on the way and started again on what it had stored.
"""

import asyncio
import tempfile
from pathlib import Path
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.embedded import Stack, standalone


async def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        folder = Path(store)
        async with (
            standalone(controllers=0, workers=0, log_to=DEVNULL, store_dir=folder) as stack,
            Atlas.connect(stack.nats_url) as atlas,
        ):
            stream_id, last_seen, shown = await read_half(atlas)
            await kill_the_server(stack)
            rest = await go_on(atlas, stream_id, last_seen + 1)
            answer = await atlas.stream_result(stream_id)
            print(f"what was missed fits what was seen: {shown + rest == answer.content}")
            await replay(atlas, stream_id)


async def read_half(atlas: Atlas) -> tuple[str, int, str]:
    """Read a little, and remember the `seq` of the last event."""
    async with atlas.stream("Tell me about the sea", model="mock/standard") as stream:
        async for _ in stream:
            if stream.metrics.chunks == 20:
                break
    print(f"left after event {stream.reading.seq}; the stream goes on without me")
    return stream.stream_id, stream.reading.seq, stream.reading.text


async def kill_the_server(stack: Stack) -> None:
    """What a power cut would do."""
    if stack.nats is not None:
        await stack.nats.kill()
        await stack.nats.start()
        print("the server was killed, and is back")


async def go_on(atlas: Atlas, stream_id: str, from_seq: int) -> str:
    """Give only what comes from an event on."""
    async with atlas.watch_stream(stream_id, from_seq=from_seq) as stream:
        return "".join([piece async for piece in stream])


async def replay(atlas: Atlas, stream_id: str) -> None:
    """Every event once more, with the time that lay between them."""
    before_ms = None
    async with atlas.watch_stream(stream_id) as stream:
        async for event in stream.events():
            after_ms = event.at_ms - (before_ms or event.at_ms)
            before_ms = event.at_ms
            if event.type != "text.delta":
                print(f"  {event.seq:3} {event.type} (+{after_ms} ms)")
    print(f"{stream.state} after {stream.reading.seq} events, {stream.metrics.duration_ms} ms")


asyncio.run(main())
