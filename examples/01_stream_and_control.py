"""Stream an answer, pause it from a second client, let it go on.

Run `atlas up` in another terminal, then `python examples/01_stream_and_control.py`.
"""

import asyncio

from atlas.client import Atlas


async def main() -> None:
    async with Atlas.connect() as atlas, Atlas.connect() as second:
        async with atlas.stream("Tell me about the sea") as stream:
            pieces = 0
            async for text in stream:
                print(text, end="", flush=True)
                pieces += 1
                if pieces == 3:
                    status = await second.control_stream(
                        stream.stream_id, "pause", reason="a look out of the window", by="second"
                    )
                    print(f"\n[{status.state}]")
                    await asyncio.sleep(1)
                    status = await second.control_stream(stream.stream_id, "resume", by="second")
                    print(f"[{status.state}]")
            answer = await stream.result()
        print(f"\n{answer.model}: {answer.usage.output_tokens} tokens, {answer.metrics}")


asyncio.run(main())
