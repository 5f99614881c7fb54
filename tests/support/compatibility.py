"""Whether two versions of the contract work beside each other, as sentences of what does not.

Both ways at once: during a rolling upgrade each version reads what the other one writes. Services
write messages without `additionalProperties: false`, and those are read leniently; the others users
send, and a service refuses a field that it does not know. What users send may stand in what
services write (a request in a task's log), where a new value must be read by an older service.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

type Json = dict[str, object]

GROWING = frozenset({"StreamEvent", "TaskEvent"})
"""Unions to which members may be added: readers pass over what they do not know."""

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_NESTED = ("items", "additionalProperties", "propertyNames")
_REFERENCE = "#/$defs/"


def differences(
    since: str, old: dict[str, Json], new: dict[str, Json], subjects: tuple[set[str], set[str]]
) -> list[str]:
    """What of a contract does not work beside that of the version `since`, each in a sentence."""
    return sorted(
        chain(
            (f"{one}: the subject is gone; {since} uses it" for one in subjects[0] - subjects[1]),
            _Comparison(since, old, new, _told(old) | _told(new)).all(),
        )
    )


type Assets = dict[str, Json]


def asset_differences(since: str, old: Assets, new: Assets) -> list[str]:
    """What of the JetStream assets the services of two versions would not leave alone.

    Each checks at its start that an asset is as itself would make it. New ones disturb nobody.
    """
    found = [f"{name} is gone; {since} uses it" for name in old.keys() - new.keys()]
    for name in old.keys() & new.keys():
        for field in old[name].keys() | new[name].keys():
            was, is_ = old[name].get(field), new[name].get(field)
            if was != is_:
                found.append(
                    f"{name}: {field} was {was} in {since} and is {is_}; services of one version "
                    "refuse the asset of the other, or change it back; make another one for it"
                )
    return sorted(found)


def _told(definitions: dict[str, Json]) -> set[str]:
    """What services write, and everything that may stand in it."""
    found = {
        name for name, one in definitions.items() if "properties" in one and not _is_strict(one)
    }
    waiting = list(found)
    while waiting:
        for name in _references(definitions[waiting.pop()]):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)
    elif isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix(_REFERENCE)
        for one in schema.values():
            yield from _references(one)


def _is_strict(schema: Json) -> bool:
    return schema.get("additionalProperties") is False


def _variants(schema: Json) -> dict[str, Json]:
    """What a value may be, null left out: nobody writes it, a field is left out instead."""
    found: dict[str, Json] = {}
    of = schema.get("anyOf") or schema.get("oneOf") or [schema]
    assert isinstance(of, list)
    for one in of:
        if "anyOf" in one or "oneOf" in one:
            found |= _variants(one)
        elif one.get("type") != "null":
            kind = one.get("$ref") or one.get("const") or one.get("type", "anything")
            found[str(kind).removeprefix(_REFERENCE)] = one
    return found


def _fields(schema: Json) -> dict[str, Json]:
    fields = schema.get("properties", {})
    assert isinstance(fields, dict)
    return fields


def _always(schema: Json) -> set[str]:
    """The fields that are never left out."""
    required = schema.get("required", [])
    assert isinstance(required, list)
    return {
        name
        for name in required
        if not any(one.get("type") == "null" for one in _any_of(_fields(schema)[name]))
    }


def _any_of(schema: Json) -> list[Json]:
    found = schema.get("anyOf", [])
    assert isinstance(found, list)
    return found


@dataclass(frozen=True, slots=True)
class _Comparison:
    since: str
    old: dict[str, Json]
    new: dict[str, Json]
    told: set[str]

    def all(self) -> Iterator[str]:
        """Every definition that the old version has."""
        for name, before in self.old.items():
            if name in self.new:
                yield from self._schema(name, before, self.new[name], is_told=name in self.told)
            else:
                yield f"{name} is gone or has another name; {self.since} uses it"

    def _schema(self, path: str, before: Json, after: Json, *, is_told: bool) -> Iterator[str]:
        was, is_ = _variants(before), _variants(after)
        for kind in was.keys() - is_.keys():
            yield f"{path} can be no {kind} any more; {self.since} writes it"
        for kind in is_.keys() - was.keys():
            if is_told and path not in GROWING:
                yield f"{path} may be a {kind} now, which {self.since} cannot read"
        for kind in was.keys() & is_.keys():
            yield from self._same_kind(path, was[kind], is_[kind], is_told=is_told)

    def _same_kind(self, path: str, before: Json, after: Json, *, is_told: bool) -> Iterator[str]:
        if "properties" in before or "properties" in after:
            yield from self._object(path, before, after, is_told=is_told)
            return
        yield from self._values(path, before, after, is_told=is_told)
        yield from self._bounds(path, before, after, is_told=is_told)
        for word in _NESTED:
            was, is_ = before.get(word), after.get(word)
            if isinstance(was, dict) and isinstance(is_, dict):
                yield from self._schema(f"{path}.{word}", was, is_, is_told=is_told)
            elif was != is_ and (isinstance(is_, dict) or is_told):
                yield f"{path}.{word} is something else than in {self.since}"

    def _object(self, path: str, before: Json, after: Json, *, is_told: bool) -> Iterator[str]:
        was, is_ = _fields(before), _fields(after)
        for name in was.keys() - is_.keys():
            yield f"{path}.{name} is gone or has another name; {self.since} writes and reads it"
        for name in is_.keys() - was.keys():
            if name in _always(after):
                yield (
                    f"{path}.{name} is new and required: what {self.since} writes lacks it; "
                    "give it a default"
                )
            elif _is_strict(after) and is_[name].get("default", ()) is not None:
                yield (
                    f"{path}.{name} is new and always sent: {self.since} refuses it; "
                    "make its default None"
                )
        for name in was.keys() & is_.keys():
            here = f"{path}.{name}"
            if name in _always(after) - _always(before):
                yield f"{here} is required now: what {self.since} writes may lack it"
            if is_told and name in _always(before) - _always(after):
                yield f"{here} may be left out now: {self.since} cannot read what lacks it"
            yield from self._schema(here, was[name], is_[name], is_told=is_told)
        if _is_strict(after) and not _is_strict(before):
            yield f"{path} refuses unknown fields now, which services of other versions write"

    def _values(self, path: str, before: Json, after: Json, *, is_told: bool) -> Iterator[str]:
        was, is_ = before.get("enum", []), after.get("enum", [])
        assert isinstance(was, list)
        assert isinstance(is_, list)
        for value in was:
            if value not in is_ and is_:
                yield f"{path} has no {value!r} any more; {self.since} writes it"
        for value in is_:
            if value not in was and is_told:
                yield f"{path} has a new value {value!r}, which {self.since} cannot read"
        if bool(was) != bool(is_) and (is_ or is_told):
            yield f"{path} was {'not ' * (not was)}one of given words in {self.since}"
        if before.get("pattern") != after.get("pattern"):
            pair = before.get("pattern"), after.get("pattern")
            yield f"{path} has another pattern: {pair[0]} in {self.since}, {pair[1]} now"

    def _bounds(self, path: str, before: Json, after: Json, *, is_told: bool) -> Iterator[str]:
        for word in (*_LOWER, *_UPPER):
            none = float("-inf") if word in _LOWER else float("inf")
            was, is_ = before.get(word, none), after.get(word, none)
            assert isinstance(was, int | float)
            assert isinstance(is_, int | float)
            is_tighter = is_ > was if word in _LOWER else is_ < was
            if is_tighter:
                yield f"{path}: {word} was {was} and is {is_}; {self.since} writes what is beyond"
            elif is_ != was and is_told:
                yield f"{path}: {word} was {was} and is {is_}; {self.since} cannot read beyond"
