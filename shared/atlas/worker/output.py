"""From what a handler gives to a subtask's output. Pure."""

import json
from itertools import islice

from jsonschema import Draft202012Validator

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError, ErrorCategory

_SHOWN = 5
_FENCE = "```"


class OutputMismatchError(AtlasError):
    """The output is not what was asked for; another attempt may do better."""

    code = "output_mismatch"
    category = ErrorCategory.VALIDATION
    retryable = True


def read_output(given: object, schema: JsonObject | None) -> object:
    """The output of a subtask: text, or a JSON value; with a schema, one that satisfies it.

    Text is what models answer, so with a schema it is read as JSON.

    Raises:
        OutputMismatchError: It is no JSON, or breaks the schema; says where.
    """
    if isinstance(given, str) and schema is None:
        return given
    value = _parsed(given) if isinstance(given, str) else _plain(given)
    if schema is None:
        return value
    problems = [
        f"{one.json_path}: {one.message[:200]}"
        for one in islice(Draft202012Validator(schema).iter_errors(value), _SHOWN)
    ]
    if problems:
        raise OutputMismatchError(
            f"the answer does not satisfy output_schema: {'; '.join(problems)}",
            details={"problems": list(problems)},
        )
    return value


def _parsed(text: str) -> object:
    try:
        return json.loads(_without_fence(text))
    except ValueError as error:
        raise OutputMismatchError(
            f"JSON was asked for and the answer is none ({error}); it begins with {text[:80]!r}"
        ) from error


def _plain(given: object) -> object:
    """A value as whoever reads its JSON gets it."""
    if given is None:
        raise OutputMismatchError("the handler gave nothing; return text or a JSON value")
    try:
        return json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise OutputMismatchError(
            f"the handler gave a {type(given).__name__} that is no JSON: {error}; return text or a "
            "JSON value"
        ) from error


def _without_fence(text: str) -> str:
    """The text without the Markdown fence that many models put around JSON."""
    stripped = text.strip()
    if not (stripped.startswith(_FENCE) and stripped.endswith(_FENCE)):
        return stripped
    _, _, inner = stripped.partition("\n")
    return inner.removesuffix(_FENCE).strip()
