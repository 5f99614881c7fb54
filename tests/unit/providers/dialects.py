"""The small fixtures of every dialect, and what they say."""

from pathlib import Path

import pytest

from atlas.contracts.inference import FinishReason, Usage

from .collected import Collected

DIALECTS = Path(__file__).resolve().parents[2] / "fixtures" / "dialects"
TEXT = "Grüße, moment 🙂"

CHAT = Collected(
    TEXT,
    "",
    [("call_a", "weather", '{"city":"Köln"}'), ("call_b", "time", '{"zone":"CET"}')],
    Usage(input_tokens=40, output_tokens=12, reasoning_tokens=3, cached_input_tokens=32),
    FinishReason.TOOL_CALLS,
)
MESSAGES = Collected(
    TEXT,
    "Zwei Städte…",
    [("toolu_a", "weather", '{"city":"Köln"}'), ("toolu_b", "time", "{}")],
    Usage(
        input_tokens=330,
        output_tokens=50,
        reasoning_tokens=7,
        cached_input_tokens=300,
        cache_write_tokens=20,
    ),
    FinishReason.TOOL_CALLS,
)
RESPONSES = Collected(
    TEXT,
    "Zwei\n\nStädte",
    [("call_a", "weather", '{"city":"Köln"}'), ("call_b", "time", "{}")],
    Usage(
        input_tokens=40,
        output_tokens=12,
        reasoning_tokens=3,
        cached_input_tokens=32,
        cache_write_tokens=4,
    ),
    FinishReason.TOOL_CALLS,
)
OLLAMA = Collected(
    TEXT,
    "Zwei Städte",
    [("call_0", "weather", '{"city":"Köln"}'), ("call_own", "time", "{}")],
    Usage(input_tokens=40, output_tokens=12),
    FinishReason.TOOL_CALLS,
)


def body_of(name: str) -> bytes:
    return (DIALECTS / name).read_bytes()


BODIES = {
    "openai": body_of("chat-tools.sse"),
    "anthropic": body_of("messages-tools.sse"),
    "ollama": body_of("ollama-tools.ndjson"),
}
"""A whole answer for each kind of provider."""

KINDS = pytest.mark.parametrize("kind", sorted(BODIES))
