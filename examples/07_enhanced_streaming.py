"""Pause and resume a stream, be called when something happens, and see how it goes meanwhile.

Run `python examples/07_enhanced_streaming.py`: it starts a NATS server and a router of its own,
with the mock, which costs nothing. To a running Atlas the same code connects by `Atlas.connect()`
alone.
"""

import asyncio
from subprocess import DEVNULL

from atlas.client import Atlas, Piece
from atlas.contracts.errors import WorkCancelledError
from atlas.contracts.streams import StreamState
from atlas.embedded import standalone


async def main() -> None:
    async with (
        standalone(controllers=0, workers=0, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        await pause_and_resume(atlas)
        await be_called(atlas)
        await cancel_on_exit(atlas)


async def pause_and_resume(atlas: Atlas) -> None:
    """While a stream is paused nothing is read from the provider, and nothing is lost."""
    async with atlas.stream("Tell me about the sea", model="mock/standard") as stream:
        pieces = 0
        async for text in stream:
            print(text, end="", flush=True)
            pieces += 1
            if pieces == 5:
                status = await stream.pause("a look out of the window", by="me")
                print(f"\n[{status.state} after {stream.metrics.chunks} chunks]")
                await asyncio.sleep(0.5)
                status = await stream.resume(by="me")
                print(f"[{status.state}]")
    figures = stream.metrics
    print(f"\n[{stream.state}: {figures.chunks} chunks, {figures.tokens_per_second:.0f} tokens/s,")
    print(f" first after {figures.time_to_first_token_ms} ms, paused {figures.paused_ms} ms]\n")


async def be_called(atlas: Atlas) -> None:
    """Callbacks are functions or coroutine functions; they run while somebody reads."""
    heard: list[Piece] = []

    async def on_state(state: StreamState) -> None:
        await asyncio.sleep(0)  # whatever has to be awaited
        print(f"state: {state}")

    async with atlas.stream(
        "Tell me about lakes", model="mock/standard", on_state=on_state, on_text=heard.append
    ) as stream:
        answer = await stream.result()
    print(f"heard all: {''.join(heard) == answer.content}\n")


async def cancel_on_exit(atlas: Atlas) -> None:
    """A stream outlives who asked for it, unless they say otherwise."""
    async with atlas.stream(
        "Tell me about rivers", model="mock/standard", cancel_on_exit=True
    ) as stream:
        async for text in stream:
            print(f"enough after {text!r}")
            break
    try:
        await atlas.stream_result(stream.stream_id)
    except WorkCancelledError as error:
        print(f"cancelled: {error.message.partition(': ')[2]}")


asyncio.run(main())
