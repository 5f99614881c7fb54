"""NATS, JetStream's assets, room and clock, and what lies there unread: for `atlas doctor`."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from atlas import assets, subjects, topology
from atlas.bus import Bus
from atlas.client.finding import Finding, ok, problem, span, warning
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError, TopologyError
from atlas.contracts.events import DeadLetter, Event
from atlas.server import check_server
from atlas.settings import Settings, TopologySettings
from atlas.wire import without_secrets

_NEARLY, _ALMOST = 0.8, 0.95
"""Of a bound: when somebody should look, and when it is about to be reached."""
_OF_A_WINDOW = 0.9


async def server(bus: Bus, settings: Settings) -> Finding:
    """Whether the server is one that Atlas can run on."""
    where = without_secrets(settings.nats.url)
    found = bus.nats.connected_server_version
    try:
        await check_server(bus)
    except TopologyError as error:
        return problem("nats", f"{where}: {error.message}")
    version = f"{found.major}.{found.minor}.{found.patch}"
    return ok("nats", f"{where}, version {version}, JetStream on")


async def made(bus: Bus, settings: TopologySettings) -> list[Finding]:
    """The JetStream streams beside what these settings say."""
    looked = await assets.survey(bus, settings)
    missing = [one.name for one in looked if one.state == "missing"]
    if len(missing) == len(looked):
        message = "no service made the JetStream streams yet; the first one that starts does"
        return [problem("assets", message)]
    found = []
    if missing:
        message = f"missing: {', '.join(missing)}; the next service that starts makes them"
        found.append(problem("assets", message))
    for one in looked:
        if one.state == "differs":
            how = "; ".join(
                f"{it.field} is {_spoken(it.field, it.found)}, the settings say "
                f"{_spoken(it.field, it.expected)}"
                for it in one.differences
            )
            message = (
                f"{one.name} is configured differently: {how}. No service with these settings "
                "starts: correct `topology` in them, or change the server (`atlas admin assets` "
                "says what that would lose, `atlas admin assets --apply` does it)"
            )
            found.append(problem("assets", message))
    return found or [ok("assets", f"{len(looked)} JetStream streams are there")]


async def room(bus: Bus) -> list[Finding]:
    """Whether JetStream stores what it is given, and how near its bounds are."""
    if await _info(bus, subjects.EVENTS) is None:
        return []  # there is nothing yet that could be stored into
    found = [*await _stores(bus), *await _account(bus)]
    for stream in (subjects.STREAMS, subjects.SUBMITS, subjects.UPLOADS):
        if (info := await _info(bus, stream)) is not None:
            found += _stream(info)
    return found or [ok("room", "JetStream stores what it is given")]


async def _stores(bus: Bus) -> list[Finding]:
    """Tried, because a user of NATS is not told how full the server's disk is."""
    event = Event(type="doctor.looked", source="doctor", at_ms=now_ms(), data={})
    try:
        await bus.store(
            subjects.event(subjects.DEFAULT_TENANT, event.source, event.type), event.to_json()
        )
    except AtlasError as error:
        told = (
            f"{error.message}. Doors answer `overloaded`, and what was accepted waits: free the "
            "disk, or give JetStream more (`max_file_store` of the server, `max_file` of the "
            "account); a server that switched JetStream off must be started again"
        )
        return [problem("room", told)]
    return []


async def _account(bus: Bus) -> list[Finding]:
    """The bounds of the account; a tiered one has some for each number of copies."""
    info = json.loads((await bus.ask("$JS.API.INFO", b"")).data)
    found = []
    for tier in (info, *(info.get("tiers") or {}).values()):
        limits = tier.get("limits") or {}
        for kind, field in (("storage", "max_storage"), ("reserved_storage", "max_storage")):
            used, bound = tier.get(kind, 0), limits.get(field, -1)
            if bound > 0 and used >= _NEARLY * bound:
                what = "is used" if kind == "storage" else "is reserved by streams' `max_bytes`"
                told = (
                    f"{used / bound:.0%} of the {_mb(bound)} of this JetStream account {what}; "
                    "raise `max_file` of the account, shorten `topology.task_days` or "
                    "`replay_hours`, or delete tasks (`atlas task delete`)"
                )
                is_full = kind == "storage" and used >= _ALMOST * bound
                found.append(problem("room", told) if is_full else warning("room", told))
    return found


def _stream(info: dict[str, Any]) -> Iterator[Finding]:
    """A stream beside its own bounds: one refuses what is too much, the other drops the oldest."""
    config, state = info["config"], info["state"]
    full = max(
        (
            state[field] / config[bound]
            for field, bound in (("bytes", "max_bytes"), ("messages", "max_msgs"))
            if config.get(bound, -1) > 0
        ),
        default=0.0,
    )
    if full < _NEARLY:
        return
    name = config["name"]
    if config["discard"] == "new":
        why = (
            f"objects wait for their last part, {topology.UPLOAD_S // 60:g} minutes at most"
            if name == subjects.UPLOADS
            else "submissions wait for controllers; start more, or raise "
            "`topology.max_submissions` and `max_submission_bytes`"
        )
        told = f"{name} is {full:.0%} full, and refuses more when it is: {why}"
        yield problem("room", told) if full >= _ALMOST else warning("room", told)
        return
    kept_ms = (_at(info["ts"]) - _at(state["first_ts"])) * 1000
    window_ms = config["max_age"] / 1e6
    if kept_ms < _OF_A_WINDOW * window_ms:
        told = (
            f"{name} is {full:.0%} full and drops its oldest, by now what is older than "
            f"{span(kept_ms)} instead of {span(window_ms)}; raise `topology.max_bytes`"
        )
        yield warning("room", told)


async def ahead_ms(bus: Bus) -> float | None:
    """By how much the clock of the NATS server is ahead of this host's; None if it cannot tell.

    What it says comes with its time (`ts`); the answer's way is counted as half of the round trip.
    """
    asked_ms = now_ms()
    info = await _info(bus, subjects.EVENTS)
    if info is None or "ts" not in info:
        return None
    return _at(info["ts"]) * 1000 - (asked_ms + now_ms()) / 2


async def dead_letters(bus: Bus) -> list[Finding]:
    """What durable doors could not take, and why the last one was not."""
    info = await _info(bus, subjects.DEAD)
    count = 0 if info is None else info["state"]["messages"]
    if not count:
        return []
    last = await bus.last(subjects.DEAD, subjects.DEAD_ALL)
    why = ""
    if last is not None:
        letter = DeadLetter.from_json(last.data)
        why = f" The last, {letter.kind} {letter.id}: {letter.error.message}."
    told = (
        f"{count} in {subjects.DEAD}.{why} Correct whoever sent them; "
        f"`nats stream view {subjects.DEAD}` shows them, `nats stream purge {subjects.DEAD}` "
        "ends this warning"
    )
    return [warning("dead letters", told)]


async def _info(bus: Bus, stream: str) -> dict[str, Any] | None:
    """What the server says of a JetStream stream, with what nats-py leaves out; None without it."""
    info: dict[str, Any] = json.loads((await bus.ask(f"$JS.API.STREAM.INFO.{stream}", b"")).data)
    return None if "error" in info else info


def _spoken(field: str, value: str) -> str:
    """A bound as a person says it."""
    match field, value:
        case ("max_age", "0") | ("max_bytes" | "max_msgs", "-1"):
            return "unlimited"
        case "max_age", _:
            return f"{span(float(value) * 1000)} ({value} s)"
        case "max_bytes", _:
            return f"{_mb(int(float(value)))} ({value} bytes)"
        case _:
            return value


def _at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MB"
