"""A branch that fails does not discard what its siblings finished.

Run `python examples/13_quorum.py`: it starts a NATS server and all services of its own, with a mock
that costs nothing.
"""

import asyncio
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.embedded import standalone

NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}

GOAL = "Which of the three harbours should the ferry use?"
HURRIED = {"timeout_ms": 1, "max_attempts": 1}
"""No model answers in a millisecond: this branch is lost."""


def survey(harbour: str, **more: object) -> dict[str, object]:
    instruction = f"Say what speaks for {harbour}."
    return {"id": harbour, "capability": "research", "instruction": instruction, **more}


JOIN = {"id": "advice", "capability": "draft", "instruction": "Compare and advise."}
PLAN = [
    survey("north"),
    survey("east", **HURRIED),
    survey("south"),
    {**JOIN, "depends_on": ["north", "east", "south"]},
]


async def main() -> None:
    async with (
        standalone(environment=NO_KEYS, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        task = await atlas.submit(GOAL, plan=PLAN, on_failure="quorum", quorum=2)
        done = await task.result()
        print(f"without {', '.join(done.lost)}: {done.cause.message if done.cause else ''}")
        print(f"advice from two of three: {len(str(done.output))} characters")

        # The whole plan is hurried, but for one branch: its result is the best there is.
        last = {**JOIN, "depends_on": ["north", "east"], **HURRIED}
        plan = [survey("north"), survey("east", **HURRIED), last]
        task = await atlas.submit(GOAL, plan=plan, on_failure="best_so_far")
        done = await task.result()
        if isinstance(done.output, dict):  # results by the ids of their subtasks
            print(f"without {', '.join(done.lost)}; best so far: {', '.join(done.output)}")


asyncio.run(main())
