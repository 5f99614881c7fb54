"""Carries out a plan of chaos: NATS, two router processes, a provider, watchers, and the faults."""

import asyncio
import contextlib
import functools
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import IO

from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import (
    ConnectionFailedError,
    InvalidTransitionError,
    NoResponderError,
    RequestTimeoutError,
)
from atlas.contracts.inference import GenerateRequest
from atlas.contracts.streams import StreamAccepted
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.chaos.faults import Processes
from tests.chaos.plan import ROUTERS, Plan, PlannedStream, Visit
from tests.chaos.upstream import Upstream
from tests.chaos.verdict import Outcome, Seen
from tests.support.provider_server import serving
from tests.support.router import TENANT

_CLIENTS = 3
"""As many as a stream has watchers at most, so that each of them has its own connection."""
_SETTLE_S = 90.0
"""In a world at peace every stream ends in far less."""
_AGAIN_S = 0.2
_GROUP = "any"
_ATTEMPTS = 12
"""More than a plan breaks of a stream that is to be whole; each at another account, at once."""
_MAY_PASS = (RequestTimeoutError, NoResponderError, ConnectionFailedError)


class World:
    """Everything that a plan touches."""

    def __init__(
        self,
        plan: Plan,
        processes: Processes,
        upstream: Upstream,
        bus: Bus,
        clients: list[Atlas],
    ) -> None:
        self._plan = plan
        self._upstream = upstream
        self._bus = bus
        self._clients = clients
        self.processes = processes
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Carry out the plan; gives what is left when all is quiet."""
        await self._bus.subscribe(subjects.stream_chunk(TENANT, "*"), self._hear)
        await self.processes.start()
        streams = [asyncio.create_task(self._stream(one)) for one in self._plan.streams]
        faults = [asyncio.create_task(self.processes.strike(fault)) for fault in self._plan.faults]
        try:
            await asyncio.gather(*faults)
            await asyncio.wait(streams, timeout=_SETTLE_S)
            late = [not one.done() for one in streams]
        finally:
            for task in (*streams, *faults):
                task.cancel()
            results = await asyncio.gather(*streams, *faults, return_exceptions=True)
        self.outcome.errors = [
            "".join(traceback.format_exception(one))
            for one in results
            if isinstance(one, Exception)
        ]
        self.outcome.happened = self.processes.happened
        planned = zip(self._plan.streams, late, strict=True)
        self.outcome.unended = [one.stream_id for one, is_late in planned if is_late]
        await self._take_stock()
        return self.outcome

    async def _hear(self, msg: Msg) -> None:
        stream_id = subjects.parse(msg.subject).id
        self.outcome.live.setdefault(stream_id, []).append(json.loads(msg.data))

    async def _take_stock(self) -> None:
        outcome = self.outcome
        for stream in self._plan.streams:
            subject = subjects.stream_write(TENANT, stream.stream_id)
            outcome.stored[stream.stream_id] = [
                json.loads(one.data) async for one in self._bus.read(subjects.STREAMS, subject)
            ]
        outcome.open_answers = await self._falls_to_zero(self._open_answers)
        outcome.queued_requests = await self._falls_to_zero(self._queued_requests)

    async def _open_answers(self) -> int:
        return self._upstream.open

    async def _queued_requests(self) -> int:
        return (await self._bus.jetstream.stream_info(subjects.REQUESTS)).state.messages

    @staticmethod
    async def _falls_to_zero(figure: Callable[[], Awaitable[int]], within_s: float = 15.0) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while await figure():  # noqa: ASYNC110 - figures of other parties have no event
                    await asyncio.sleep(_AGAIN_S)
        return await figure()

    async def _stream(self, stream: PlannedStream) -> None:
        """Ask for a stream, watch it and control it, until all have seen its end."""
        await self.processes.until(stream.at_s)
        await self._ask(stream)
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(self._watch(stream.stream_id, client, visits))
                for client, visits in zip(cycle(self._clients), stream.watchers, strict=False)
            ]
            group.create_task(self._control(stream))
        self.outcome.seen[stream.stream_id] = [one.result() for one in watching]

    async def _ask(self, stream: PlannedStream) -> None:
        request = GenerateRequest.model_validate(
            {
                "messages": [{"role": "user", "content": stream.stream_id}],
                "model": _GROUP,
                "stream_id": stream.stream_id,
                "stream": True,
                "buffer": {"coalesce": stream.coalesce},
                "fallback": {"on_failure": "fail" if stream.temper == "proud" else "restart"},
            }
        )
        data = request.model_dump_json(exclude_unset=True).encode()
        body = request.model_request().model_dump_json(exclude_unset=True).encode()
        while True:
            try:
                if stream.door == "api":
                    door = subjects.api(TENANT, "generate")
                    await self._bus.request(door, data, StreamAccepted, timeout_s=2)
                else:
                    subject = subjects.stream_request(TENANT, stream.stream_id)
                    await self._bus.store(subject, body, msg_id=stream.stream_id, timeout_s=2)
            except _MAY_PASS:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _watch(self, stream_id: str, atlas: Atlas, visits: tuple[Visit, ...]) -> Seen:
        """Come, leave and come back; the last visit lasts to the end."""
        last_seq, text, terminal = 0, "", None
        for visit in visits:
            await asyncio.sleep(visit.after_s)
            from_seq = last_seq + 1 if visit.goes_on else 1
            try:
                async with (
                    atlas.watch_stream(stream_id, from_seq=from_seq) as stream,
                    aclosing(stream.events()) as events,
                ):
                    count = 0
                    async for _ in events:
                        count += 1
                        if count == visit.events:
                            break
            except Exception as error:  # noqa: BLE001 - whatever a watcher meets, the verdict tells
                return Seen(text, None, f"{type(error).__name__}: {error}")
            last_seq, text = stream.reading.seq, stream.reading.text
            end = stream.reading.terminal
            terminal = None if end is None else json.loads(end.to_json())
        return Seen(text, terminal)

    async def _control(self, stream: PlannedStream) -> None:
        answers = self.outcome.answers.setdefault(stream.stream_id, [])
        for control in stream.controls:
            await asyncio.sleep(control.after_s)
            while True:
                try:
                    status = await self._clients[0].control_stream(
                        stream.stream_id, control.action, by="chaos"
                    )
                except _MAY_PASS:
                    await asyncio.sleep(_AGAIN_S)
                except InvalidTransitionError:
                    return  # it has ended
                else:
                    answers.append(status.state.value)
                    break


@asynccontextmanager
async def world(plan: Plan, directory: Path, log: IO[bytes]) -> AsyncIterator[World]:
    """A world for a plan; everything in it ends with the block, also what is stopped."""
    async with AsyncExitStack() as undo:
        upstream = Upstream(plan)
        await undo.enter_async_context(serving(upstream.reply, lambda _: upstream))
        nats = NatsProcess(directory / "nats")
        undo.push_async_callback(nats.stop)
        await nats.start()
        services = Services(nats.url, log, _environment(upstream.url))
        undo.push_async_callback(services.stop)
        names = ["provider_router"] * ROUTERS
        processes = Processes(
            [nats], services, names, break_providers=functools.partial(_hang_up, upstream)
        )
        undo.callback(processes.wake_all)
        bus = await Bus.connect(NatsSettings(url=nats.url), "chaos")
        undo.push_async_callback(bus.close)
        clients = [
            await undo.enter_async_context(Atlas.connect(nats.url, settings=Settings()))
            for _ in range(_CLIENTS)
        ]
        yield World(plan, processes, upstream, bus, clients)


def _hang_up(upstream: Upstream) -> int:
    """Break every connection of the provider; gives how many there were."""
    count = upstream.open
    upstream.hang_up()
    return count


def _environment(provider_url: str) -> dict[str, str]:
    """Routers that notice soon, and accounts that are never given up for their breaking."""
    account = {"kind": "openai", "base_url": provider_url, "api": "chat"}
    names = [f"account{number}" for number in range(_ATTEMPTS)]
    group = {"strategy": "round_robin", "members": [f"{name}/some-model" for name in names]}
    return {
        "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
        "ATLAS_HEALTH_INTERVAL_MS": "200",
        "ATLAS_ROUTER__MAX_ATTEMPTS": str(_ATTEMPTS),
        "ATLAS_ROUTER__CIRCUIT__FAILURE_RATE": "1.0",
        "ATLAS_ROUTER__CIRCUIT__PROBES": "1000",
        "ATLAS_ROUTER__CIRCUIT__COOL_DOWN_MS": "50",
        "ATLAS_ROUTER__CIRCUIT__LONGEST_COOL_DOWN_MS": "100",
        "ATLAS_PROVIDERS": json.dumps(dict.fromkeys(names, account)),
        "ATLAS_GROUPS": json.dumps({_GROUP: group}),
    }
