"""`atlas stream …`: what the commands do."""

from atlas.cli.figures import by_and_why, clock, duration, money, tokens
from atlas.cli.options import END
from atlas.cli.output import Output
from atlas.cli.session import DONE, FAILED, connected, report
from atlas.client import Atlas, Stream
from atlas.contracts.base import Contract
from atlas.contracts.errors import AtlasError
from atlas.contracts.streams import (
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamPaused,
    StreamResumed,
    StreamStatus,
)
from atlas.reading import Reading

RESTARTED = "the attempt failed and its text is void; the answer begins anew:"


async def watch(stream_id: str, from_seq: int, *, as_json: bool) -> int:
    """Show text as it comes, or every event as JSON; 0 when the stream completes."""
    output = Output(as_json=as_json)
    async with connected() as atlas:
        if from_seq == END:
            return await _watch_end(atlas, stream_id, output)
        async with atlas.watch_stream(stream_id, from_seq=from_seq) as stream:
            if not as_json:
                return await print_text(stream, output)
            async for event in stream.events():
                output.record(event)
        return _status(stream.reading)


async def _watch_end(atlas: Atlas, stream_id: str, output: Output) -> int:
    """Show nothing but how it ends."""
    async with atlas.watch_stream(stream_id) as stream:
        try:
            response = await stream.result()
        except AtlasError as error:
            if stream.reading.terminal is None:
                raise
            if not output.as_json:  # otherwise the event says why
                report(error, output)
        else:
            if not output.as_json:
                output.line(response.content)
    if output.as_json and stream.reading.terminal is not None:
        output.record(stream.reading.terminal)
    return _status(stream.reading)


def _status(reading: Reading) -> int:
    return DONE if isinstance(reading.terminal, StreamCompleted) else FAILED


async def print_text(stream: Stream, output: Output) -> int:
    """Print an answer as it comes; a restart is told on stderr."""
    is_open = False
    try:
        async for piece in stream:
            if piece.restart:
                output.piece("\n" if is_open else "")
                output.note(RESTARTED)
            output.piece(piece)
            is_open = not piece.endswith("\n") if piece else is_open
    except AtlasError as error:
        if stream.reading.terminal is None:
            raise
        output.piece("\n" if is_open else "")
        report(error, output)
        return FAILED
    output.piece("\n" if is_open else "")
    return DONE


async def show(stream_id: str, *, as_json: bool) -> int:
    """Show where a stream is now."""
    output = Output(as_json=as_json)
    async with connected() as atlas:
        reading = await atlas.read_stream(stream_id)
    output.show(_summary(stream_id, reading), _as_text(stream_id, reading))
    return DONE


async def control(
    stream_id: str, action: str, reason: str | None, by: str | None, *, as_json: bool
) -> int:
    """Pause, resume or cancel; show the resulting state."""
    async with connected() as atlas:
        status = await _control(atlas, stream_id, action, reason, by)
    Output(as_json=as_json).show(status, f"stream {stream_id}: {status.state}")
    return DONE


async def delete(stream_id: str, *, as_json: bool) -> int:
    """Remove a stream that has ended."""
    async with connected() as atlas:
        deleted = await atlas.delete_stream(stream_id)
    said = f"stream {stream_id}: deleted, {deleted.messages} messages"
    Output(as_json=as_json).show(deleted, said)
    return DONE


async def _control(
    atlas: Atlas, stream_id: str, action: str, reason: str | None, by: str | None
) -> StreamStatus:
    return await atlas.control_stream(stream_id, action, reason=reason, by=by)


def _summary(stream_id: str, reading: Reading) -> dict[str, object]:
    summary: dict[str, object] = {
        "stream_id": stream_id,
        "state": reading.state,
        "seq": reading.seq,
        "attempt": reading.attempt,
        "metrics": _plain(reading.metrics),
        "controls": [_plain(one) for one in reading.controls],
    }
    if reading.started is not None:
        summary |= {"provider": reading.started.provider, "model": reading.started.model}
    if reading.terminal is not None:
        end = _plain(reading.terminal)
        summary |= {
            name: end[name]
            for name in ("finish_reason", "usage", "cost", "error", "by", "reason")
            if name in end
        }
    return summary | {"text_length": len(reading.text), "text": reading.text}


def _plain(value: Contract) -> dict[str, object]:
    return value.model_dump(mode="json", exclude_none=True)


def _as_text(stream_id: str, reading: Reading) -> str:
    lines = [f"stream {stream_id}: {reading.state}, {reading.seq} events"]
    if reading.started is not None:
        lines.append(f"model    {reading.started.model} (attempt {reading.attempt})")
    lines.append(f"took     {_times(reading)}")
    end = reading.terminal
    if end is not None:
        lines.append(f"usage    {tokens(end.usage)}, {money(end.cost)}")
    for one in (*reading.controls, end):
        if isinstance(one, StreamPaused | StreamResumed | StreamCancelled):
            what = one.type.removeprefix("stream.")
            lines.append(f"control  {clock(one.at_ms)} {what}{by_and_why(one.by, one.reason)}")
    if isinstance(end, StreamFailed):
        lines.append(f"error    {end.error.message}")
    lines.append(f"text     {len(reading.text)} characters")
    return "\n".join([*lines, "", reading.text] if reading.text else lines)


def _times(reading: Reading) -> str:
    """Such as `4.2s, first token after 0.3s, paused for 1.0s`."""
    metrics = reading.metrics
    said = [duration(metrics.duration_ms / 1000)]
    if metrics.time_to_first_token_ms is not None:
        said.append(f"first token after {duration(metrics.time_to_first_token_ms / 1000)}")
    if metrics.paused_ms:
        said.append(f"paused for {duration(metrics.paused_ms / 1000)}")
    return ", ".join(said)
