"""`atlas admin`: the JetStream assets, and their backup."""

from pathlib import Path

from atlas import assets, backup
from atlas.assets import Asset
from atlas.backup import SavedStream
from atlas.bus import Bus
from atlas.cli.output import Output
from atlas.cli.session import DONE, FAILED, configured


async def look(*, apply: bool, may_lose: bool, as_json: bool) -> int:
    """Show every asset beside what it should be; with `apply` bring them there first.

    Returns 1 when one is missing or differs.

    Raises:
        AtlasError: No NATS, no JetStream, or a change is refused.
    """
    output = Output(as_json=as_json)
    settings = configured()
    bus = await Bus.connect(settings.nats, "atlas-admin")
    try:
        if apply:
            found = await assets.bring_into_line(bus, settings.topology, may_lose=may_lose)
        else:
            found = await assets.survey(bus, settings.topology)
    finally:
        await bus.close()
    for one in found:
        output.show(one, _as_text(one, is_applied=apply))
    return DONE if all(one.state == "ok" for one in found) else FAILED


def _as_text(asset: Asset, *, is_applied: bool) -> str:
    if asset.state == "missing":
        return f"{asset.name}: missing; the first service that starts makes it, or --apply"
    lines = [f"{asset.name}: {asset.state}, {_amount(asset.messages, asset.size_bytes)}"]
    for one in asset.differences:
        advice = {
            "safe": "--apply changes it" if not is_applied else "it was not taken",
            "loses": "a change may lose messages or copies of them; --apply --allow-loss does it",
            "fixed": "JetStream cannot change it; back the stream up if it matters, and remove it",
        }[one.effect]
        lines.append(f"  {one.field} is {one.found}, expected {one.expected}: {advice}")
    return "\n".join(lines)


async def save(folder: Path, *, as_json: bool) -> int:
    """Write a backup into a new folder.

    Raises:
        AtlasError: The folder is in use, or the server refuses.
    """
    settings = configured()
    bus = await Bus.connect(settings.nats, "atlas-admin")
    try:
        saved = await backup.save(bus, settings.topology, folder)
    finally:
        await bus.close()
    return _told(saved, f"saved to {folder}", as_json=as_json)


async def restore(folder: Path, *, replace: bool, as_json: bool) -> int:
    """Make the streams of a backup.

    Raises:
        AtlasError: There is no backup, there are such streams already, or the server refuses.
    """
    settings = configured()
    bus = await Bus.connect(settings.nats, "atlas-admin")
    try:
        restored = await backup.restore(bus, settings.topology, folder, replace=replace)
    finally:
        await bus.close()
    return _told(restored, f"restored from {folder}", as_json=as_json)


def _told(streams: list[SavedStream], done: str, *, as_json: bool) -> int:
    output = Output(as_json=as_json)
    for one in streams:
        output.show(one, f"{one.name}: {_amount(one.messages, one.size_bytes)}")
    output.note(f"{len(streams)} streams {done}")
    return DONE


def _amount(messages: int, size_bytes: int) -> str:
    return f"{messages:,} messages, {size_bytes:,} bytes"
