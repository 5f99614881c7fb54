"""One stream, watched by a hundred at once: the provider is asked, and paid, once.

Run `python examples/03_many_watchers.py`: it starts a NATS server and a router of its own, with
the mock, which costs nothing. To a running Atlas the same code connects by `Atlas.connect()` alone.
"""

import asyncio
from collections import Counter
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.embedded import standalone

WATCHERS = 100


async def main() -> None:
    async with (
        standalone(controllers=0, workers=0, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
        Atlas.connect(stack.nats_url) as hall,
    ):
        async with atlas.stream("Tell me about the sea", model="mock/standard") as stream:
            watching = []
            async for piece in stream:
                print(piece, end="", flush=True)
                if len(watching) < WATCHERS:  # one more comes with every piece, late or later
                    watching.append(asyncio.create_task(watch(hall, stream.stream_id)))
            mine = await stream.result()
        while len(watching) < WATCHERS:  # and some when all is over
            watching.append(asyncio.create_task(watch(hall, stream.stream_id)))
        texts = Counter(await asyncio.gather(*watching))

        (mock,) = [one for one in (await atlas.providers()).providers if one.provider == "mock"]
        print(f"\n\n{texts[mine.content]} of {WATCHERS} watchers have the same text as I")
        print(f"the provider was asked {mock.attempts} time")


async def watch(atlas: Atlas, stream_id: str) -> str:
    """Read from the beginning, whenever one comes."""
    text = ""
    async with atlas.watch_stream(stream_id) as stream:
        async for piece in stream:
            text = piece if piece.restart else text + piece
    return text


asyncio.run(main())
