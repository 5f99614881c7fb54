"""How every command runs: signals, errors and the exit status, in one place."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn

from atlas import logs, telemetry
from atlas.cli.output import Output
from atlas.client import Atlas
from atlas.contracts.errors import (
    AtlasError,
    ConfigurationError,
    ConnectionFailedError,
    InvalidRequestError,
)
from atlas.contracts.ids import new_id
from atlas.settings import Settings, load_settings, unserved_models

DONE = 0
FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128
"""Plus the number of the signal: 130 for Ctrl-C."""

_CONNECT_MS = 1_500
"""A person waits; unless the settings say otherwise, sooner than a service gives up."""

_BROKEN_PIPE = INTERRUPTED + signal.SIGPIPE
_WRONG_USES = (InvalidRequestError, ConfigurationError, ConnectionFailedError)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

type Command = Callable[[], Awaitable[int]]


def run(command: Command, *, as_json: bool) -> NoReturn:
    """Run a command to its end and exit with its status."""
    output = Output(as_json=as_json)
    try:
        status = asyncio.run(_until_signalled(command, output))
    except BrokenPipeError:  # whoever read our output has gone; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _BROKEN_PIPE
    sys.exit(status)


async def _until_signalled(command: Command, output: Output) -> int:
    """Run the command; the first signal cancels it, and it cleans up whatever comes after."""
    main = asyncio.current_task()
    assert main is not None  # noqa: S101 - a coroutine runs in a task
    caught: list[signal.Signals] = []

    def stop(sign: signal.Signals) -> None:
        if not caught:
            main.cancel()
        caught.append(sign)

    loop = asyncio.get_running_loop()
    for sign in _SIGNALS:
        loop.add_signal_handler(sign, stop, sign)
    try:
        return await command()
    except asyncio.CancelledError:
        if not caught:
            raise
        return INTERRUPTED + caught[0]
    except AtlasError as error:
        return report(error, output)
    except BaseExceptionGroup as group:
        first = next(_atlas_errors(group), None)
        if first is None:
            raise
        return report(first, output)


def report(error: AtlasError, output: Output) -> int:
    """Say what went wrong; gives the exit status."""
    output.error(error)
    return WRONG_USE if isinstance(error, _WRONG_USES) else FAILED


def _atlas_errors(group: BaseExceptionGroup[BaseException]) -> Iterator[AtlasError]:
    for error in group.exceptions:
        if isinstance(error, AtlasError):
            yield error
        elif isinstance(error, BaseExceptionGroup):
            yield from _atlas_errors(error)


def configured(*, runs_router: bool = False) -> Settings:
    """The settings, with logs set up: quiet, unless the settings ask for more.

    Raises:
        ConfigurationError: The settings are wrong; names every problem. With `runs_router` also
            when a router that is started here could not serve the models that they name.
    """
    settings = load_settings()
    if runs_router and (problems := unserved_models(settings)):
        raise ConfigurationError("\n".join(problems))
    is_asked = "log_level" in settings.model_fields_set
    logs.configure(settings.log_level if is_asked else "warning")
    if "connect_timeout_ms" in settings.nats.model_fields_set:
        return settings
    hurried = settings.nats.model_copy(update={"connect_timeout_ms": _CONNECT_MS})
    return settings.model_copy(update={"nats": hurried})


@asynccontextmanager
async def connected(
    settings: Settings | None = None, url: str | None = None
) -> AsyncIterator[Atlas]:
    """A connection to Atlas, and traces where they are exported, while the block runs.

    Raises:
        ConnectionFailedError: No NATS answers.
        ConfigurationError: The settings are wrong.
    """
    settings = settings or configured()
    exporting = telemetry.configure("atlas-cli", new_id())
    try:
        async with Atlas.connect(url, settings=settings) as atlas:
            yield atlas
    finally:
        if exporting is not None:
            await asyncio.to_thread(exporting.shutdown)
