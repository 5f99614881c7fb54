"""What a request needs of a model, said or seen. Pure.

Hard needs keep a model out: what `requirements` asks for, and what the request plainly uses
(images, tools, a JSON schema, the size of its input). A task type that was only detected is a
soft need: it orders the models that are able, and where none has its levels, none is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas.contracts.inference import (
    TASK_NEEDS,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Level,
    ModelCapability,
    ModelRequest,
    TaskType,
)
from provider_router.routing.estimates import expected_output_tokens, input_tokens
from provider_router.routing.models import KnownModel
from provider_router.routing.task_types import detect_task_type

type Levels = Mapping[ModelCapability, Level]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model must have (`hard`), and what it should be good at (`wished`)."""

    hard: Levels = field(default_factory=dict)
    wished: Levels = field(default_factory=dict)
    """The levels of the task type, told or detected, with the hard ones."""
    context_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    """Expected."""
    task_type: TaskType | None = None
    task_type_reason: str | None = None

    def lacks(self, model: KnownModel) -> list[str]:
        """What of the hard needs a model does not have, in words; empty when it is able."""
        lacking = [
            f"{capability.value} {level.value} (has {model.level(capability).value})"
            for capability, level in self.hard.items()
            if model.level(capability).rank < level.rank
        ]
        if model.context_tokens is not None and model.context_tokens < self.context_tokens:
            lacking.append(f"context {self.context_tokens} tokens (has {model.context_tokens})")
        return lacking


def needs_of(request: ModelRequest, *, detects: bool = True) -> Needs:
    """What a request needs.

    Args:
        request: The request.
        detects: Whether its task type matters to whoever asks; detecting takes up to 0.3 ms.
    """
    wish = request.requirements
    into = input_tokens(request)
    context = into + (request.max_tokens or 0)
    task_type = wish.task_type if wish else None
    reason = "requirements.task_type" if task_type else None
    hard = _highest(_used(request), wish.needs() if wish else {})
    if task_type is None and detects:
        detected = detect_task_type(request)
        task_type, reason = detected.task_type, detected.why
    return Needs(
        hard=hard,
        wished=_highest(TASK_NEEDS[task_type], hard) if task_type else hard,
        context_tokens=max(context, wish.context_tokens or 0) if wish else context,
        input_tokens=into,
        output_tokens=expected_output_tokens(request),
        task_type=task_type,
        task_type_reason=reason,
    )


def _used(request: ModelRequest) -> Levels:
    """What the request itself uses."""
    used: dict[ModelCapability, Level] = {}
    if any(isinstance(part, ImagePart) for one in request.messages for part in one.parts()):
        used[ModelCapability.VISION] = Level.BASIC
    if request.tools:
        used[ModelCapability.TOOL_USE] = Level.BASIC
    if isinstance(request.response_format, JsonSchemaFormat | JsonObjectFormat):
        used[ModelCapability.JSON_OUTPUT] = Level.BASIC
    return used


def _highest(some: Levels, others: Levels) -> dict[ModelCapability, Level]:
    highest = dict(some)
    for capability, level in others.items():
        if level.rank > highest.get(capability, Level.NONE).rank:
            highest[capability] = level
    return highest
