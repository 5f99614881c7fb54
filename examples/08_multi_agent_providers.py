"""A task whose subtasks need different things, so that different models do them.

Run `python examples/08_multi_agent_providers.py`: it starts a NATS server and all services of its
own with the models of `05_task_aware_providers.yaml`, which are mocks and cost nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.contracts.task_events import SubtaskStarted, SubtaskSucceeded, TaskEvent
from atlas.embedded import standalone

CONFIGURATION = Path(__file__).with_name("05_task_aware_providers.yaml")
NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}
"""With a key set real models would join, and they go before the mock."""

GOAL = "Release a command-line tool that converts currencies"
PLAN = [
    {
        "id": "rates",
        "capability": "analysis",
        "instruction": "Compare three sources of exchange rates by accuracy and price.",
        "requirements": {"capabilities": {"math": "strong", "finance": "strong"}},
    },
    {
        "id": "program",
        "capability": "code",
        "instruction": "Write the program for the best of the sources.",
        "depends_on": ["rates"],
        "requirements": {"task_type": "code_generation"},
    },
    {
        "id": "names",
        "capability": "draft",
        "instruction": "List ten names for the tool.",
        "requirements": {"capabilities": {"inexpensive": "strong"}},
    },
    {
        "id": "announcement",
        "capability": "draft",
        "instruction": "Choose a name and announce the tool in a hundred words.",
        "depends_on": ["program", "names"],
        "requirements": {"capabilities": {"creative": "strong"}},
    },
]


async def main() -> None:
    environment = {**NO_KEYS, "ATLAS_CONFIG": str(CONFIGURATION)}
    async with (
        standalone(environment=environment, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        task = await atlas.submit(GOAL, plan=PLAN, budget={"max_usd": 0.50})
        spent_usd = await follow(atlas, task.events())
        done = await task.result()
        for model, usd in sorted(spent_usd.items()):
            print(f"{model:<14} ${usd:.6f}")
        print(f"{'in all':<14} ${done.cost.total_usd:.6f}, {done.usage.output_tokens} tokens out")


async def follow(atlas: Atlas, events: AsyncIterator[TaskEvent]) -> dict[str, float]:
    """Tell who does what; gives what each model cost."""
    models: dict[str, str] = {}
    spent_usd: dict[str, float] = defaultdict(float)
    async for event in events:
        match event:
            case SubtaskStarted(subtask_id=subtask_id, stream_id=stream_id):
                # A subtask's answer is an ordinary stream, so anyone may watch it.
                async with atlas.watch_stream(stream_id) as stream:
                    models[subtask_id] = (await stream.result()).model
            case SubtaskSucceeded(subtask_id=subtask_id, cost=cost, usage=usage):
                model = models[subtask_id]
                spent_usd[model] += cost.total_usd
                print(f"{subtask_id}: {model}, {usage.output_tokens} tokens out")
    return spent_usd


asyncio.run(main())
