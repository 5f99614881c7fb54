"""Backup and restore of the JetStream streams, by the server's own snapshots.

A folder holds one folder for each stream, with `backup.json` (configuration and state) and
`stream.tar.s2` (messages and consumers), as `nats stream backup` writes them, so that the `nats`
tool reads a backup of ours and we read one of its.
"""

import asyncio
import json
import time
from pathlib import Path

from nats.aio.subscription import Subscription
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import Contract, JsonObject
from atlas.contracts.errors import (
    ConfigurationError,
    InvalidRequestError,
    NoResponderError,
    RequestTimeoutError,
    StoreRefusedError,
)
from atlas.reindexing import reindex
from atlas.settings import TopologySettings
from atlas.topology import Topology

_CHUNK_BYTES = 128 * 1024
_WAIT_S = 30.0
_KNOWN_S = 5.0
_AGAIN_S = 0.05
_ABOUT = "backup.json"
_DATA = "stream.tar.s2"
_NOT_FOUND = 10059  # server/errors.json: JSStreamNotFoundErr


class SavedStream(Contract):
    """A stream in a backup."""

    name: str
    messages: int
    size_bytes: int
    """Of its file."""


async def save(bus: Bus, settings: TopologySettings, folder: Path) -> list[SavedStream]:
    """Write every stream of Atlas that is there into a new folder.

    Each is as it was at a moment of its own, and they come in an order in which each has what the
    ones before it tell of: queues before logs, logs before reports, objects last. So services
    may run: what was accepted when the backup began is in it, and `restore` makes anew what would
    not fit, the index of open tasks.

    Raises:
        ConfigurationError: The folder has something in it.
        StoreRefusedError: The server refuses, or broke off.
        RequestTimeoutError: It fell silent.
    """
    _check_new(folder)
    saved = []
    for expected in Topology(settings).expected():
        one = await _save(bus, expected.name, folder / expected.name)
        if one is not None:
            saved.append(one)
    return saved


def _check_new(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty; name a new folder for the backup")


def _find(folder: Path) -> dict[str, Path]:
    """What the backup says of each of its streams, by their names."""
    return {path.parent.name: path for path in folder.glob(f"*/{_ABOUT}")}


async def _save(bus: Bus, name: str, folder: Path) -> SavedStream | None:
    inbox = bus.nats.new_inbox()
    chunks = await bus.open(inbox)
    try:
        await bus.flush()
        asked = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": _CHUNK_BYTES}
        about = await _call(bus, subjects.jetstream("STREAM.SNAPSHOT", name), asked)
        if (error := about.get("error")) is not None:
            if isinstance(error, dict) and error.get("err_code") == _NOT_FOUND:
                return None
            raise StoreRefusedError(f"{name} cannot be backed up: {_told(error)}")
        await asyncio.to_thread(folder.mkdir, parents=True)
        size_bytes = await _receive(bus, chunks, name, folder / _DATA)
    finally:
        await chunks.unsubscribe()
    kept = {"config": about["config"], "state": about["state"]}
    (folder / _ABOUT).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return SavedStream(name=name, messages=_messages(kept), size_bytes=size_bytes)


async def _receive(bus: Bus, chunks: Subscription, name: str, path: Path) -> int:
    """Write chunks to a file until the empty one; each answer lets the server send another."""
    size_bytes = 0
    with path.open("xb") as file:
        while True:
            try:
                chunk = await chunks.next_msg(timeout=_WAIT_S)
            except (NatsTimeoutError, TimeoutError) as error:
                raise RequestTimeoutError(
                    f"the backup of {name} broke off after {size_bytes} bytes: nothing came for "
                    f"{_WAIT_S:g} s"
                ) from error
            if not chunk.data:
                if (told := (chunk.headers or {}).get("Description")) is not None:
                    raise StoreRefusedError(f"the backup of {name} broke off: {told}")
                return size_bytes
            await asyncio.to_thread(file.write, chunk.data)
            size_bytes += len(chunk.data)
            if chunk.reply:
                await bus.publish(chunk.reply, b"")


async def restore(
    bus: Bus, settings: TopologySettings, folder: Path, *, replace: bool = False
) -> list[SavedStream]:
    """Make the streams of a backup, with as many replicas as the settings say.

    The index of open tasks is made anew from the logs, so that every task that has not ended goes
    on, also where the backup was taken while services ran.

    Args:
        bus: A connection to the server, or to a cluster, that gets them.
        settings: Those of the services that will run there.
        folder: What `save` wrote.
        replace: Remove streams that are there already, with their messages.

    Raises:
        ConfigurationError: The folder holds no backup, or one that is not complete.
        InvalidRequestError: Streams are there already.
        StoreRefusedError: The server refuses.
        RequestTimeoutError: It fell silent; what was begun of this stream is not there.
    """
    found = _find(folder)
    known = [one.name for one in Topology(settings).expected()]
    saved = {name: _read(found[name]) for name in known if name in found}
    if not saved:
        raise ConfigurationError(f"{folder} holds no backup of Atlas; name what `backup` wrote")
    there = [name for name in saved if await _is_there(bus, name)]
    if there and not replace:
        raise InvalidRequestError(
            f"there already: {', '.join(there)}; stop every service, and give --replace to remove "
            "them with all that they hold"
        )
    for name in there:
        await bus.jetstream.delete_stream(name)
    restored = [
        await _restore(bus, name, about, found[name].parent / _DATA, settings.replicas)
        for name, about in saved.items()
    ]
    if subjects.TASKS in saved:
        await reindex(bus, settings)
    return restored


def _read(path: Path) -> JsonObject:
    """What a backup says of its stream."""
    try:
        about = json.loads(path.read_bytes())
        _messages(about)
        if not (path.parent / _DATA).is_file():
            raise ConfigurationError(f"{path.parent} is not complete: {_DATA} is missing")
        return {"config": dict(about["config"]), "state": dict(about["state"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read as a backup: {error}") from error


async def _is_there(bus: Bus, name: str) -> bool:
    return "error" not in await _call(bus, subjects.jetstream("STREAM.INFO", name), {})


async def _restore(
    bus: Bus, name: str, about: JsonObject, data: Path, replicas: int
) -> SavedStream:
    config = about["config"]
    assert isinstance(config, dict)  # noqa: S101 - `_read` made it
    request = {**about, "config": {**config, "num_replicas": replicas}}
    answer = await _call(bus, subjects.jetstream("STREAM.RESTORE", name), request)
    if (error := answer.get("error")) is not None:
        raise StoreRefusedError(f"{name} cannot be restored: {_told(error)}")
    subject = str(answer["deliver_subject"])
    size_bytes = 0
    with data.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            _check(name, await _give(bus, subject, chunk))
            size_bytes += len(chunk)
    _check(name, await _give(bus, subject, b""))
    return SavedStream(name=name, messages=_messages(about), size_bytes=size_bytes)


async def _give(bus: Bus, subject: str, chunk: bytes) -> bytes:
    """Send a chunk; in a cluster it may take a moment until all servers know who takes them."""
    until_s = time.monotonic() + _KNOWN_S
    while True:
        try:
            return (await bus.ask(subject, chunk, None, _WAIT_S)).data
        except NoResponderError:
            if time.monotonic() > until_s:
                raise
        await asyncio.sleep(_AGAIN_S)


def _check(name: str, data: bytes) -> None:
    if data and (error := json.loads(data).get("error")) is not None:
        raise StoreRefusedError(f"{name} cannot be restored: {_told(error)}")


async def _call(bus: Bus, subject: str, request: JsonObject) -> JsonObject:
    answer = await bus.ask(subject, json.dumps(request).encode(), None, _WAIT_S)
    return dict(json.loads(answer.data))


def _told(error: object) -> object:
    return error.get("description", error) if isinstance(error, dict) else error


def _messages(about: JsonObject) -> int:
    state = about["state"]
    assert isinstance(state, dict)  # noqa: S101
    return int(str(state["messages"]))
