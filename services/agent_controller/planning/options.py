"""What a pattern takes in `pattern_options`, and how it is read. Pure."""

import json
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from agent_controller.tasks.plan import Problem, invalid, problems_in
from agent_controller.tasks.view import RESERVED_IDS
from atlas import door
from atlas.contracts.base import UserInput
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.ids import Capability, SubtaskId
from atlas.contracts.tasks import TaskRequest


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank; write what is meant")
    return text


def _distinct(texts: list[str]) -> list[str]:
    if len(set(texts)) < len(texts):
        raise ValueError("one stands there twice; give each once")
    return texts


type Text = Annotated[str, AfterValidator(_not_blank)]


class NoOptions(UserInput):
    """Of a pattern that takes none."""


class Step(UserInput):
    """What is to be done and who does it; an instruction alone may stand for it."""

    instruction: Text
    capability: Capability = "general"

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        return {"instruction": value} if isinstance(value, str) else value


class PipelineOptions(UserInput):
    """The stages, in their order."""

    stages: list[Step] = Field(min_length=1, max_length=100)


class MapReduceOptions(UserInput):
    """What is done with each input, and with the results together."""

    over: str | None = None
    """The input that is a list, of which each element is worked on; else each input is."""
    map: Step = Step(
        instruction="Work on the goal for this material only; the rest is worked on elsewhere, and "
        "the results are brought together afterwards.",
        capability="analysis",
    )
    reduce: Step = Step(
        instruction="Bring the results for all parts of the material together into one complete "
        "answer to the goal.",
        capability="draft",
    )


class DebateOptions(UserInput):
    """Who argues, and how often."""

    positions: list[Text] = Field(default=["in favour", "against"], min_length=2, max_length=8)
    rounds: int = Field(default=2, ge=1, le=5)


class VoteOptions(UserInput):
    """How many vote, and on what."""

    voters: int = Field(default=3, ge=2, le=25)
    choices: Annotated[list[Text], AfterValidator(_distinct)] | None = Field(
        default=None, min_length=2, max_length=50
    )
    """What may be voted for; without them each voter answers freely."""


class Route(Step):
    """A way to work on a goal, and for what goals it is there."""

    when: Text


def _free(name: str) -> str:
    if name in RESERVED_IDS:
        raise ValueError(f"{name!r} is reserved; choose another name")
    return name


class RouteOptions(UserInput):
    """The routes by their names, of which a model chooses one."""

    routes: dict[Annotated[SubtaskId, AfterValidator(_free)], Route] = Field(
        min_length=2, max_length=20
    )


class EvaluateOptions(UserInput):
    """How often a draft is judged and written anew, and by what."""

    rounds: int = Field(default=2, ge=1, le=5)
    criteria: list[Text] = Field(default_factory=list, max_length=20)


def read_options[M: UserInput](request: TaskRequest, model: type[M]) -> M:
    """The options of a request as its pattern knows them.

    Raises:
        InvalidRequestError: Names each option that is unknown or wrong.
    """
    try:
        return door.read(model, json.dumps(request.pattern_options or {}).encode())
    except InvalidRequestError as error:
        problems = [
            Problem(f"pattern_options.{one.path}", one.message) for one in problems_in(error)
        ]
        raise invalid("TaskRequest", problems) from error
