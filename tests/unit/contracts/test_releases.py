"""This version and the last releases understand each other: a rolling upgrade mixes them."""

import contextlib
import copy
import json
import re
import tomllib
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from packaging.version import Version
from pydantic import ValidationError
from tests.support import compatibility, releases
from tests.support.releases import ROOT, Release

from atlas.contracts.base import UserInput

from .examples import EXAMPLES
from .public_models import public_models

RECORDED = releases.recorded()
LAST = RECORDED[-2:]
"""Those that may run beside this version."""
MODELS = public_models()
SAID = releases.said()
NOW = releases.flat(SAID["schemas"])
SUBJECTS = set(SAID["subjects"])
WRITTEN_THEN = [
    pytest.param(name.partition(".")[0], example, id=f"{release.version} {name}")
    for release in LAST
    for name, example in release.examples.items()
    if name.partition(".")[0] in MODELS
]
WRITTEN_NOW = [
    pytest.param(release, name, id=f"{name} for {release.version}")
    for release in LAST
    for name in EXAMPLES
    if name.partition(".")[0] in release.definitions
]


def _is_within(part: object, whole: object) -> bool:
    """Whether all that `part` says is said in `whole` too."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and _is_within(one, whole[name]) for name, one in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(_is_within, part, whole))
    return part == whole


def _as_its_readers_take_it(release: Release) -> dict[str, Any]:
    """The definitions of a release, unknown fields and unknown types of events passed over."""
    taken: dict[str, Any] = copy.deepcopy(release.definitions)
    for name, one in taken.items():
        if one.get("additionalProperties") is False:
            del one["additionalProperties"]
        if name in compatibility.GROWING:
            known = list(one["discriminator"]["mapping"])
            other = {"properties": {"type": {"not": {"enum": known}}}, "required": ["type"]}
            one["anyOf"] = [*one.pop("oneOf"), other]
    return taken


TAKEN = {release.version: _as_its_readers_take_it(release) for release in LAST}


@pytest.mark.parametrize("release", LAST, ids=lambda one: one.version)
def test_nothing_changed_that_the_release_cannot_live_with(release: Release) -> None:
    pair = (set(release.subjects), SUBJECTS)
    found = compatibility.differences(release.version, release.definitions, NOW, pair)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("release", LAST, ids=lambda one: one.version)
def test_the_assets_of_the_release_are_those_of_this_version(release: Release) -> None:
    found = compatibility.asset_differences(release.version, release.assets, SAID["assets"])
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("model", "example"), WRITTEN_THEN)
def test_what_a_release_writes_is_read_as_it_was_meant(model: str, example: releases.Json) -> None:
    read = MODELS[model].from_json(json.dumps(example))
    assert _is_within(example, json.loads(read.to_json()))


@pytest.mark.parametrize(("release", "name"), WRITTEN_NOW)
def test_what_is_written_now_is_valid_for_a_release(release: Release, name: str) -> None:
    """Each example whole, and without each field, and all fields, that may be left out."""
    model = type(EXAMPLES[name])
    schema = {"$ref": f"#/$defs/{model.__name__}", "$defs": TAKEN[release.version]}
    validator = Draft202012Validator(schema)
    fields = json.loads(EXAMPLES[name].to_json())
    validator.validate(fields)
    optional = {one for one, field in model.model_fields.items() if not field.is_required()}
    for left_out in [*({one} for one in optional), optional]:
        with contextlib.suppress(ValidationError):  # one of them is needed without the other
            value = model.model_validate({x: y for x, y in fields.items() if x not in left_out})
            validator.validate(json.loads(value.to_json()))


def test_every_release_of_the_changelog_has_its_snapshot() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = set(re.findall(r"^## \[?(\d[^\]\s]*)", changelog, re.MULTILINE))
    assert released <= {one.version for one in RECORDED}, "run `make snapshot` at its tag"


def test_no_snapshot_is_of_a_version_that_is_to_come() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert Version(RECORDED[-1].version) <= Version(version)


# What the comparison finds.

OBJECTS = sorted(name for name, one in NOW.items() if "properties" in one)
WORDS = sorted(name for name, one in NOW.items() if "enum" in one)
STRICT = {name for name, model in MODELS.items() if issubclass(model, UserInput)}
ONLY_USERS_SAY = {"AnswerFault", "Coalescing", "ControlAction", "Role", "TaskAction"}
NULL: releases.Json = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}


def _found(changed: dict[str, Any]) -> list[str]:
    return compatibility.differences("0.9", NOW, changed, (SUBJECTS, SUBJECTS))


def _changed() -> dict[str, Any]:
    return copy.deepcopy(NOW)


def test_the_contract_is_compatible_with_itself() -> None:
    assert _found(NOW) == []


@pytest.mark.parametrize("name", OBJECTS)
def test_each_field_that_is_gone_is_told(name: str) -> None:
    changed = _changed()
    gone = set(changed[name].pop("properties"))
    changed[name] |= {"properties": {"novelty": NULL}, "required": []}
    told = {
        f"{name}.{field} is gone or has another name; 0.9 writes and reads it" for field in gone
    }
    assert set(_found(changed)) == told


@pytest.mark.parametrize("name", OBJECTS)
def test_a_new_field_may_be_missing_and_is_never_required(name: str) -> None:
    changed = _changed()
    changed[name]["properties"]["novelty"] = NULL
    assert _found(changed) == []
    changed[name]["properties"]["novelty"] = {"type": "string"}
    changed[name]["required"] = [*changed[name].get("required", ()), "novelty"]
    assert _found(changed) == [
        f"{name}.novelty is new and required: what 0.9 writes lacks it; give it a default"
    ]


@pytest.mark.parametrize("name", OBJECTS)
def test_a_new_field_with_a_default_is_sent_where_older_services_refuse_it(name: str) -> None:
    changed = _changed()
    changed[name]["properties"]["novelty"] = {"type": "integer", "default": 1}
    told = f"{name}.novelty is new and always sent: 0.9 refuses it; make its default None"
    assert _found(changed) == ([told] if name in STRICT else [])


@pytest.mark.parametrize("name", OBJECTS)
def test_each_field_that_becomes_required_is_told(name: str) -> None:
    changed = _changed()
    optional = set(changed[name]["properties"]) - set(changed[name].get("required", ()))
    changed[name]["required"] = sorted(changed[name]["properties"])
    changed[name]["properties"] |= {field: {"type": "string"} for field in optional}
    told = {f"{name}.{field} is required now: what 0.9 writes may lack it" for field in optional}
    assert told <= set(_found(changed))


@pytest.mark.parametrize("name", OBJECTS)
def test_each_field_of_another_type_is_told(name: str) -> None:
    changed = _changed()
    fields = set(changed[name]["properties"])
    changed[name]["properties"] = {field: {"type": "novelty"} for field in fields}
    told = {one.partition(" can be no ")[0] for one in _found(changed)}
    assert {f"{name}.{field}" for field in fields} <= told


@pytest.mark.parametrize("name", WORDS)
def test_a_word_that_is_gone_is_told_and_a_new_one_where_services_say_it(name: str) -> None:
    changed = _changed()
    gone = changed[name]["enum"].pop()
    assert f"{name} has no {gone!r} any more; 0.9 writes it" in _found(changed)
    changed = _changed()
    changed[name]["enum"].append("novelty")
    told = f"{name} has a new value 'novelty', which 0.9 cannot read"
    assert _found(changed) == ([] if name in ONLY_USERS_SAY else [told])


@pytest.mark.parametrize("name", sorted(compatibility.GROWING))
def test_a_union_of_events_may_grow_and_never_shrinks(name: str) -> None:
    changed = _changed()
    changed["Novelty"] = {"type": "object", "properties": {"type": {"const": "a.novelty"}}}
    changed[name]["oneOf"].append({"$ref": "#/$defs/Novelty"})
    assert _found(changed) == []
    gone = changed[name]["oneOf"].pop(0)["$ref"].removeprefix("#/$defs/")
    assert _found(changed) == [f"{name} can be no {gone} any more; 0.9 writes it"]


def test_a_bound_may_move_neither_way_where_services_write_and_only_out_for_users() -> None:
    changed = _changed()
    changed["TextDelta"]["properties"]["seq"]["minimum"] = 2
    changed["TaskHistory"]["properties"]["limit"]["maximum"] = 20_000
    assert _found(changed) == ["TextDelta.seq: minimum was 1 and is 2; 0.9 writes what is beyond"]
    changed["TextDelta"]["properties"]["seq"]["minimum"] = 0
    changed["TaskHistory"]["properties"]["limit"]["maximum"] = 5_000
    assert _found(changed) == [
        "TaskHistory.limit: maximum was 10000 and is 5000; 0.9 writes what is beyond",
        "TextDelta.seq: minimum was 1 and is 0; 0.9 cannot read beyond",
    ]


def test_a_subject_that_is_gone_is_told() -> None:
    gone = min(SUBJECTS)
    found = compatibility.differences("0.9", NOW, NOW, (SUBJECTS, SUBJECTS - {gone}))
    assert found == [f"{gone}: the subject is gone; 0.9 uses it"]


def test_an_asset_that_is_gone_or_another_is_told_and_a_new_one_is_fine() -> None:
    assets = SAID["assets"]
    changed = {**assets, "ATLAS_NOVELTY": {"subjects": "atlas.*.novelty"}}
    assert compatibility.asset_differences("0.9", assets, changed) == []
    changed["ATLAS_WORK"] = {**assets["ATLAS_WORK"], "max_age": "1"}
    del changed["ATLAS_REPORTS > controllers"]
    told = compatibility.asset_differences("0.9", assets, changed)
    assert [one.partition(";")[0] for one in told] == [
        "ATLAS_REPORTS > controllers is gone",
        "ATLAS_WORK: max_age was 0 in 0.9 and is 1",
    ]
