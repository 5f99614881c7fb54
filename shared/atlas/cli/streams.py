"""`atlas stream …`: what the commands do."""

from atlas.cli.figures import money, tokens
from atlas.cli.output import Output
from atlas.cli.session import DONE, FAILED, connected, report
from atlas.client import Atlas, Stream
from atlas.contracts.errors import AtlasError
from atlas.contracts.streams import StreamCompleted, StreamFailed, StreamStatus
from atlas.reading import Reading

RESTARTED = "the attempt failed and its text is void; the answer begins anew:"


async def watch(stream_id: str, from_seq: int, *, as_json: bool) -> int:
    """Show text as it comes, or every event as JSON; 0 when the stream completes."""
    output = Output(as_json=as_json)
    async with connected() as atlas:
        async with atlas.watch_stream(stream_id, from_seq=from_seq) as stream:
            if not as_json:
                return await print_text(stream, output)
            async for event in stream.events():
                output.record(event)
        return DONE if isinstance(stream.reading.terminal, StreamCompleted) else FAILED


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
        "text_length": len(reading.text),
    }
    if reading.started is not None:
        summary |= {"provider": reading.started.provider, "model": reading.started.model}
    if reading.terminal is not None:
        end = reading.terminal.model_dump(mode="json", exclude_none=True)
        summary |= {
            name: end[name]
            for name in ("finish_reason", "usage", "cost", "metrics", "error", "by", "reason")
            if name in end
        }
    return summary


def _as_text(stream_id: str, reading: Reading) -> str:
    lines = [f"stream {stream_id}: {reading.state}, {reading.seq} events"]
    if reading.started is not None:
        lines.append(f"model    {reading.started.model} (attempt {reading.attempt})")
    lines.append(f"text     {len(reading.text)} characters")
    end = reading.terminal
    if end is not None:
        lines.append(f"usage    {tokens(end.usage)}, {money(end.cost)}")
    if isinstance(end, StreamCompleted):
        lines.append(f"took     {end.metrics.duration_ms / 1000:.1f} s")
    if isinstance(end, StreamFailed):
        lines.append(f"error    {end.error.message}")
    return "\n".join(lines)
