"""Doing one subtask as a specialist: by a stream of a model, or by an agent with tools."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent_worker.specialists import Specialist, build_request, is_open
from agent_worker.wishes import Wishes
from atlas.contracts.work import Subtask
from atlas.worker import WorkContext


@dataclass(frozen=True, slots=True)
class Specialists:
    """The handler of every specialisation."""

    known: Mapping[str, Specialist]
    wishes: Wishes
    default_model: str | None

    async def do(self, subtask: Subtask, ctx: WorkContext) -> str:
        """What the model answers, with the tools that the subtask and its capability give it."""
        specialist = self.known[subtask.capability]
        if is_open(subtask, specialist, self.default_model):
            wish = await self.wishes.granted(ctx.tenant, specialist.wish)
            specialist = replace(specialist, wish=wish)
        request = build_request(subtask, specialist, default_model=self.default_model)
        return (await ctx.ask_agent(request)).content
