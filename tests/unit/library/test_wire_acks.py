"""What JetStream answers to a publish, and what it means."""

import json

import pytest

from atlas.contracts.errors import (
    FencedError,
    OverloadedError,
    RequestTimeoutError,
    StoreRefusedError,
)
from atlas.wire import read_ack, told_outside


def refusal(err_code: int) -> bytes:
    error = {"code": 400, "err_code": err_code, "description": "so it says"}
    return json.dumps({"error": error, "stream": "S", "seq": 0}).encode()


def test_a_stored_message_has_its_sequence():
    ack = read_ack("a.b", b'{"stream":"S","seq":7,"duplicate":true}')
    assert (ack.seq, ack.is_duplicate, ack.value) == (7, True, None)


@pytest.mark.parametrize(
    ("err_code", "kind"),
    [
        (10071, FencedError),  # another sequence is the last
        (10164, FencedError),  # the same, from a server that counts by subject
        (10158, RequestTimeoutError),  # the same message is being stored: nobody knows yet
        (10077, StoreRefusedError),  # too large, too many, no room
    ],
)
def test_a_refusal_says_what_became_of_the_message(err_code: int, kind: type[Exception]):
    with pytest.raises(kind, match=r"a\.b: .*so it says") as told:
        read_ack("a.b", refusal(err_code))
    assert type(told.value) is kind


@pytest.mark.parametrize("err_code", [10002, 10023, 10028, 10047, 10077])
def test_a_refusal_for_want_of_room_tells_who_submits_when_to_try_again(err_code: int):
    with pytest.raises(StoreRefusedError) as refused:
        read_ack("a.b", refusal(err_code))
    told = told_outside(refused.value)
    assert isinstance(told, OverloadedError)
    assert told.message.startswith("a.b: ")
    assert told.retry_after_ms


def test_a_refusal_for_another_reason_is_no_overload():
    with pytest.raises(StoreRefusedError) as refused:
        read_ack("a.b", refusal(10071))
    assert told_outside(refused.value) is refused.value


@pytest.mark.parametrize("data", [b"", b"no JSON"])
def test_what_is_no_acknowledgement_is_shown(data: bytes):
    with pytest.raises(StoreRefusedError, match="no acknowledgement but"):
        read_ack("a.b", data)


@pytest.mark.parametrize("data", [b"", b"+OK", b"{}", b'{"seq": "7"}'])
def test_what_is_no_acknowledgement_is_told_as_it_came(data: bytes):
    with pytest.raises(StoreRefusedError, match=r"a\.b: no acknowledgement but b'"):
        read_ack("a.b", data)


@pytest.mark.parametrize("value", [b'"42"', b"42"])
def test_a_counters_value_is_a_number_however_it_is_written(value: bytes):
    assert read_ack("a.b", b'{"stream":"S","seq":7,"val":%s}' % value).value == 42
