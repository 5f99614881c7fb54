"""From what a tool gives to text that a model can read. Pure."""

import json

from pydantic_core import PydanticSerializationError, to_jsonable_python

from atlas.worker.tools import ToolResultError


def text_of(value: object, most_bytes: int) -> str:
    """The value as text, or as JSON.

    Raises:
        ToolResultError: It is neither, or longer than `most_bytes` as UTF-8.
    """
    text = value if isinstance(value, str) else _json(value)
    if len(text) > most_bytes or len(encoded := text.encode(errors="replace")) > most_bytes:
        raise ToolResultError(
            f"the tool gave more than {most_bytes:,} bytes, which is the most that is taken; ask "
            "it for less"
        )
    return encoded.decode()


def beginning(text: str, most_bytes: int) -> str:
    """As much of the text as fits, in whole characters."""
    return text.encode()[:most_bytes].decode(errors="ignore")


def _json(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        raise ToolResultError("the tool gave bytes, and not text or JSON")
    try:
        return json.dumps(to_jsonable_python(value), ensure_ascii=False, allow_nan=False)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        kind = type(value).__name__
        raise ToolResultError(f"the tool gave a {kind} that is no JSON: {error}") from error
