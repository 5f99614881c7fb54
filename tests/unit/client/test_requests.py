"""What a user says, turned into bytes."""

import json

import pytest

from atlas.client.requests import body, checked_id, headers_of, message_id, messages_of
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import Message, ModelRequest, Role


def test_a_string_is_one_message_of_the_user():
    assert messages_of("hi") == [{"role": "user", "content": "hi"}]


def test_messages_may_be_values_or_mappings():
    messages = messages_of(
        [Message(role=Role.SYSTEM, content="be brief"), {"role": "user", "content": "hi"}]
    )
    request, data = body(ModelRequest, {"messages": messages})
    assert [message.role for message in request.messages] == [Role.SYSTEM, Role.USER]
    assert json.loads(data)["messages"][0] == {"role": "system", "content": "be brief"}


def test_what_was_not_said_is_not_sent():
    _, data = body(ModelRequest, {"messages": messages_of("hi"), "model": None, "top_p": None})
    assert json.loads(data).keys() == {"messages"}


def test_a_value_that_is_no_json_is_refused():
    with pytest.raises(InvalidRequestError, match="not JSON"):
        body(ModelRequest, {"messages": messages_of("hi"), "metadata": object()})


def test_a_subtask_that_is_none_is_refused_with_what_to_give():
    with pytest.raises(InvalidRequestError, match=r"subtask is a dict; .*from_json"):
        headers_of({"task_id": "t1"})  # type: ignore[arg-type]


def test_an_unknown_field_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidRequestError, match="did you mean 'max_tokens'"):
        body(ModelRequest, {"messages": messages_of("hi"), "max_token": 3})


@pytest.mark.parametrize("wrong", ["", "a.b", "a b", "x" * 65, "*", ">"])
def test_an_id_that_is_no_subject_token_is_refused(wrong):
    with pytest.raises(InvalidRequestError, match="stream id"):
        checked_id("stream", wrong)


def test_the_order_in_which_fields_are_said_does_not_matter():
    one = {"messages": messages_of("hi"), "top_p": 0.5, "model": "mock/fast"}
    assert body(ModelRequest, one)[1] == body(ModelRequest, dict(reversed(one.items())))[1]


def test_another_body_or_tenant_under_the_same_id_has_another_message_id():
    assert message_id("a", "s1", b"x") == message_id("a", "s1", b"x")
    assert len({message_id("a", "s1", b"x"), message_id("b", "s1", b"x")}) == 2
    assert len({message_id("a", "s1", b"x"), message_id("a", "s1", b"y")}) == 2
