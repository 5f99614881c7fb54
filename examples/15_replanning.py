"""A step fails for good, a model changes the rest of the plan, and what was finished is kept.

Run `python examples/15_replanning.py`: it starts a NATS server and all services of its own, with a
mock that costs nothing, and whose new plan is to try once more what failed.
"""

import asyncio
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.contracts.task_events import SubtaskFailed, SubtaskSucceeded, TaskReplanned
from atlas.embedded import standalone

NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}

PLAN = [
    {"id": "prices", "capability": "research", "instruction": "Collect what each harbour costs."},
    {
        "id": "depths",
        "capability": "research",
        "instruction": "Ask the office of charts for the depths.",
        "depends_on": ["prices"],
        "timeout_ms": 1,  # no model answers in a millisecond: it fails for good
        "max_attempts": 1,
    },
    {
        "id": "advice",
        "capability": "draft",
        "instruction": "Compare the harbours and advise.",
        "depends_on": ["prices", "depths"],
    },
]


async def main() -> None:
    async with (
        standalone(environment=NO_KEYS, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        task = await atlas.submit("Choose a harbour for the ferry", plan=PLAN, max_replans=1)
        async for event in task.events():
            match event:
                case SubtaskSucceeded(subtask_id=name):
                    print(f"done: {name}")
                case SubtaskFailed(subtask_id=name, final=True):
                    print(f"lost: {name}")
                case TaskReplanned():
                    print(f"the plan changes: {event.reason}")
                    print(f"  because of {', '.join(event.because)}")
                    print(f"  without {', '.join(event.removed)}")
                    for one in event.added:
                        print(f"  with {one.id} after {', '.join(one.depends_on)}")
        done = await task.result()
        print(f"advice: {len(str(done.output))} characters, {done.usage.output_tokens} tokens")


asyncio.run(main())
