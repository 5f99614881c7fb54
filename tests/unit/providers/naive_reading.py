"""What a recorded body says, read whole and line by line with nothing but `json`.

It shares no code with the decoders, so that both cannot be wrong in the same way.
"""

import json

from atlas.contracts.errors import ProviderInvalidRequestError
from atlas.contracts.inference import FinishReason, Usage

from .collected import Collected

_REASONS = {
    "stop": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
}


def _events(body: bytes):
    for line in body.decode().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def read_chat(body: bytes) -> Collected:
    """A Chat Completions body."""
    text = reasoning = ""
    calls: dict[int, list[str]] = {}
    usage = finish = error = None
    for event in _events(body):
        for choice in event["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            for piece in delta.get("tool_calls", []):
                call = calls.setdefault(piece["index"], [piece.get("id"), "", ""])
                call[1] += piece["function"].get("name") or ""
                call[2] += piece["function"].get("arguments") or ""
            finish = choice["finish_reason"] or finish
        if told := event.get("usage"):
            usage = Usage(
                input_tokens=told["prompt_tokens"],
                output_tokens=told["completion_tokens"],
                reasoning_tokens=told["completion_tokens_details"]["reasoning_tokens"],
                cached_input_tokens=told["prompt_tokens_details"]["cached_tokens"],
            )
        if "error" in event:
            assert event["error"]["code"] == 400
            error = ProviderInvalidRequestError
    found: list[tuple[str | None, str | None, str]] = [
        (call[0], call[1], call[2]) for _, call in sorted(calls.items())
    ]
    reason = None if error else _REASONS[str(finish)]
    return Collected(text, reasoning, found, usage, reason, error)


def read_messages(body: bytes) -> Collected:
    """A Messages body; blocks that the provider's own servers fill are left out."""
    text = reasoning = ""
    counted: dict[str, int] = {}
    finish = None
    for event in _events(body):
        delta = event.get("delta", {})
        if delta.get("type") == "text_delta":
            text += delta["text"]
        elif delta.get("type") == "thinking_delta":
            reasoning += delta["thinking"]
        elif event["type"] == "message_start":
            counted = dict(event["message"]["usage"])
        elif event["type"] == "message_delta":
            counted |= event["usage"]
            finish = delta["stop_reason"]
    cached, written = counted["cache_read_input_tokens"], counted["cache_creation_input_tokens"]
    usage = Usage(
        input_tokens=counted["input_tokens"] + cached + written,
        output_tokens=counted["output_tokens"],
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )
    return Collected(text, reasoning, [], usage, _REASONS[str(finish)], None)


def read_responses(body: bytes) -> Collected:
    """A Responses body: everything stands once more, as a whole, in its last event."""
    (response,) = [
        event["response"] for event in _events(body) if event["type"] == "response.completed"
    ]
    text = ""
    calls: list[tuple[str | None, str | None, str]] = []
    for item in response["output"]:
        if item["type"] == "message":
            text += "".join(part["text"] for part in item["content"])
        elif item["type"] == "function_call":
            calls.append((item["call_id"], item["name"], item["arguments"]))
    told = response["usage"]
    usage = Usage(
        input_tokens=told["input_tokens"],
        output_tokens=told["output_tokens"],
        reasoning_tokens=told["output_tokens_details"]["reasoning_tokens"],
        cached_input_tokens=told["input_tokens_details"]["cached_tokens"],
    )
    finish = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
    return Collected(text, "", calls, usage, finish, None)
