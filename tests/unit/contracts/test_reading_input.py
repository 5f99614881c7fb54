"""What users send is read strictly, what services send leniently."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from atlas import door
from atlas.contracts.base import Contract, Unknown, UserInput
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import GenerateRequest, ModelRequest
from atlas.contracts.streams import (
    STREAM_EVENT,
    HistoryReply,
    StreamControl,
    StreamState,
    TextDelta,
)
from atlas.contracts.task_events import TASK_EVENT
from atlas.contracts.tasks import SubmitRequest

from .examples import EXAMPLES

USER_INPUT = [name for name, example in EXAMPLES.items() if isinstance(example, UserInput)]
FROM_SERVICES = [name for name, example in EXAMPLES.items() if not isinstance(example, UserInput)]
HELLO: dict[str, object] = {"messages": [{"role": "user", "content": "hello"}]}


def _with_unknown_field(name: str) -> bytes:
    return json.dumps(json.loads(EXAMPLES[name].to_json()) | {"novelty": 1}).encode()


def _refusal(model: type[UserInput], body: object) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refusal:
        door.read(model, json.dumps(body).encode())
    return refusal.value


@pytest.mark.parametrize("name", USER_INPUT)
def test_an_unknown_field_is_refused_in_what_users_send(name: str) -> None:
    with pytest.raises(ValidationError, match="novelty"):
        type(EXAMPLES[name]).model_validate_json(_with_unknown_field(name))


@pytest.mark.parametrize("name", FROM_SERVICES)
def test_an_unknown_field_is_ignored_in_what_services_send(name: str) -> None:
    model = type(EXAMPLES[name])
    assert model.model_validate_json(_with_unknown_field(name)) == EXAMPLES[name]


def _grown(value: object) -> object:
    """A value as a newer version may write it: with a field more in every model, at any depth."""
    if isinstance(value, Contract):
        fields = ((name, getattr(value, name)) for name in type(value).model_fields)
        return {name: _grown(one) for name, one in fields if one is not None} | {"novelty": 1}
    if isinstance(value, list | tuple):
        return [_grown(one) for one in value]
    return to_jsonable_python(value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_accepted_once_is_read_leniently_at_any_depth(name: str) -> None:
    """Such as a request in a task's log, which a newer controller accepted with a new field."""
    grown = json.dumps(_grown(EXAMPLES[name])).encode()
    assert type(EXAMPLES[name]).from_json(grown) == EXAMPLES[name]


UNKNOWN = {
    STREAM_EVENT: {"stream_id": "a", "seq": 2, "epoch": 7, "at_ms": 1, "type": "stream.moved"},
    TASK_EVENT: {"task_id": "a", "version": 2, "at_ms": 1, "type": "task.moved"},
}


@pytest.mark.parametrize("adapter", UNKNOWN, ids=["stream", "task"])
def test_an_event_of_an_unknown_type_is_passed_on_as_it_came(adapter: TypeAdapter[Unknown]) -> None:
    told = UNKNOWN[adapter] | {"to": {"region": "north", "reason": None}}
    event = adapter.validate_json(json.dumps(told), extra="ignore")
    assert (event.type, json.loads(adapter.dump_json(event))) == (told["type"], told)


def test_an_event_of_an_unknown_type_stands_in_a_page_of_history_as_it_came() -> None:
    told = UNKNOWN[STREAM_EVENT] | {"to": "north"}
    event = STREAM_EVENT.validate_python(told)
    page = HistoryReply(events=[event], state=StreamState.ACTIVE).to_json()
    assert json.loads(page)["events"] == [told]
    assert HistoryReply.from_json(page).events == [event]


@pytest.mark.parametrize("adapter", UNKNOWN, ids=["stream", "task"])
def test_an_event_of_a_known_type_must_be_as_the_type_says(adapter: TypeAdapter[Unknown]) -> None:
    known = "text.delta" if adapter is STREAM_EVENT else "task.planned"
    with pytest.raises(ValidationError, match=f"a {known} is not like this"):
        adapter.validate_json(json.dumps(UNKNOWN[adapter] | {"type": known}))


def test_an_unknown_field_of_a_stream_event_is_ignored() -> None:
    assert STREAM_EVENT.validate_json(_with_unknown_field("TextDelta")) == EXAMPLES["TextDelta"]


def test_an_unknown_field_is_refused_with_the_nearest_known_name() -> None:
    refusal = _refusal(ModelRequest, HELLO | {"temprature": 1})
    assert "temprature: unknown field; did you mean 'temperature'?" in refusal.message


def test_an_unknown_field_deep_inside_is_refused_with_its_path() -> None:
    messages = [{"role": "user", "content": "hello", "contents": "?"}]
    refusal = _refusal(ModelRequest, {"messages": messages})
    assert "messages[0].contents: unknown field; did you mean 'content'?" in refusal.message


def test_every_problem_is_named_at_once() -> None:
    refusal = _refusal(ModelRequest, HELLO | {"top_p": 7, "max_tokens": 0, "modle": "x"})
    problems = (refusal.details or {})["problems"]
    assert isinstance(problems, list)
    assert [one["path"] for one in problems] == ["max_tokens", "top_p", "modle"]


def test_of_very_many_or_very_long_problems_as_much_is_named_as_fits_an_answer() -> None:
    body = HELLO | {f"{'x' * 500}{number}": 1 for number in range(2_000)}
    refusal = _refusal(ModelRequest, body)
    assert "(and 1992 more)" in refusal.message
    assert len(refusal.to_reply().to_json()) < 64 * 1024


def test_an_unknown_field_is_ignored_when_the_sender_is_of_a_newer_version() -> None:
    body = json.dumps(HELLO | {"novelty": 1}).encode()
    assert door.read(ModelRequest, body, {"Atlas-Version": "2"}).messages[0].content == "hello"


@pytest.mark.parametrize("version", ["0", "1", "one", "-2", ""])
def test_an_unknown_field_is_refused_when_the_sender_is_not_newer(version: str) -> None:
    with pytest.raises(InvalidRequestError, match="novelty"):
        door.read(
            ModelRequest,
            json.dumps(HELLO | {"novelty": 1}).encode(),
            {"Atlas-Version": version},
        )


def test_what_is_no_json_is_refused_as_such() -> None:
    with pytest.raises(InvalidRequestError, match="Invalid JSON"):
        door.read(ModelRequest, b"hello")


def test_no_body_is_an_empty_object() -> None:
    with pytest.raises(InvalidRequestError, match=r"action: Field required"):
        door.read(StreamControl, b"")


def test_a_value_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EXAMPLES["TextDelta"].text = "other"  # type: ignore[attr-defined]


def test_fields_that_are_none_are_left_out_on_the_wire() -> None:
    assert b"null" not in StreamControl.model_validate({"action": "pause"}).to_json()


def test_text_outside_ascii_goes_over_the_wire_as_utf_8() -> None:
    delta = TextDelta(stream_id="a", seq=1, epoch=0, at_ms=0, text="🐉")
    assert "🐉".encode() in delta.to_json()


def test_the_model_request_lacks_what_only_the_generate_door_needs() -> None:
    request = GenerateRequest.model_validate(HELLO | {"stream_id": "a", "stream": True})
    assert request.model_request() == ModelRequest.model_validate(HELLO)


def test_the_task_request_lacks_what_only_the_submit_door_needs() -> None:
    request = SubmitRequest(goal="try", task_id="a").task_request()
    assert json.loads(request.to_json()).keys().isdisjoint({"task_id"})
