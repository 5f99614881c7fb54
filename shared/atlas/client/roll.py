"""Who is there and which streams run, as their events tell. Pure."""

from atlas.contracts.base import Contract, EpochMs, JsonObject
from atlas.contracts.events import Event

_FORGOTTEN_AFTER = 12
"""Times the silence after which a service is shown no more."""
_MOST = 10_000
"""Services, and streams, that are kept."""
_ENDS = {"stream.completed", "stream.failed", "stream.cancelled"}


class ServiceSeen(Contract):
    """A service process that was heard of."""

    service: str
    instance: str
    state: str
    """`ready`, `draining`, or `silent` when it was not heard of lately."""
    heard_at_ms: EpochMs
    health: JsonObject
    """What `service.health` said last."""
    metrics: JsonObject | None = None
    """What `service.metrics` said last; None until then."""

    def count(self, name: str) -> int | None:
        """A number of `health`, if it is one."""
        value = self.health.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


class RunningStream(Contract):
    """A stream whose request is in its queue: it waits or runs."""

    stream_id: str
    model: str | None = None
    """None when it has not begun since we listen."""
    started_at_ms: EpochMs | None = None


class Roll:
    """Services and streams, folded from events."""

    def __init__(self, silent_after_ms: int) -> None:
        self._silent_after_ms = silent_after_ms
        self._services: dict[str, ServiceSeen] = {}
        self._streams: dict[str, RunningStream] = {}

    @property
    def instances(self) -> set[str]:
        """Every instance that was heard of."""
        return set(self._services)

    def hear(self, event: Event, at_ms: int) -> None:
        """Fold one event, heard at a time of our own clock; others change nothing."""
        match event.type:
            case "service.health" | "service.metrics":
                self._hear_service(event, at_ms)
            case "stream.started":
                self._hear_stream(event)
            case type_ if type_ in _ENDS:
                self._streams.pop(str(event.data.get("stream_id")), None)
            case _:
                pass

    def services(self, at_ms: int) -> list[ServiceSeen]:
        """Those that are there, and those that fell silent not long ago."""
        for name, seen in list(self._services.items()):
            if at_ms - seen.heard_at_ms > _FORGOTTEN_AFTER * self._silent_after_ms:
                del self._services[name]
        return [
            seen.model_copy(update={"state": "silent"})
            if at_ms - seen.heard_at_ms > self._silent_after_ms
            else seen
            for seen in sorted(self._services.values(), key=lambda one: (one.service, one.instance))
        ]

    def stream(self, stream_id: str) -> RunningStream:
        """A stream, with what was heard of it."""
        return self._streams.get(stream_id) or RunningStream(stream_id=stream_id)

    def _hear_service(self, event: Event, at_ms: int) -> None:
        name = event.data.get("instance")
        if not isinstance(name, str):
            return
        before = self._services.get(name)
        if event.type == "service.metrics":
            if before is not None:
                self._services[name] = before.model_copy(update={"metrics": event.data})
            return
        state = str(event.data.get("state"))
        if state == "stopped":
            self._services.pop(name, None)
        elif before is not None or len(self._services) < _MOST:
            self._services[name] = ServiceSeen(
                service=event.source,
                instance=name,
                state=state,
                heard_at_ms=at_ms,
                health=event.data,
                metrics=before.metrics if before else None,
            )

    def _hear_stream(self, event: Event) -> None:
        stream_id, model = event.data.get("stream_id"), event.data.get("model")
        if not isinstance(stream_id, str) or not isinstance(model, str):
            return
        if stream_id not in self._streams and len(self._streams) >= _MOST:
            del self._streams[next(iter(self._streams))]
        self._streams[stream_id] = RunningStream(
            stream_id=stream_id,
            model=model,
            started_at_ms=event.at_ms,
        )
