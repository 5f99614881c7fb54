"""A stream through Atlas beside others who stream: `python -m benchmarks.streams`.

The same upstream, a process of its own, is read directly by the openai SDK and by bare aiohttp,
through the LiteLLM proxy and TensorZero's embedded gateway where they are installed, and through
Atlas: nats-server (file storage, history, republish), one router process, and Atlas's client here.
Peers take turns, round by round, in one run. A row gives chunks a second, the time to the first
token, this process's CPU time for a chunk, and the ratio to the SDK.

LiteLLM and TensorZero live in virtual environments of their own: `make bench-peers` makes them.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import uvloop

from atlas.client import Atlas
from atlas.embedded import NatsProcess, Services
from atlas.settings import Settings
from benchmarks.measuring import Client, Counts, Figures, bare_aiohttp, measure
from benchmarks.results import conditions, draw, save
from benchmarks.transports import sdk_parsed
from benchmarks.upstream import serving

PEERS = Path(__file__).parent / ".peers"
_START_S = 120.0
_SDK = "openai SDK, direct"
_BARE = "bare aiohttp, direct"
_PROVIDER = "bench"
_SHORT_CHUNKS = 5
_SHORT_PACE_MS = 5.0


def atlas(nats_url: str, coalesce: str) -> Client:
    """Atlas's client on a server with a router."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Callable[[], Counts]]:
        del url  # the router knows the upstream
        async with Atlas.connect(nats_url, settings=Settings()) as me:

            async def stream() -> Counts:
                buffer = {"coalesce": coalesce}
                async with me.stream("Hello", model=f"{_PROVIDER}/m", buffer=buffer) as answer:
                    async for piece in answer:
                        yield piece.count("~")

            yield stream

    return opened


@contextmanager
def a_router(upstream: str, folder: Path) -> Iterator[str]:
    """NATS and one router, as `atlas up` starts them; gives where NATS is."""
    providers = {_PROVIDER: {"kind": "openai", "base_url": upstream, "api": "chat"}}
    nats = NatsProcess(folder / "nats")
    services: list[Services] = []

    async def start() -> None:
        await nats.start()
        made = Services(nats.url, subprocess.DEVNULL, {"ATLAS_PROVIDERS": json.dumps(providers)})
        services.append(made)
        await made.start(["provider_router"])

    async def stop() -> None:
        for one in services:
            await one.stop()
        await nats.stop()

    try:
        asyncio.run(start())
        yield nats.url
    finally:
        asyncio.run(stop())


@contextmanager
def a_litellm(upstream: str, folder: Path) -> Iterator[str | None]:
    """The LiteLLM proxy with one model; gives its base URL, or None where it is not installed."""
    program = PEERS / "litellm" / "bin" / "litellm"
    if not program.exists():
        yield None
        return
    port = _free_port()
    config = folder / "litellm.yaml"
    model = {"model": "openai/m", "api_base": upstream, "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": model}]}))
    process = subprocess.Popen(  # noqa: S603 - what make bench-peers installed
        [program, "--config", config, "--port", str(port), "--num_workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
    )
    try:
        _until_up(f"http://127.0.0.1:{port}/health/liveliness")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def tensorzero(upstream: str, streams: int, each: int, folder: Path, into: Figures) -> bool:
    """One round of TensorZero's embedded gateway, in a process of its environment."""
    python = PEERS / "tensorzero" / "bin" / "python"
    if not python.exists():
        return False
    script = Path(__file__).parent / "tensorzero_peer.py"
    said = subprocess.run(  # noqa: S603 - as above
        [python, script, upstream, str(streams), str(each), folder],
        capture_output=True,
        check=False,  # it may crash on its way out, when the figures are told
        timeout=600,
    )
    told = [line for line in said.stdout.splitlines() if line.startswith(b"{")]
    if not told:
        raise RuntimeError(f"TensorZero told no figures: {said.stderr.decode()[-500:]}")
    result = json.loads(told[-1])
    into.chunks_per_s.append(result["chunks_per_s"])
    into.first_ms.extend(result["first_ms"])
    into.cpu_us.append(result["cpu_us"])
    return True


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _until_up(url: str) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def run(streams: int, each: int, rounds: int) -> dict[str, Figures]:
    """Every peer at so many streams at a time."""
    figures: dict[str, Figures] = {}
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        upstream = undo.enter_context(serving(each, 0.0))
        nats_url = undo.enter_context(a_router(upstream, folder))
        litellm_url = undo.enter_context(a_litellm(upstream, folder))
        clients: list[tuple[str, Client, str]] = [
            (_SDK, sdk_parsed, upstream),
            (_BARE, bare_aiohttp, upstream),
            ("Atlas", atlas(nats_url, "adaptive"), upstream),
            ("Atlas, an event a chunk", atlas(nats_url, "off"), upstream),
        ]
        if litellm_url is not None:
            clients.append(("LiteLLM proxy", bare_aiohttp, litellm_url))
        for _ in range(rounds):
            for name, client, url in clients:
                one = figures.setdefault(name, Figures())
                uvloop.run(measure(client, url, streams, each, one))
            gateway = figures.get("TensorZero, embedded", Figures())
            if tensorzero(upstream, streams, each, folder, gateway):
                figures["TensorZero, embedded"] = gateway
    return figures


def first_token(streams: int, rounds: int) -> dict[str, Figures]:
    """The time to the first token alone: short answers at a pace, one after the other."""
    figures: dict[str, Figures] = {}
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        upstream = undo.enter_context(serving(_SHORT_CHUNKS, _SHORT_PACE_MS))
        nats_url = undo.enter_context(a_router(upstream, folder))
        litellm_url = undo.enter_context(a_litellm(upstream, folder))
        clients: list[tuple[str, Client, str]] = [
            (_SDK, sdk_parsed, upstream),
            (_BARE, bare_aiohttp, upstream),
            ("Atlas", atlas(nats_url, "adaptive"), upstream),
        ]
        if litellm_url is not None:
            clients.append(("LiteLLM proxy", bare_aiohttp, litellm_url))
        for _ in range(rounds):
            for name, client, url in clients:
                one = figures.setdefault(name, Figures())
                for _ in range(streams):
                    uvloop.run(measure(client, url, 1, _SHORT_CHUNKS, one))
    return figures


def table(figures: Mapping[str, Figures]) -> str:
    """A row for each peer."""
    lines = [
        "| peer | chunks/s | first token ms | p95 | CPU µs a chunk here | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(one.row(name, figures[_SDK]) for name, one in figures.items())])


def first_token_table(figures: Mapping[str, Figures]) -> str:
    """What each way adds to the time to the first token, over the bare one."""
    lines = ["| peer | first token ms, p50 | p95 | added, p50 |", "|---|---:|---:|---:|"]
    bare = figures[_BARE].first_token_ms()[0]
    for name, one in figures.items():
        p50, p95 = one.first_token_ms()
        lines.append(f"| {name} | {p50:.2f} | {p95:.2f} | {p50 - bare:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Print a table for each number of streams, and one of first tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=20_000, help="in all, for each round")
    parser.add_argument("--first-tokens", type=int, default=20, help="short answers a round")
    parser.add_argument("--save", action="store_true", help="write results/streams.md and .svg")
    asked = parser.parse_args()
    parts = [conditions(f"python -m benchmarks.streams {' '.join(sys.argv[1:])}")]
    panels = {}
    for streams in asked.streams:
        each = max(20, asked.chunks // streams)
        figures = run(streams, each, asked.rounds)
        parts.append(f"{streams} streams of {each} chunks:\n\n{table(figures)}")
        rates = [(name, one.rate()) for name, one in figures.items() if name != _BARE]
        panels[f"chunks a second, {streams} at a time (more is better)"] = rates
        print(parts[-1], end="\n\n", flush=True)
    first = first_token(asked.first_tokens, asked.rounds)
    parts.append(
        f"First tokens of {asked.first_tokens * asked.rounds} short answers, one at a time:\n\n"
        + first_token_table(first)
    )
    print(parts[-1])
    if asked.save:
        save("streams", "# Streams, beside others\n\n" + "\n\n".join(parts))
        waits = [(name, one.first_token_ms()[0]) for name, one in first.items() if name != _BARE]
        panels["ms to the first token, one at a time (less is better)"] = waits
        draw("streams", "The same upstream, read directly and through others", panels)


if __name__ == "__main__":
    main()
