"""A value that satisfies a JSON Schema, the same one for the same seed: pure.

What the schema offers comes first: `const`, `examples`, `default`, `enum`. A `pattern` is met by
trying a few common shapes; one that none of them meets needs an example.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import cast
from uuid import UUID

from atlas.contracts.base import JsonObject
from provider_router.providers.mock.text import prose

_MAX_DEPTH = 8
"""Deeper than this, a recursive schema gets only what it requires."""

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SHAPES = (
    "a",
    "abc",
    "A",
    "ABC",
    "a1",
    "A1",
    "AB-123",
    "abc-def",
    "abc_def",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "123456",
    "1.0",
    "1.0.0",
    "v1.0.0",
    "2026-01-01",
    "12:00",
    "#a1b2c3",
    "+4930123456",
    "Abc Def",
    "abc@example.com",
    "https://example.com",
)


class Example:
    """Makes values for the schemas under one root, which `$ref` looks into."""

    def __init__(self, root: JsonObject, rng: Random, words: list[str]) -> None:
        self._root = root
        self._rng = rng
        self._words = words

    def value(self) -> object:
        """A value for the root."""
        return self._value(self._root, 0)

    def _value(self, schema: object, depth: int) -> object:
        if not isinstance(schema, Mapping):
            return self._sentence()  # `true`, or nothing at all: anything will do
        schema = self._resolved(schema)
        if offered := _offered(schema):
            return self._rng.choice(offered)
        for name in ("anyOf", "oneOf"):
            if options := _list(schema.get(name)):
                rest = {key: value for key, value in schema.items() if key != name}
                return self._value(_merged(rest, self._choice(options, depth)), depth)
        return self._typed(schema, _type(schema), depth)

    def _typed(self, schema: JsonObject, kind: str, depth: int) -> object:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number":
                return self._number(schema, is_integer=kind == "integer")
            case "boolean":
                return self._rng.random() < 0.5  # noqa: PLR2004 - a coin
            case "null":
                return None
            case _:
                return self._string(schema)

    def _resolved(self, schema: Mapping[str, object]) -> JsonObject:
        """The schema with its `$ref` and `allOf` folded in."""
        found = dict(schema)
        for _ in range(_MAX_DEPTH):
            reference = found.pop("$ref", None)
            parts = _list(found.pop("allOf", None))
            if reference is not None:
                parts.append(self._look_up(str(reference)))
            if not parts:
                break
            for part in parts:
                found = _merged(found, part)
        return found

    def _look_up(self, reference: str) -> object:
        """What a local reference such as `#/$defs/node` names; anything goes when it is not."""
        target: object = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                name = step.replace("~1", "/").replace("~0", "~")
                target = target.get(name, {}) if isinstance(target, Mapping) else {}
        return target

    def _choice(self, options: list[object], depth: int) -> object:
        """One alternative; rather not null, unless a recursive schema has to end."""
        empty = [one for one in options if isinstance(one, Mapping) and one.get("type") == "null"]
        if empty and depth >= _MAX_DEPTH:
            return empty[0]
        return self._rng.choice([one for one in options if one not in empty] or options)

    def _object(self, schema: JsonObject, depth: int) -> JsonObject:
        properties = schema.get("properties")
        known = dict(properties) if isinstance(properties, Mapping) else {}
        required = [str(name) for name in _list(schema.get("required"))]
        names = required if depth >= _MAX_DEPTH else list(dict.fromkeys([*known, *required]))
        found = {name: self._value(known.get(name, {}), depth + 1) for name in names}
        extra = schema.get("additionalProperties")
        while len(found) < _int(schema.get("minProperties"), 0) and extra is not False:
            found[f"item_{len(found) + 1}"] = self._value(extra, depth + 1)
        return found

    def _array(self, schema: JsonObject, depth: int) -> list[object]:
        first = _list(schema.get("prefixItems"))
        least = _int(schema.get("minItems"), 0)
        most = _int(schema.get("maxItems"), max(least, 3))
        size = least if depth >= _MAX_DEPTH else max(least, min(most, self._rng.randint(1, 3)))
        items = schema.get("items", {})
        if items is False:
            size = min(size, len(first))
        found: list[object] = []
        tries = 0
        while len(found) < size:
            of = first[len(found)] if len(found) < len(first) else items
            one = self._value(of, depth + 1)
            tries += 1
            if schema.get("uniqueItems") and one in found:
                if tries > size * 20:
                    break  # too few different values exist
                continue
            found.append(one)
        return found

    def _number(self, schema: JsonObject, *, is_integer: bool) -> int | float:
        step = _float(schema.get("multipleOf"), 1.0 if is_integer else 0.0)
        unit = step or 0.01
        low = _bound(schema, "minimum", "exclusiveMinimum", unit)
        high = _bound(schema, "maximum", "exclusiveMaximum", -unit)
        if low is None:
            low = min(1.0, high) if high is not None else 1.0
        if high is None:
            high = low + 100 * unit
        first, last = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
        if first > last:  # no multiple of a hundredth lies between
            return (low + high) / 2
        value = self._rng.randint(first, last) * unit
        return round(value) if is_integer else round(value, 9)

    def _string(self, schema: JsonObject) -> str:
        if isinstance(schema.get("format"), str):
            made = self._formatted(str(schema["format"]))
            if made is not None:
                return made
        least = _int(schema.get("minLength"), 0)
        most = _int(schema.get("maxLength"), max(least, 200))
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            for shape in _SHAPES:
                if least <= len(shape) <= most and re.search(pattern, shape):
                    return shape
        text = self._sentence()
        while len(text) < least:
            text += " " + self._sentence()
        return text[:most]

    def _sentence(self) -> str:
        return prose(self._rng, self._words, 1)

    def _formatted(self, name: str) -> str | None:
        at = _EPOCH + timedelta(minutes=self._rng.randrange(500_000))
        number = self._rng.randrange(1, 1_000)
        return {
            "date": at.date().isoformat(),
            "date-time": at.isoformat().replace("+00:00", "Z"),
            "time": at.time().isoformat() + "Z",
            "duration": f"P{number}D",
            "email": f"person{number}@example.com",
            "hostname": f"host{number}.example.com",
            "uri": f"https://example.com/{number}",
            "uuid": str(UUID(int=self._rng.getrandbits(128), version=4)),
            "ipv4": f"192.0.2.{number % 256}",
            "ipv6": f"2001:db8::{number:x}",
        }.get(name)


def _offered(schema: JsonObject) -> list[object]:
    """The values that the schema itself names, from the place that binds or suits best."""
    for name in ("const", "default"):
        if name in schema and not (name == "default" and schema.get("examples")):
            return [schema[name]]
    return _list(schema.get("examples")) or _list(schema.get("enum"))


def _type(schema: JsonObject) -> str:
    """The type to make: the first that is not null, or what the other keywords imply."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema or "multipleOf" in schema:
        return "number"
    return "string"


def _merged(schema: JsonObject, part: object) -> JsonObject:
    """Both constraints together; what each says about properties is joined."""
    if not isinstance(part, Mapping):
        return schema
    found = {**schema, **part}
    for name in ("properties", "$defs"):
        left, right = schema.get(name), part.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found[name] = {**left, **right}
    if "required" in schema and "required" in part:
        found["required"] = [*_list(schema["required"]), *_list(part["required"])]
    return found


def _bound(schema: JsonObject, name: str, exclusive: str, step: float) -> float | None:
    found = schema.get(exclusive)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return found + step
    return _float(schema[name], 0.0) if name in schema else None


def _list(value: object) -> list[object]:
    return list(cast("list[object]", value)) if isinstance(value, list) else []


def _int(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _float(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
