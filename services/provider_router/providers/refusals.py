"""What a provider's error says, read from its body: pure.

The shapes that vendors and compatible servers use, the usual one first:

- `{"error": {"message", "type", "code", "param"}}`: OpenAI and most others. Anthropic puts an
  `error_code` under `details`, Azure has an `innererror`, OpenRouter a number as `code` and more
  under `metadata`, Google a `status` and a list of `details`.
- `[{"error": {…}}]`: Google's OpenAI-compatible endpoint.
- `{"message", "type", "code"}` without an envelope: Mistral, older vLLM.
- `{"error": "…"}`: Ollama; with `error_type` Text Generation Inference, with `code` xAI.
- `{"detail": …}`: servers made with FastAPI.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import msgspec

from provider_router.providers.classification import Told

_NO_MESSAGE = "no message"
_STATUSES = range(100, 600)
_TOO_LONG_PARAM = "input_tokens"
"""With it vLLM says that the prompt is too long; its `code` repeats the status."""
_PER_DAY = "PerDay"
"""Part of Google's ids of quotas that last for the day, whatever `retryDelay` stands beside."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")

type _Object = Mapping[str, object]


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Told:
    """What an answer with an error status says; a body that is no JSON is its own message."""
    try:
        told = _read(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = Told(body.decode(errors="replace").strip() or _NO_MESSAGE)
    return replace(told, status=status, headers=headers)


def read_stream_error(value: object) -> Told:
    """What an error inside a stream says: the decoded event, or its `error`."""
    return replace(_read(value), is_in_stream=True)


def _read(value: object) -> Told:
    outer = _object(value)
    error = outer.get("error") or outer
    if isinstance(error, str):
        kind = _text(outer.get("error_type"))
        return Told(error, type=kind, code=_name(outer.get("code")))
    inner = _object(error)
    status, code = _status_or_code(inner.get("code"))
    return Told(
        _message(inner) or _text(value) or _NO_MESSAGE,
        status=status,
        type=_name(inner.get("type")) or _name(inner.get("status")),
        code=code,
        reason=next(_reasons(inner), None),
        retry_after_ms=_retry_after_ms(inner),
    )


def _message(error: _Object) -> str | None:
    for name in ("message", "detail", "error_message"):
        found = error.get(name)
        if isinstance(found, str):
            return found
        if found:
            return msgspec.json.encode(found).decode()
    return None


def _status_or_code(code: object) -> tuple[int | None, str | None]:
    """Many servers repeat the status as the code, as a number or as its digits."""
    if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()):
        number = int(code)
        return (number, None) if number in _STATUSES else (None, str(code))
    return None, _name(code)


def _reasons(error: _Object) -> Iterator[str]:
    """Names that say more than code and type, the most telling first."""
    details = error.get("details")
    yield from _names(_object(details), "error_code")
    yield from _names(_object(error.get("innererror")), "code")
    for detail in _list(details):
        for violation in _list(detail.get("violations")):
            if _PER_DAY in (_text(violation.get("quotaId")) or ""):
                yield "daily_quota"
    for detail in _list(details):
        yield from _names(detail, "reason")
    metadata = _object(error.get("metadata"))
    yield from _names(metadata, "limit_source", "error_type")
    if "flagged_input" in metadata:
        yield "flagged_input"
    if error.get("param") == _TOO_LONG_PARAM:
        yield "context_length_exceeded"


def _retry_after_ms(error: _Object) -> int | None:
    """Google's `RetryInfo`, a duration such as `37s` or `0.5s`."""
    for detail in _list(error.get("details")):
        if match := _DURATION.fullmatch(_text(detail.get("retryDelay")) or ""):
            return round(float(match[1]) * 1000)
    return None


def _names(found: _Object, *keys: str) -> Iterator[str]:
    for key in keys:
        if name := _name(found.get(key)):
            yield name


def _name(value: object) -> str | None:
    """A name for programs; a sentence in its place is none."""
    return value if isinstance(value, str) and value and " " not in value else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: object) -> _Object:
    """An object, or the first of a list of them; empty when it is neither."""
    first = value[0] if isinstance(value, list) and value else value
    return cast("_Object", first) if isinstance(first, dict) else {}


def _list(value: object) -> list[_Object]:
    return [_object(one) for one in value] if isinstance(value, list) else []
