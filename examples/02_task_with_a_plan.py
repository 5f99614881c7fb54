"""Submit a task with a plan of one's own and follow its log.

Run `atlas up` in another terminal, then `python examples/02_task_with_a_plan.py`.
"""

import asyncio

from atlas.client import Atlas

PLAN = [
    {"id": "for", "capability": "analysis", "instruction": "Argue for the proposal."},
    {"id": "against", "capability": "analysis", "instruction": "Argue against the proposal."},
    {
        "id": "verdict",
        "capability": "draft",
        "instruction": "Weigh both sides and decide.",
        "depends_on": ["for", "against"],
    },
]


async def main() -> None:
    async with Atlas.connect() as atlas:
        task = await atlas.submit("Should the office move to the harbour?", plan=PLAN)
        async for event in task.events():
            print(event.version, event.type, getattr(event, "subtask_id", ""))
        done = await task.result()
        print(done.output)
        print(f"{done.usage.output_tokens} tokens, ${done.cost.total_usd:.4f}")


asyncio.run(main())
