"""The wire format stands in files: what changes there changes for users of every language.

`make goldens` writes them anew; the diff is then what a reviewer reads.
"""

import json
import os
from pathlib import Path
from typing import get_args

import pytest

from atlas.contracts.base import Contract
from atlas.contracts.streams import STREAM_EVENT, KnownStreamEvent
from atlas.contracts.task_events import TASK_EVENT, KnownTaskEvent

from .examples import EXAMPLES
from .public_models import public_models

GOLDEN = Path(__file__).parent / "golden"
IS_WRITING = os.environ.get("WRITE_GOLDENS") == "1"
MODELS = public_models()


def _golden(name: str) -> Path:
    return GOLDEN / f"{name}.json"


def _model_name(example: str) -> str:
    return example.partition(".")[0]


def _pretty(data: bytes) -> str:
    return json.dumps(json.loads(data), indent=2, ensure_ascii=False) + "\n"


def _members(union: object) -> set[str]:
    return {member.__name__ for member in get_args(get_args(union)[0])}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_is_written_as_its_golden_says(name: str) -> None:
    written = _pretty(EXAMPLES[name].to_json())
    if IS_WRITING:
        _golden(name).write_text(written)
    assert written == _golden(name).read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_golden_reads_back_as_the_value_it_was_written_from(name: str) -> None:
    data = _golden(name).read_bytes()
    assert MODELS[_model_name(name)].model_validate_json(data) == EXAMPLES[name]


@pytest.mark.parametrize("name", MODELS)
def test_every_public_model_has_a_golden(name: str) -> None:
    assert name in EXAMPLES, f"add an example of {name} and run `make goldens`"


def test_every_golden_has_its_example() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_of_the_model_that_names_it(name: str) -> None:
    assert type(EXAMPLES[name]).__name__ == _model_name(name)


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_a_model_stands_in_one_of_its_goldens(name: str) -> None:
    shown = {
        key
        for example in EXAMPLES
        if _model_name(example) == name
        for key in json.loads(_golden(example).read_text())
    }
    assert shown == set(MODELS[name].model_fields)


@pytest.mark.parametrize("name", sorted(_members(KnownStreamEvent)))
def test_the_type_alone_tells_which_stream_event_it_is(name: str) -> None:
    event: Contract = STREAM_EVENT.validate_json(_golden(name).read_bytes())
    assert event == EXAMPLES[name]


@pytest.mark.parametrize("name", sorted(_members(KnownTaskEvent)))
def test_the_type_alone_tells_which_task_event_it_is(name: str) -> None:
    event: Contract = TASK_EVENT.validate_json(_golden(name).read_bytes())
    assert event == EXAMPLES[name]
