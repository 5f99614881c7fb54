"""Answers of every dialect in parts, so that a test can end them wherever a provider might."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.support.router import chat_chunk, chat_end


@dataclass(frozen=True)
class Dialect:
    """How providers of one dialect answer."""

    name: str
    kind: str
    api: str
    opening: bytes
    """The first events, without content."""
    text: Callable[[str], bytes]
    """A piece of the answer."""
    end: bytes
    """The last events, with three tokens of input and five of output."""
    overload: bytes
    """An overload told inside the stream, under a status of 200."""
    overload_code: str
    """The error that it becomes."""
    garbage: bytes
    """An event, by its frame, in which nothing can be read."""

    def whole(self, texts: Iterable[str]) -> bytes:
        """A whole answer."""
        return self.begun(texts) + self.end

    def begun(self, texts: Iterable[str]) -> bytes:
        """An answer without its end."""
        return self.opening + b"".join(map(self.text, texts))


def _named(event: dict[str, object]) -> bytes:
    """An event whose name stands before its data too."""
    data = json.dumps(event, ensure_ascii=False)
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _messages_text(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return _named({"type": "content_block_delta", "index": 0, "delta": delta})


def _responses_text(text: str) -> bytes:
    return _named({"type": "response.output_text.delta", "output_index": 0, "delta": text})


def _ollama_text(text: str) -> bytes:
    return _line({"message": {"role": "assistant", "content": text}, "done": False})


CHAT = Dialect(
    "chat",
    "openai",
    "chat",
    opening=chat_chunk(""),
    text=chat_chunk,
    end=chat_end(),
    overload=b'data: {"error":{"message":"busy","code":"engine_overloaded"}}\n\n',
    overload_code="provider_overloaded",
    garbage=b'data: {"choi\xff\xfe\x00\n\n',
)
MESSAGES = Dialect(
    "messages",
    "anthropic",
    "auto",
    opening=_named({"type": "message_start", "message": {"usage": {"input_tokens": 3}}})
    + _named({"type": "ping"})
    + _named(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    ),
    text=_messages_text,
    end=_named({"type": "content_block_stop", "index": 0})
    + _named(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 5},
        }
    )
    + _named({"type": "message_stop"}),
    overload=_named(
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    ),
    overload_code="provider_overloaded",
    garbage=b"event: content_block_delta\ndata: {\xff\xfe\x00\n\n",
)
RESPONSES = Dialect(
    "responses",
    "openai",
    "responses",
    opening=_named({"type": "response.created", "response": {"status": "in_progress"}}),
    text=_responses_text,
    end=_named(
        {
            "type": "response.completed",
            "response": {"usage": {"input_tokens": 3, "output_tokens": 5}},
        }
    ),
    overload=_named(
        {
            "type": "response.failed",
            "response": {"error": {"code": "server_is_overloaded", "message": "busy"}},
        }
    ),
    overload_code="provider_overloaded",
    garbage=b"event: response.output_text.delta\ndata: {\xff\xfe\x00\n\n",
)
OLLAMA = Dialect(
    "ollama",
    "ollama",
    "auto",
    opening=_ollama_text(""),
    text=_ollama_text,
    end=_line({"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 5}),
    overload=_line({"error": "the model runner has stopped"}),
    overload_code="provider_server",
    garbage=b'{"message":\xff\xfe\x00\n',
)
DIALECTS = (CHAT, MESSAGES, RESPONSES, OLLAMA)
