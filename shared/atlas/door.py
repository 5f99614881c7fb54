"""How what comes from outside is read: strictly, with every problem named (contract A2).

Pure: bytes and headers in, a contract value or an `InvalidRequestError` out.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from atlas.contracts.base import ATLAS_VERSION, JsonObject, UserInput
from atlas.contracts.errors import InvalidRequestError
from atlas.spelling import known_names, nearest
from atlas.wire import VERSION_HEADER

_SHOWN = 8
"""How many problems a message lists; `details` holds them all."""


def read[M: UserInput](model: type[M], data: bytes, headers: Mapping[str, str] | None = None) -> M:
    """Read one value that a user sent.

    Unknown fields are refused with the nearest known name, unless the sender's `Atlas-Version` is
    newer than ours.

    Raises:
        InvalidRequestError: With the path of each problem, in the message and in `details`.
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
    problems: list[JsonObject] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = _path(problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = nearest(str(problem["loc"][-1]), known_names(model, problem["loc"][:-1]))
            message = "unknown field" + (f"; did you mean {near!r}?" if near else "; remove it")
        elif problem["type"] == "json_invalid":
            path = "body"
        problems.append({"path": path, "message": message})
    shown = "; ".join(f"{one['path']}: {one['message']}" for one in problems[:_SHOWN])
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    return InvalidRequestError(
        f"the {model.__name__} is not valid: {shown}{more}", details={"problems": list(problems)}
    )


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "body"
