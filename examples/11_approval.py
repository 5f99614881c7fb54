"""A person looks at a plan before it costs anything, and sends one step of it back.

Run `atlas up` in another terminal, then `python examples/11_approval.py`.
"""

import asyncio

from atlas.client import Atlas
from atlas.contracts.errors import WorkCancelledError
from atlas.contracts.task_events import TaskAwaitingApproval, TaskPlanned
from atlas.contracts.tasks import TaskAction, TaskControl

GOAL = "Announce that the library opens on Sundays"


async def main() -> None:
    async with Atlas.connect() as atlas:
        await approve_the_plan(atlas)
        await reject_the_plan(atlas)
        await let_it_expire(atlas)


async def approve_the_plan(atlas: Atlas) -> None:
    task = await atlas.submit(GOAL, pattern="sequential", approval="plan")
    async for event in task.events():
        match event:
            case TaskPlanned(plan=plan):
                for step in plan:
                    print(f"planned: {step.id}, by {step.capability}")
            case TaskAwaitingApproval():
                await asyncio.sleep(0.1)  # here somebody reads it
                await task.control(TaskControl(action=TaskAction.APPROVE, by="anna"))
    done = await task.result()
    print(f"approved, and done with {done.usage.output_tokens} tokens")


async def reject_the_plan(atlas: Atlas) -> None:
    task = await atlas.submit(GOAL, pattern="parallel", approval="plan")
    async for event in task.events():
        if isinstance(event, TaskAwaitingApproval):
            no = TaskControl(action=TaskAction.REJECT, by="anna", reason="one view is enough")
            await task.control(no)
    try:
        await task.result()
    except WorkCancelledError as error:
        status = await task.status()
        print(f"rejected: {error.message}; {status.usage.output_tokens} tokens")


async def let_it_expire(atlas: Atlas) -> None:
    task = await atlas.submit(GOAL, pattern="single", approval="plan", approval_expires_ms=500)
    try:
        await task.result()
    except WorkCancelledError as error:
        print(f"expired: {error.message}")


asyncio.run(main())
