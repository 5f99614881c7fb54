"""How many tokens something is, where no provider has counted it yet. Pure."""

import math

from atlas.contracts.inference import (
    FilePart,
    ImagePart,
    ModelRequest,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

_CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English; used only where a provider reports nothing."""
_IMAGE_TOKENS = 1_000
"""About a megapixel: Anthropic counts width * height / 750, OpenAI's tiles come to 765 or so."""
_BYTES_PER_FILE_TOKEN = 8
"""A guess for documents, whose bytes are partly layout."""
_BASE64 = 0.75
_ANSWER_TOKENS = 1_000
"""An answer whose length the request does not bound, for its expected cost."""


def estimated_tokens(characters: int) -> int:
    """Tokens for so many characters, rounded up."""
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)


def input_tokens(request: ModelRequest) -> int:
    """The tokens of everything that a request sends."""
    characters = len(request.system_prompt or "")
    characters += sum(
        len(tool.description or "") + len(str(tool.parameters)) for tool in request.tools
    )
    tokens = 0
    for message in request.messages:
        for part in message.parts():
            text, others = _size_of(part)
            characters, tokens = characters + text, tokens + others
    return tokens + estimated_tokens(characters)


def expected_output_tokens(request: ModelRequest) -> int:
    """The tokens that may come back, for an expected cost."""
    return min(request.max_tokens or _ANSWER_TOKENS, _ANSWER_TOKENS)


def _size_of(part: Part) -> tuple[int, int]:
    """Characters of text, and tokens of what is none."""
    match part:
        case TextPart():
            return len(part.text), 0
        case ImagePart():
            return 0, _IMAGE_TOKENS
        case FilePart():
            return 0, int(len(part.data or "") * _BASE64 / _BYTES_PER_FILE_TOKEN)
        case ToolCallPart():
            return len(part.name) + len(part.arguments), 0
        case ToolResultPart():
            return len(part.content), 0
