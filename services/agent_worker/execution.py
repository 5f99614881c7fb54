"""Doing one subtask as a specialist: by one stream of a model."""

from dataclasses import dataclass, replace

from agent_worker.specialists import build_request, specialist_for
from agent_worker.wishes import Wishes
from atlas.contracts.tasks import Subtask
from atlas.worker import WorkContext


@dataclass(frozen=True, slots=True)
class Specialists:
    """The handler of every built-in specialisation."""

    wishes: Wishes
    default_model: str | None

    async def do(self, subtask: Subtask, ctx: WorkContext) -> str:
        """What the model answers."""
        specialist = specialist_for(subtask.capability)
        if subtask.requirements is None and self.default_model is None:
            wish = await self.wishes.granted(ctx.tenant, specialist.requirements)
            specialist = replace(specialist, requirements=wish)
        request = build_request(subtask, specialist, default_model=self.default_model)
        return (await ctx.ask(request)).content
