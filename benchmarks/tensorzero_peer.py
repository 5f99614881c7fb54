"""Reads streams through TensorZero's embedded gateway; run by `benchmarks.streams` in its own venv.

Prints one line of JSON: chunks a second, times to the first token, CPU time for a chunk.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENAI_API_KEY", "none")


def config(upstream: str) -> str:
    """A gateway with one model."""
    return f"""
[models.m]
routing = ["bench"]

[models.m.providers.bench]
type = "openai"
model_name = "m"
api_base = "{upstream}/"

[functions.chat]
type = "chat"

[functions.chat.variants.only]
type = "chat_completion"
model = "m"
"""


async def main(upstream: str, streams: int, each: int, folder: Path) -> None:
    """Measure one round."""
    from tensorzero import AsyncTensorZeroGateway  # type: ignore[import-not-found] # noqa: PLC0415 - in its own environment

    file = folder / "tensorzero.toml"
    file.write_text(config(upstream))
    gateway = await AsyncTensorZeroGateway.build_embedded(config_file=str(file), async_setup=True)
    firsts: list[float] = []

    async def read(*, is_counted: bool) -> int:
        began, total = time.perf_counter(), 0
        answer = await gateway.inference(
            function_name="chat",
            input={"messages": [{"role": "user", "content": "Hello"}]},
            stream=True,
        )
        async for chunk in answer:
            content = getattr(chunk, "content", None) or []
            count = sum(part.text.count("~") for part in content if getattr(part, "text", None))
            if count and not total and is_counted:
                firsts.append((time.perf_counter() - began) * 1000)
            total += count
        return total

    await read(is_counted=False)
    began, cpu = time.perf_counter(), time.process_time()
    totals = await asyncio.gather(*(read(is_counted=True) for _ in range(streams)))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    if sum(totals) != each * streams:
        raise RuntimeError(f"{sum(totals)} chunks came instead of {each * streams}")
    result = {
        "chunks_per_s": sum(totals) / wall,
        "first_ms": firsts if len(firsts) > 1 else firsts * 2,
        "cpu_us": cpu / sum(totals) * 1e6,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
