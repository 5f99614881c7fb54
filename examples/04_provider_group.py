"""Provider groups: strategies, a race, and a provider that fails and comes back.

Run `python examples/04_provider_group.py`: it starts a NATS server and a router of its own with
the providers of `04_provider_group.yaml`, which are mocks and cost nothing. To a running Atlas
with your own `atlas.yaml` the same code connects by `Atlas.connect()` alone.
"""

import asyncio
from collections import Counter
from pathlib import Path
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.embedded import standalone

CONFIGURATION = Path(__file__).with_suffix(".yaml")


async def main() -> None:
    environment = {"ATLAS_CONFIG": str(CONFIGURATION)}
    async with (
        standalone(controllers=0, workers=0, environment=environment, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        await compare_strategies(atlas)
        await race(atlas)
        await outlive_a_failure(atlas)


async def compare_strategies(atlas: Atlas) -> None:
    """A group is named like a model; who answers is up to its strategy."""
    for group in ("shared", "thrifty"):
        answers = [await atlas.generate("Name a lake", model=group) for _ in range(8)]
        who = Counter(answer.model for answer in answers)
        usd = sum(answer.cost.total_usd for answer in answers)
        print(f"{group}: {dict(who)}, ${usd:.6f}")


async def race(atlas: Atlas) -> None:
    """A first token that is late is raced at the next member; the loser's cost counts."""
    answer = await atlas.generate("Name a lake", model="prompt")
    first_ms = answer.metrics.time_to_first_token_ms
    print(f"prompt: {answer.model} after {first_ms} ms, {answer.metrics.attempts} attempts")


async def outlive_a_failure(atlas: Atlas) -> None:
    """Nobody who asks notices; the events tell what happens behind."""
    watching = asyncio.create_task(tell_of_providers(atlas))
    number = came_back = 0
    while came_back < 3:
        number += 1
        answer = await atlas.generate(f"Name lake number {number}", model="robust")
        print(f"  {number}. {answer.model}, attempts: {answer.metrics.attempts}")
        came_back += answer.provider == "flaky"
        await asyncio.sleep(0.2)
    watching.cancel()

    for one in (await atlas.providers()).providers:
        if one.attempts:
            print(f"{one.provider}: circuit {one.circuit}, {one.failures} of {one.attempts} failed")


async def tell_of_providers(atlas: Atlas) -> None:
    async for event in atlas.events("provider_router", "provider.>"):
        told = event.data
        match event.type:
            case "provider.fallback":
                print(f"     {told['from']} failed, {told['to']} is asked")
            case "provider.circuit":
                print(f"     circuit of {told['provider']}: {told['was']} -> {told['circuit']}")


asyncio.run(main())
