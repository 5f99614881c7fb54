"""Models that work with tools: what they say, and a worker whose handler is an agent."""

import contextlib
from typing import Any

from atlas import process
from atlas.bus import Bus
from atlas.contracts.inference import Role
from atlas.nats_settings import NatsSettings
from atlas.worker import ToolContext, Worker
from tests.support.subtasks import reports
from tests.support.workers import settings


class Script:
    """A model that says one thing after the other, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def __call__(self, request) -> Any:
        self.asked.append(request)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]

    def results(self, round_: int) -> Any:
        """What the request of a round tells of the calls of the one before."""
        last = [one for one in self.asked[round_ - 1].messages if one.role is Role.TOOL][-1]
        return [(part.content, part.is_error) for part in last.content]


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


async def shout(text: str, context: ToolContext) -> str:
    """Say it loudly."""
    return f"{text.upper()} {context.tenant} {context.idempotency_key}"


@contextlib.asynccontextmanager
async def at_work(url, *tools, limits=None, grant=None, timeouts_ms=None, **more) -> Any:
    """A worker whose handler is an agent with these tools."""
    own = Worker()
    for one in tools:
        own.tool(timeout_ms=(timeouts_ms or {}).get(one.__name__))(one)

    @own.handles("translate", tools=grant, limits=limits)
    async def translate(given, ctx) -> Any:
        schema = given.output_schema
        wanted = schema and {"type": "json_schema", "json_schema": schema, "strict": False}
        return (await ctx.agent(given.instruction, response_format=wanted)).content

    bus = await Bus.connect(NatsSettings(url=url), "own")
    try:
        async with (
            process.open_context(
                "agent_worker", "own", "workers", settings(**more), bus
            ) as context,
            own.compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


async def calls_told(bus) -> list[Any]:
    told = [one.progress for one in await reports(bus, "progress")]
    return [one["tool_call"] for one in told if one and "tool_call" in one]
