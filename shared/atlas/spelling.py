"""Which known name somebody meant. Pure."""

import difflib
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel

_CLOSE = 0.6
"""difflib's own measure of what is worth suggesting: 1 is the same word, 0 another one."""


def nearest(name: str, known: Iterable[str], close: float = _CLOSE) -> str | None:
    """The known name that `name` most probably means, or None."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=close)), None)


def known_names(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The field names at a path, as far as the types tell; union members are all counted."""
    models = [model]
    for part in loc:
        if isinstance(part, str):
            inner = [
                one.model_fields[part].annotation for one in models if part in one.model_fields
            ]
            models = [found for one in inner for found in models_in(one)] or models
    return sorted({name for one in models for name in one.model_fields})


def models_in(annotation: object) -> list[type[BaseModel]]:
    """The models that a type is made of: itself, its union's members, what its container holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = getattr(annotation, "__value__", None)  # a `type` alias
    members = get_args(annotation) if inner is None else (inner,)
    return [found for member in members for found in models_in(member)]
