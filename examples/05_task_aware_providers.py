"""Say what an answer needs instead of who gives it, and see why a model was chosen.

Run `python examples/05_task_aware_providers.py`: it starts a NATS server and a router of its own
with the models of `05_task_aware_providers.yaml`, which are mocks and cost nothing.
"""

import asyncio
from pathlib import Path
from subprocess import DEVNULL

from atlas.client import Atlas
from atlas.contracts.errors import InvalidRequestError
from atlas.embedded import standalone

CONFIGURATION = Path(__file__).with_suffix(".yaml")
NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}
"""With a key set real models would join, and they go before the mock."""

PROMPTS = [
    "Write a Python function that merges two sorted lists.",
    "Write a short poem about the sea.",
    "What is 17 * 23 + 4? Show each step.",
    "Hello, how are you?",
]


async def main() -> None:
    environment = {**NO_KEYS, "ATLAS_CONFIG": str(CONFIGURATION)}
    async with (
        standalone(controllers=0, workers=0, environment=environment, log_to=DEVNULL) as stack,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        await let_the_words_decide(atlas)
        await say_what_is_needed(atlas)
        await ask_why(atlas)
        await ask_for_too_much(atlas)


async def let_the_words_decide(atlas: Atlas) -> None:
    """Without a wish the task type is told by the words; it orders models, it excludes none."""
    for prompt in PROMPTS:
        async with atlas.stream(prompt) as stream:
            answer = await stream.result()
            started = stream.reading.started
        print(f"{prompt}\n    {answer.model}: {started.reason if started else ''}")


async def say_what_is_needed(atlas: Atlas) -> None:
    """Requirements are a must: who does not meet them is not asked."""
    wishes = {
        "a task type": {"task_type": "summarization"},
        "capabilities": {"capabilities": {"math": "strong", "finance": "moderate"}},
        "room": {"capabilities": {"efficient": "strong"}, "context_tokens": 4_000},
    }
    for name, requirements in wishes.items():
        answer = await atlas.generate("The figures of 2031", requirements=requirements)
        print(f"{name} {requirements}\n    {answer.model}, ${answer.cost.total_usd:.6f}")


async def ask_why(atlas: Atlas) -> None:
    """The same as `atlas providers explain PROMPT --capabilities code:moderate`."""
    explanation = await atlas.explain(
        PROMPTS[0], requirements={"capabilities": {"code": "moderate"}}
    )
    print(f"explained: {explanation.task_type} ({explanation.task_type_reason})")
    for place, one in enumerate(explanation.candidates, start=1):
        print(f"    {place}. {one.model}: {one.reason}")
    for unfit in explanation.unfit:
        print(f"    -  {unfit.model} lacks {', '.join(unfit.lacks)}")


async def ask_for_too_much(atlas: Atlas) -> None:
    """What nobody can do is refused at the door, with what the nearest model lacks."""
    try:
        await atlas.generate(
            "Hello", requirements={"capabilities": {"code": "strong", "creative": "strong"}}
        )
    except InvalidRequestError as error:
        print(f"refused: {error.message}")


asyncio.run(main())
