"""How what comes from outside is read: strictly, with every problem named (contract A2).

Pure: bytes and headers in, a contract value or an `InvalidRequestError` out.
"""

import re
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from atlas.contracts.base import ATLAS_VERSION, JsonObject, UserInput
from atlas.contracts.errors import InvalidRequestError
from atlas.spelling import known_names, nearest
from atlas.wire import VERSION_HEADER

_SHOWN_WORD = 64
_SHOWN = 8
"""How many problems a message lists."""
_KEPT = 100
"""How many `details` holds: the answer must fit a message, whatever was sent."""
_LONGEST = 300
"""Characters of a path or a problem, which may quote what was sent."""


def read[M: UserInput](model: type[M], data: bytes, headers: Mapping[str, str] | None = None) -> M:
    """Read one value that a user sent.

    Unknown fields are refused with the nearest known name, unless the sender's `Atlas-Version` is
    newer than ours.

    Raises:
        InvalidRequestError: With the path of each problem, in the message and in `details`; of
            very many the first ones.
    """
    try:
        if _is_newer(headers):
            return model.model_validate_json(data or b"{}", extra="ignore")
        return model.model_validate_json(data or b"{}")
    except ValidationError as error:
        raise _refusal(model, error) from error


def _is_newer(headers: Mapping[str, str] | None) -> bool:
    version = (headers or {}).get(VERSION_HEADER, "")
    return version.isdecimal() and int(version) > ATLAS_VERSION


def _refusal(model: type[BaseModel], error: ValidationError) -> InvalidRequestError:
    found = error.errors(include_url=False)
    problems = [_problem(model, one) for one in found[:_KEPT]]
    shown = "; ".join(f"{one['path']}: {one['message']}" for one in problems[:_SHOWN])
    more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
    return InvalidRequestError(
        f"the {model.__name__} is not valid: {shown}{more}", details={"problems": list(problems)}
    )


def _problem(model: type[BaseModel], problem: ErrorDetails) -> JsonObject:
    path = _path(problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        near = nearest(str(problem["loc"][-1]), known_names(model, problem["loc"][:-1]))
        message = "unknown field" + (f"; did you mean {near!r}?" if near else "; remove it")
    elif problem["type"] in {"enum", "literal_error"}:
        message = _not_one_of(problem)
    elif problem["type"] == "json_invalid":
        path = "body"
    return {"path": _cut(path), "message": _cut(message)}


def _not_one_of(problem: ErrorDetails) -> str:
    """Of a word that is none of those there are."""
    expected = str(problem.get("ctx", {}).get("expected", ""))
    given = str(problem["input"])[:_SHOWN_WORD]
    near = nearest(given.lower(), re.findall(r"'([^']+)'", expected))
    return f"there is no {given!r}; " + (f"did you mean {near!r}?" if near else f"give {expected}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        if part == "[key]":  # a name that a mapping may not have
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "body"
