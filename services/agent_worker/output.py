"""From a model's answer to a subtask's output. Pure."""

import json
from itertools import islice

from jsonschema import Draft202012Validator

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError, ErrorCategory

_SHOWN = 5
_FENCE = "```"


class OutputMismatchError(AtlasError):
    """The answer is not what `output_schema` asks for; another attempt may do better."""

    code = "output_mismatch"
    category = ErrorCategory.VALIDATION
    retryable = True


def read_output(text: str, schema: JsonObject | None) -> object:
    """The output of a subtask: the text, or with a schema the JSON value that satisfies it.

    Raises:
        OutputMismatchError: The answer is no JSON, or breaks the schema; says where.
    """
    if schema is None:
        return text
    try:
        value = json.loads(_without_fence(text))
    except ValueError as error:
        raise OutputMismatchError(
            f"the model was asked for JSON and its answer is none ({error}); "
            f"it begins with {text[:80]!r}"
        ) from error
    problems = [
        f"{one.json_path}: {one.message[:200]}"
        for one in islice(Draft202012Validator(schema).iter_errors(value), _SHOWN)
    ]
    if problems:
        raise OutputMismatchError(
            f"the model's answer does not satisfy output_schema: {'; '.join(problems)}",
            details={"problems": list(problems)},
        )
    return value


def _without_fence(text: str) -> str:
    """The text without the Markdown fence that many models put around JSON."""
    stripped = text.strip()
    if not (stripped.startswith(_FENCE) and stripped.endswith(_FENCE)):
        return stripped
    _, _, inner = stripped.partition("\n")
    return inner.removesuffix(_FENCE).strip()
