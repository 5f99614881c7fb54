"""`atlas up`: a NATS server and every service on this machine, until a signal."""

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas.cli.output import Output
from atlas.cli.session import DONE, configured
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import ConfigurationError
from atlas.embedded import DEFAULT_PORT, Stack, standalone
from atlas.settings import Settings
from atlas.wire import without_secrets

_LOOK_S = 0.5
_LOCK_FILE = "atlas-up.lock"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each service, and where the server keeps its data."""

    routers: int = 1
    controllers: int = 1
    workers: int = 1
    store: Path | None = None


async def up(plan: Plan, *, as_json: bool) -> int:
    """Run until a signal; after the ready line the signal is how it is meant to end."""
    output = Output(as_json=as_json)
    settings = configured(runs_router=plan.routers > 0)
    url = _given_url(settings)
    is_ready = False
    try:
        with _claimed(plan.store):
            async with standalone(
                nats_url=url,
                routers=plan.routers,
                controllers=plan.controllers,
                workers=plan.workers,
                store_dir=plan.store,
                port=DEFAULT_PORT,
            ) as stack:
                if stack.nats is not None and stack.nats.port != DEFAULT_PORT:
                    output.note(f"port {DEFAULT_PORT} is taken; export NATS_URL={stack.nats_url}")
                output.show(_ready(stack), f"ready {without_secrets(stack.nats_url)}")
                is_ready = True
                await _keep_up(stack, output)
    except asyncio.CancelledError:
        if not is_ready:
            raise
    return DONE


@contextmanager
def _claimed(store: Path | None) -> Iterator[None]:
    """Keep a folder to ourselves: two servers on the same data would destroy it.

    Raises:
        ConfigurationError: Another `atlas up` uses it.
    """
    if store is None:
        yield
        return
    store.mkdir(parents=True, exist_ok=True)
    with (store / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"--store {store}: another `atlas up` uses it; end that one, or name another folder"
            ) from error
        yield


def _given_url(settings: Settings) -> str | None:
    """The NATS that somebody named; None when it is only the default."""
    return settings.nats.url if "url" in settings.nats.model_fields_set else None


def _ready(stack: Stack) -> JsonObject:
    return {
        "ready": True,
        "nats_url": without_secrets(stack.nats_url),
        "services": [one.model_dump() for one in stack.services.running],
    }


async def _keep_up(stack: Stack, output: Output) -> None:
    """Start again what dies, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        if stack.nats is not None and not stack.nats.is_running:
            output.note("the NATS server died; starting it again on its data")
            await stack.nats.start()
        for dead in stack.services.reap():
            output.note(f"{dead.name} {dead.instance} died; starting another")
            await stack.services.start([dead.name])
