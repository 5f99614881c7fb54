"""Ids: safe in a subject, sortable by time, derivable."""

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.ids import derived_id, is_id, new_id

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


@given(st.text(alphabet=ALPHABET, min_size=1, max_size=64))
def test_up_to_64_letters_digits_dashes_and_underscores_are_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "a.b", "a b", "*", ">", "ä", "a\n", "a/b"])
def test_what_would_break_a_subject_is_no_id(text: str) -> None:
    assert not is_id(text)


def test_a_new_id_is_an_id() -> None:
    assert is_id(new_id())


def test_a_new_id_is_a_uuid_of_version_7() -> None:
    assert uuid.UUID(new_id()).version == 7


def test_a_new_id_has_the_variant_of_rfc_9562() -> None:
    assert uuid.UUID(new_id()).variant == uuid.RFC_4122


def test_a_new_id_begins_with_the_milliseconds_of_now() -> None:
    before_ms = time.time_ns() // 1_000_000
    made_ms = uuid.UUID(new_id()).int >> 80
    assert before_ms <= made_ms <= time.time_ns() // 1_000_000


def test_new_ids_sort_by_the_millisecond_in_which_they_were_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock_ns = iter(range(1_767_225_600_000_000_000, 1_767_225_700_000_000_000, 1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock_ns))
    ids = [new_id() for _ in range(1_000)]
    assert ids == sorted(ids)


def test_new_ids_of_one_millisecond_differ() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_the_same_parts_give_the_same_id_always() -> None:
    assert derived_id("survey-1", "facts", 2) == "182cf5d397995e1bf4dbf56d8b2fad30"


@given(st.lists(st.text(alphabet=ALPHABET, min_size=1), min_size=1, max_size=4))
def test_a_derived_id_is_an_id(parts: list[str]) -> None:
    assert is_id(derived_id(*parts))


@given(
    st.lists(st.text(alphabet=ALPHABET, min_size=1, max_size=8), min_size=1, max_size=4),
    st.lists(st.text(alphabet=ALPHABET, min_size=1, max_size=8), min_size=1, max_size=4),
)
def test_other_parts_give_another_id(one: list[str], other: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)
