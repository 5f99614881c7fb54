"""The `atlas` command as a process, as a user runs it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 60


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


async def start(
    *arguments: str,
    nats_url: str | None,
    cwd: Path,
    settings: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    """Start `atlas` with the given variables and without any of the caller's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ATLAS_", "NATS_", "OTEL_", "OPENAI_", "ANTHROPIC_", "OLLAMA_"))
    }
    if nats_url is not None:
        kept["NATS_URL"] = nats_url
    kept["ATLAS_TOPOLOGY__ACK_WAIT_MS"] = "1000"
    kept["PYTHONFAULTHANDLER"] = "1"
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "atlas.cli",
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, **(settings or {})},
        cwd=cwd,
    )


async def ended(process: asyncio.subprocess.Process, said: str | None = None) -> Ended:
    """Wait for the end of a command, after saying to it what it reads from stdin."""
    telling = asyncio.create_task(process.communicate(None if said is None else said.encode()))
    done, _ = await asyncio.wait({telling}, timeout=PATIENCE_S)
    if not done:
        process.send_signal(signal.SIGABRT)  # it tells where every thread hangs
        _, err = await telling
        raise AssertionError(f"no end within {PATIENCE_S} s:\n{err.decode()}")
    out, err = telling.result()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def atlas(
    *arguments: str,
    nats_url: str | None,
    cwd: Path,
    settings: Mapping[str, str] | None = None,
    said: str | None = None,
) -> Ended:
    """Run `atlas` to its end."""
    stdin = asyncio.subprocess.DEVNULL if said is None else asyncio.subprocess.PIPE
    process = await start(*arguments, nats_url=nats_url, cwd=cwd, settings=settings, stdin=stdin)
    return await ended(process, said)
