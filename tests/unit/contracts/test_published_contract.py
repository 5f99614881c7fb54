"""docs/contract.md and docs/schemas say what the models say."""

import fnmatch
import inspect
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from atlas import door, subjects
from atlas.contracts.base import UserInput
from atlas.contracts.catalogue import ProvidersRequest
from atlas.contracts.inference import EmbedRequest, GenerateRequest
from atlas.contracts.streams import HistoryRequest, StreamControl
from atlas.contracts.tasks import SubmitRequest, TaskControl
from docs import contract_subjects, contract_tables, generate_contract

from .examples import EXAMPLES
from .public_models import public_models

FILES = generate_contract.files()
SCHEMAS = contract_tables.schemas()
PAGE = generate_contract.CONTRACT.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_generated_file_is_what_the_models_say_now(path: Path) -> None:
    assert path.read_text() == FILES[path], "stale: run `make contract`"


def test_no_schema_is_left_of_a_model_that_is_gone() -> None:
    assert set(generate_contract.SCHEMAS.glob("*")) == {
        path for path in FILES if path.parent == generate_contract.SCHEMAS
    }


@pytest.mark.parametrize("name", public_models())
def test_every_public_model_is_told_on_the_page(name: str) -> None:
    assert f"\n#### {name}\n" in PAGE


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_json_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schema_accepts_what_is_really_sent(name: str) -> None:
    schema = SCHEMAS[name.partition(".")[0]]
    Draft202012Validator(schema).validate(json.loads(EXAMPLES[name].to_json()))


@pytest.mark.parametrize("union", ["StreamEvent", "TaskEvent", "Part"])
def test_the_schema_of_a_union_accepts_each_of_its_members(union: str) -> None:
    validator = Draft202012Validator(SCHEMAS[union])
    refused = [
        name
        for name in contract_tables.member_names(union)
        if not validator.is_valid(json.loads(EXAMPLES[name].to_json()))
    ]
    assert refused == []


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!#)([^)]+)\)", PAGE)
    assert [link for link in links if not (generate_contract.DOCS / link).exists()] == []


READ_BY: dict[str, type[UserInput]] = {
    "api.generate": GenerateRequest,
    "api.embed": EmbedRequest,
    "api.providers": ProvidersRequest,
    "api.stream.history": HistoryRequest,
    "api.task.submit": SubmitRequest,
    "stream.STREAM_ID.control": StreamControl,
    "task.lakes-1.control": TaskControl,
}
SHOWN = [
    shown
    for page in (PAGE, (generate_contract.DOCS.parent / "README.md").read_text())
    for shown in re.findall(r"^nats req\S* .*?atlas\.default\.(\S+) '(.*?)'", page, re.MULTILINE)
]


@pytest.mark.parametrize(("subject", "body"), SHOWN)
def test_a_request_that_a_document_shows_is_valid(subject: str, body: str) -> None:
    assert door.read(READ_BY[subject], body.encode())


def test_every_jetstream_stream_stands_in_the_table_of_subjects() -> None:
    rows = [*contract_subjects.public_subjects(), *contract_subjects.internal_subjects()]
    assert {kept for _, _, _, kept in rows} - {""} == {
        subjects.REQUESTS,
        subjects.STREAMS,
        subjects.CONTROL,
        subjects.SUBMITS,
        subjects.TASKS,
        subjects.EVENTS,
        subjects.WORK,
        subjects.REPORTS,
        subjects.DEAD,
        subjects.BUDGETS,
        subjects.RESERVATIONS,
        subjects.UPLOADS,
    }


ASYNCAPI = json.loads(generate_contract.ASYNCAPI.read_text())


def _shape(subject: str) -> str:
    """A subject with `*` for everything that differs from one to another."""
    return re.sub(r"\{\w+\}|%7B\w+%7D", "*", subject)


def _addresses() -> set[str]:
    return {_shape(one["address"]) for one in ASYNCAPI["channels"].values() if one["address"]}


def _built() -> dict[str, str]:
    """What each function of `subjects` builds, from its parameters' names."""
    found: dict[str, str] = {}
    others = {"parse", "model_of_usage", "api", "is_inbox"}
    for name, function in inspect.getmembers(subjects, inspect.isfunction):
        if function.__module__ != subjects.__name__ or name in others:
            continue
        arguments = [f"{{{one}}}" for one in inspect.signature(function).parameters]
        built = function(*arguments)
        if built.startswith("atlas."):
            found[name] = built
    return found


def test_every_subject_that_the_code_can_build_is_a_channel_of_the_asyncapi_document() -> None:
    filters = {name for name, built in _built().items() if "*" in built}
    literal = {_shape(built) for name, built in _built().items() if name not in filters}
    doors = {one for one in _addresses() if one.startswith("atlas.*.api.")}
    assert literal | doors == _addresses()


def test_every_wildcard_that_a_service_or_stream_uses_matches_a_channel() -> None:
    wildcards = {
        name: value.replace(">", "*")
        for name, value in vars(subjects).items()
        if name.endswith("_ALL")
    }
    addresses = {one.replace("*", "x") for one in _addresses()}
    unmatched = {
        name
        for name, value in wildcards.items()
        if not any(fnmatch.fnmatchcase(one, value) for one in addresses)
    }
    assert unmatched == set()


def test_every_door_answers_with_its_model_or_an_error() -> None:
    for id_, operation in ASYNCAPI["operations"].items():
        if ".api." in id_ or id_.endswith(".control"):
            names = [one["$ref"].rpartition("/")[2] for one in operation["reply"]["messages"]]
            assert len(names) >= 2, id_
            assert names[-1] == "ErrorReply"


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    for reference in re.findall(r'"\$ref": "([^"]+)"', generate_contract.ASYNCAPI.read_text()):
        path, hash_, inside = reference.partition("#/")
        if not hash_:
            assert (generate_contract.DOCS / path).is_file()
            continue
        place = ASYNCAPI
        for part in inside.split("/"):
            place = place[part]
