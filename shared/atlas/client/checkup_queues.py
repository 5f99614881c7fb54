"""Whether work is taken as fast as it comes, and by anybody: for `atlas doctor`."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError as AssetNotFoundError

from atlas import subjects
from atlas.bus import Bus
from atlas.client.finding import Finding, ok, problem, span, warning
from atlas.queues import QUEUES, durable_consumers, oldest_waiting_ms

_NOTABLE_AGE_MS = 60_000
"""Nothing waits so long for a hand where there are enough."""
_WHO = {
    subjects.REQUESTS: "routers, or raise `router.max_streams`",
    subjects.SUBMITS: "controllers",
    subjects.REPORTS: "controllers",
    subjects.WORK: "workers, or raise `worker.concurrency`",
}


@dataclass(frozen=True, slots=True)
class Look:
    """What waits at one moment."""

    queues: Mapping[tuple[str, str], ConsumerInfo]
    """By stream and consumer."""
    work: Mapping[str, int]
    """Subtasks by capability, those that are being done included."""


async def look(bus: Bus) -> Look:
    """Ask the server for every queue."""
    found = await asyncio.gather(*(_queues(bus, name) for name in QUEUES))
    queues = {(one.stream_name, one.name): one for some in found for one in some}
    return Look(queues, await _work(bus))


async def _queues(bus: Bus, stream: str) -> list[ConsumerInfo]:
    try:
        return await durable_consumers(bus, stream)
    except AssetNotFoundError:  # told with the assets
        return []


async def _work(bus: Bus) -> dict[str, int]:
    try:
        info = await bus.jetstream.stream_info(subjects.WORK, subjects_filter=subjects.WORK_ALL)
    except AssetNotFoundError:
        return {}
    work: Counter[str] = Counter()
    for subject, count in (info.state.subjects or {}).items():
        work[subjects.parse(subject).id] += count
    return dict(work)


async def backlog(
    bus: Bus, first: Look, then: Look, clock_ms: float, apart_ms: float
) -> list[Finding]:
    """Queues that grew between two looks, or in which something waits for long.

    Args:
        bus: To ask for the oldest message.
        first: The first look.
        then: The second one.
        clock_ms: The time, by the server's clock.
        apart_ms: How long after the first look the second one was.
    """
    found: list[Finding] = []
    for name, queue in then.queues.items():
        waiting = queue.num_pending or 0
        if not waiting:
            continue
        before = (one.num_pending or 0) if (one := first.queues.get(name)) else 0
        since = await oldest_waiting_ms(bus, queue)
        age_ms = max(0.0, clock_ms - since) if since is not None else 0.0
        found += _backlog(queue, waiting - before, age_ms, apart_ms)
    return found or [ok("queues", "what comes in is taken")]


def _backlog(queue: ConsumerInfo, more: int, age_ms: float, apart_ms: float) -> Iterator[Finding]:
    is_old = age_ms >= _NOTABLE_AGE_MS
    if more <= 0 and not is_old:
        return
    grows = f", {more} more than {span(apart_ms)} ago" if more > 0 else ""
    told = (
        f"{queue.num_pending} wait{grows}, the oldest for {span(age_ms)}; if it goes on, start "
        f"more {_WHO[queue.stream_name]}"
    )
    check = f"queue {queue.stream_name}/{queue.name}"
    yield problem(check, told) if is_old and more > 0 else warning(check, told)


def unserved(first: Look, then: Look, offered: Collection[str]) -> Iterator[Finding]:
    """Capabilities for which work waits in both looks, and that no worker said it has."""
    for capability in sorted(first.work.keys() & then.work.keys() - set(offered)):
        told = (
            f"work waits ({then.work[capability]} messages; what nobody takes is sent again), and "
            "no running worker has it; start one that does (`atlas-agent-worker`, or your own), or "
            "cancel the tasks that need it (`atlas task list --state running`)"
        )
        yield problem(f"capability {capability}", told)
