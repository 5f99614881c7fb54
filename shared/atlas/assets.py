"""The JetStream assets beside what they should be, and how they are brought there.

For whoever operates Atlas: services make what is missing and refuse what differs (`topology`).
"""

import json
from collections.abc import Sequence
from typing import Literal

from nats.js.errors import NotFoundError as AssetNotFoundError
from pydantic import Field

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import Contract
from atlas.contracts.errors import TopologyError
from atlas.server import check_server
from atlas.settings import TopologySettings
from atlas.topology import Expected, Topology

_FIXED = frozenset({"retention", "storage", "allow_msg_counter"})
"""What JetStream does not change of a stream."""
_BOUNDS = frozenset({"max_age", "max_bytes", "max_msgs", "max_msgs_per_subject", "num_replicas"})
"""What drops messages, or copies of them, when it becomes less."""


class Difference(Contract):
    """A field that is not as it should be."""

    field: str
    found: str
    expected: str
    effect: Literal["safe", "loses", "fixed"]
    """What a change does: nothing to what is stored, it may drop some of it, it cannot be done."""


class Asset(Contract):
    """A JetStream stream of Atlas, as it is."""

    name: str
    state: Literal["ok", "missing", "differs"]
    messages: int = 0
    size_bytes: int = 0
    differences: list[Difference] = Field(default_factory=list)


async def survey(bus: Bus, settings: TopologySettings) -> list[Asset]:
    """Every asset as it is.

    Raises:
        TopologyError: The server is too old or has no JetStream.
    """
    await check_server(bus)
    return [await _look(bus, one) for one in Topology(settings).expected()]


async def _look(bus: Bus, expected: Expected) -> Asset:
    try:
        info = await bus.jetstream.stream_info(expected.name)
    except AssetNotFoundError:
        return Asset(name=expected.name, state="missing")
    stored = {"max_msgs": info.state.messages, "max_bytes": info.state.bytes}
    differences = [
        Difference(
            field=field,
            found=is_,
            expected=should,
            effect=_effect(field, is_, should, stored.get(field)),
        )
        for field, is_, should in expected.differences(info.config)
    ]
    return Asset(
        name=expected.name,
        state="differs" if differences else "ok",
        messages=info.state.messages,
        size_bytes=info.state.bytes,
        differences=differences,
    )


def _effect(
    field: str, found: str, expected: str, stored: int | None
) -> Literal["safe", "loses", "fixed"]:
    """What a change does; a bound above what is stored, where that is known, drops nothing."""
    if field in _FIXED:
        return "fixed"
    is_less = field in _BOUNDS and _bound(expected) < _bound(found)
    fits = stored is not None and stored <= _bound(expected)
    return "loses" if is_less and not fits else "safe"


def _bound(shown: str) -> float:
    """As a number; what is no positive one bounds nothing."""
    bound = float(shown)
    return bound if bound > 0 else float("inf")


async def bring_into_line(
    bus: Bus, settings: TopologySettings, *, may_lose: bool = False
) -> list[Asset]:
    """Make what is missing and change what differs; gives every asset as it is then.

    What cannot be changed stays as it is, and without `may_lose` what would lose messages or
    copies of them.

    Raises:
        TopologyError: The server is too old, has no JetStream, or refuses a change.
    """
    found = {one.name: one for one in await survey(bus, settings)}
    wanted = Topology(settings)
    for expected in wanted.expected():
        await _change(bus, expected, found[expected.name].differences, may_lose=may_lose)
    for stream in wanted.streams():
        if found[stream.name or ""].state == "missing":
            await topology.ensure_stream(bus.jetstream, stream)
    for name, consumer in wanted.consumers():
        await bus.jetstream.add_consumer(name, consumer)
    for bucket, expected in wanted.buckets().items():
        if found[expected.name].state == "missing":
            await topology.ensure_bucket(bus.jetstream, bucket, expected)
    return await survey(bus, settings)


async def _change(
    bus: Bus, expected: Expected, differences: Sequence[Difference], *, may_lose: bool
) -> None:
    """Change what may be changed of one stream, and nothing else of its configuration.

    It is sent as the server tells it, because nats-py does not know every field of it.
    """
    allowed = {"safe", "loses"} if may_lose else {"safe"}
    fields = [one.field for one in differences if one.effect in allowed]
    if not fields:
        return
    info = await bus.ask(subjects.jetstream("STREAM.INFO", expected.name), b"")
    should = expected.config.as_dict()
    config = json.loads(info.data)["config"] | {field: should.get(field) for field in fields}
    request = json.dumps(config).encode()
    answer = await bus.ask(subjects.jetstream("STREAM.UPDATE", expected.name), request)
    if (error := json.loads(answer.data).get("error")) is not None:
        raise TopologyError(
            f"JetStream does not change {', '.join(fields)} of {expected.name}: "
            f"{error.get('description', error)}"
        )
