"""A router that knows only the contract, and answers as it is told."""

import asyncio
import contextlib
from typing import Any

from atlas import subjects
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError, FencedError
from atlas.contracts.inference import Cost, FinishReason, ModelRequest, StreamMetrics, Usage
from atlas.contracts.streams import (
    STREAM_EVENT,
    Ownership,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamStarted,
    TextDelta,
    ToolCallDelta,
)
from atlas.reading import text_digest

USAGE = Usage(input_tokens=2, output_tokens=3)


class FakeRouter:
    """Answers requests with what `say` makes of them; counts how often each stream was paid."""

    def __init__(self, bus, say) -> None:
        self.bus = bus
        self.say = say
        self.paid: list[str] = []

    async def run(self) -> Any:
        async with asyncio.TaskGroup() as group:
            for lane in subjects.LANES:
                group.create_task(self._pull(lane))

    async def _pull(self, lane) -> Any:
        pull = await self.bus.pull(subjects.REQUESTS, subjects.lane_consumer(lane))
        async with asyncio.TaskGroup() as group:
            while True:
                for msg in await pull.fetch(10, wait_s=0.5):
                    group.create_task(self._answer(msg))

    async def _answer(self, msg) -> Any:
        parsed = subjects.parse(msg.subject)
        request = ModelRequest.model_validate_json(msg.data)
        owner = Ownership(epoch=now_ms(), router="fake", at_ms=now_ms())
        address = subjects.stream_owner(parsed.tenant, parsed.id)
        try:
            await self.bus.store(address, owner.to_json(), expected_last=0)
        except FencedError:
            return  # delivered again to us, who are at it
        self.paid.append(parsed.id)
        writer = Writer(self.bus, parsed.tenant, parsed.id, owner.epoch)
        await writer.write(StreamStarted, provider="p", model="m", attempt=1, reason="r")
        said = self.say(request)
        if asyncio.iscoroutine(said):
            said = await said
        if isinstance(said, AtlasError):
            await writer.write(StreamFailed, error=said.to_info(), usage=USAGE, cost=Cost())
        elif said is None:
            await writer.write(StreamCancelled, by="me", usage=USAGE, cost=Cost())
        elif isinstance(said, list):  # calls of tools: their names and arguments
            for index, (name, arguments) in enumerate(said):
                call = {"index": index, "id": f"{parsed.id[:8]}-{index}", "name": name}
                await writer.write(ToolCallDelta, **call, arguments=arguments)
            await writer.complete(FinishReason.TOOL_CALLS)
        else:
            for word in said.split(" "):
                await writer.write(TextDelta, text=word if word is said else word + " ")
            await writer.complete()
        await msg.ack()


class Writer:
    def __init__(self, bus, tenant, stream_id, epoch) -> None:
        self.bus, self.tenant, self.stream_id, self.epoch = bus, tenant, stream_id, epoch
        self.seq = 0
        self.text = ""

    async def write(self, kind, **more) -> Any:
        self.seq += 1
        self.text += more.get("text", "")
        event = kind(
            stream_id=self.stream_id, seq=self.seq, epoch=self.epoch, at_ms=now_ms(), **more
        )
        await self.bus.store(
            subjects.stream_write(self.tenant, self.stream_id), STREAM_EVENT.dump_json(event)
        )

    async def complete(self, finish_reason=FinishReason.STOP) -> Any:
        length, digest = text_digest(self.text)
        await self.write(
            StreamCompleted,
            finish_reason=finish_reason,
            usage=USAGE,
            cost=Cost(total_usd=0.1),
            metrics=StreamMetrics(),
            events=self.seq + 1,
            text_length=length,
            text_sha256=digest,
        )


@contextlib.asynccontextmanager
async def routing(bus, say) -> Any:
    router = FakeRouter(bus, say)
    task = asyncio.create_task(router.run())
    try:
        yield router
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
