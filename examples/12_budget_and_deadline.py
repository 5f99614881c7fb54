"""Tasks that may not cost more, or last longer, than somebody allows; what was done is kept.

Run `python examples/12_budget_and_deadline.py`: it starts a NATS server and all services of its
own with the models of `05_task_aware_providers.yaml`, which are mocks and cost nothing.
"""

import asyncio
import time
from pathlib import Path
from subprocess import DEVNULL

from atlas.client import Atlas, Task
from atlas.contracts.errors import TaskFailedError
from atlas.embedded import standalone

CONFIGURATION = Path(__file__).with_name("05_task_aware_providers.yaml")
NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}

PLAN = [
    {"id": "facts", "capability": "research", "instruction": "Collect what is known of tides."},
    {
        "id": "lesson",
        "capability": "draft",
        "instruction": "Write a lesson for children of ten.",
        "depends_on": ["facts"],
    },
]


async def main() -> None:
    environment = {**NO_KEYS, "ATLAS_CONFIG": str(CONFIGURATION)}
    async with (
        standalone(environment=environment, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        enough = await atlas.submit("Explain the tides", plan=PLAN, budget={"max_tokens": 20_000})
        done = await enough.result()
        used = done.usage.input_tokens + done.usage.output_tokens
        print(f"enough: completed with {used} tokens")

        # Every step gets its part of what is left: the first is done with its own, the second not.
        tight = await atlas.submit(
            "Explain the tides", plan=PLAN, budget={"max_tokens": used * 9 // 10}
        )
        await told("tight", tight)

        in_a_moment = int(time.time() * 1000) + 300
        late = await atlas.submit("Explain", pattern="sequential", deadline_ms=in_a_moment)
        await told("late", late)


async def told(name: str, task: Task) -> None:
    """Say how a task ended that cannot be done, and which of its subtasks were."""
    try:
        await task.result()
    except TaskFailedError as error:
        finished = list((error.details or {})["outputs"])
        print(f"{name}: {error.message}\n  finished before: {finished or 'nothing'}")


asyncio.run(main())
