"""A provider fails in the middle of its answer: what a reader sees, in each way of reading.

Run `python examples/06_fallback.py`: it starts a NATS server and a router of its own with the
providers of `06_fallback.yaml`, which are mocks and cost nothing.
"""

import asyncio
from pathlib import Path
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.contracts.errors import AtlasError
from atlas.contracts.streams import AttemptFailed, StreamStarted
from atlas.embedded import standalone

CONFIGURATION = Path(__file__).with_suffix(".yaml")
QUESTION = "Why do lakes freeze from above?"


async def main() -> None:
    environment = {"ATLAS_CONFIG": str(CONFIGURATION)}
    async with (
        standalone(controllers=0, workers=0, environment=environment, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        stream_id = await as_it_comes(atlas)
        await everything(atlas, stream_id)
        await final_only(atlas, stream_id)
        await no_fallback(atlas)


async def as_it_comes(atlas: Atlas) -> str:
    """A piece with `restart` set holds all that counts: what was shown before it is void."""
    async with atlas.stream(QUESTION, model="robust") as stream:
        async for piece in stream:
            if piece.restart:
                print("\n-- void; anew:")
            print(piece, end="", flush=True)
    return stream.stream_id


async def everything(atlas: Atlas, stream_id: str) -> None:
    """Every event, also of the attempt whose text was dropped."""
    print("\n")
    async with atlas.watch_stream(stream_id) as stream:
        async for event in stream.events():
            match event:
                case StreamStarted():
                    print(f"attempt {event.attempt}: {event.model}")
                case AttemptFailed():
                    print(f"attempt {event.attempt} failed: {event.error.code}, {event.next}")
        print(f"{stream.metrics.attempts} attempts, {stream.reading.restarts} restart")


async def final_only(atlas: Atlas, stream_id: str) -> None:
    """The final answer knows nothing of it."""
    answer = await atlas.stream_result(stream_id)
    print(f"final: {len(answer.content)} characters by {answer.model}")


async def no_fallback(atlas: Atlas) -> None:
    """Who would rather have an error than a second beginning says so."""
    try:
        await atlas.generate(QUESTION, model="flaky/model", fallback={"on_failure": "fail"})
    except AtlasError as error:
        print(f"without fallback: {error.code}")


asyncio.run(main())
