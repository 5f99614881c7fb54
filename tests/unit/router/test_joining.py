"""Joining by time, size and delimiters: nothing lost, nothing moved, boundaries as asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.flow import BufferOptions
from provider_router.providers.base import Reasoning, Text, ToolCall
from provider_router.streaming.encoding import Content, payload
from provider_router.streaming.joining import Joiner

from .test_encoding import CALLS, atoms

TEXTS = st.text(alphabet="ab\r\n. ", max_size=8)
CONTENTS: st.SearchStrategy[Content] = st.one_of(
    st.builds(Text, TEXTS), st.builds(Reasoning, TEXTS), CALLS
)
BATCHES = st.lists(
    st.tuples(st.floats(0, 0.05, allow_nan=False), st.lists(CONTENTS, min_size=1, max_size=4)),
    max_size=12,
)
DELIMITERS = st.lists(
    st.sampled_from(["\n", "\r\n", ". ", "a", "ab\n", "\n\n"]), min_size=1, max_size=3
)
BOUNDS = st.fixed_dictionaries(
    {},
    optional={"coalesce_ms": st.integers(1, 60), "coalesce_chars": st.integers(1, 12)},
)
OPTIONS = st.one_of(
    st.builds(
        lambda ms, more: BufferOptions(coalesce="time", **{**more, "coalesce_ms": ms}),
        st.integers(1, 60),
        BOUNDS,
    ),
    st.builds(
        lambda chars, more: BufferOptions(coalesce="size", **{**more, "coalesce_chars": chars}),
        st.integers(1, 12),
        BOUNDS,
    ),
    st.builds(
        lambda ends, more: BufferOptions(coalesce="delimiter", coalesce_delimiters=ends, **more),
        DELIMITERS,
        BOUNDS,
    ),
)


def joiner(**fields: Any) -> Joiner:
    return Joiner(BufferOptions.model_validate(fields))


@given(OPTIONS, BATCHES)
def test_joined_content_says_the_same_in_the_same_order(options: BufferOptions, batches):
    joined, now_s, one = [], 0.0, Joiner(options)
    for pause_s, contents in batches:
        now_s += pause_s
        joined += one.add(contents, now_s)
    joined += one.flush()
    assert atoms(joined) == atoms([content for _, contents in batches for content in contents])
    assert one.flush() == []


@given(OPTIONS, BATCHES)
def test_content_is_never_held_above_its_bounds(options: BufferOptions, batches):
    now_s, one = 0.0, Joiner(options)
    held_since_s = 0.0
    for pause_s, contents in batches:
        now_s += pause_s
        held_none = one.due_s is None
        if one.add(contents, now_s) or held_none:
            held_since_s = now_s
        assert one.due_s is None or now_s < one.due_s
        if options.coalesce_ms is not None and one.due_s is not None:
            assert one.due_s <= held_since_s + options.coalesce_ms / 1000
    held = one.flush()
    assert sum(len(payload(event)) for event in held) < (options.coalesce_chars or 65_536)


@given(st.lists(TEXTS), DELIMITERS)
def test_events_end_after_each_delimiter_however_the_text_was_cut(texts: list[str], ends):
    one = joiner(coalesce="delimiter", coalesce_delimiters=ends)
    events = one.add([Text(text) for text in texts], 0.0) + one.flush()
    whole, expected = "".join(texts), []
    while whole:
        found = [whole.index(end) + len(end) for end in ends if end in whole]
        size = min(found, default=len(whole))
        expected.append(whole[:size])
        whole = whole[size:]
    assert [payload(event) for event in events if payload(event)] == expected


@given(st.lists(st.text(min_size=1, max_size=7)), st.integers(1, 12))
def test_an_event_by_size_is_as_few_chunks_as_reach_it(texts: list[str], chars: int):
    one = joiner(coalesce="size", coalesce_chars=chars)
    events = [payload(event) for event in one.add([Text(text) for text in texts], 0.0)]
    left = list(texts)
    for event in events:
        taken: list[str] = []
        while len("".join(taken)) < chars:
            taken.append(left.pop(0))
        assert event == "".join(taken)
    assert one.flush() == ([Text("".join(left))] if left else [])
    assert len("".join(left)) < chars


def test_content_by_time_is_due_that_long_after_its_first_chunk():
    one = joiner(coalesce="time", coalesce_ms=50)
    assert one.due_s is None
    assert one.add([Text("a")], 10.0) == []
    assert one.due_s == pytest.approx(10.05)
    assert one.add([Text("b")], 10.04) == []
    assert one.due_s == pytest.approx(10.05)
    assert one.add([Text("c")], 10.06) == [Text("abc")]
    assert one.due_s is None


def test_content_of_another_kind_ends_an_event_at_once():
    one = joiner(coalesce="time", coalesce_ms=50)
    assert one.add([Reasoning("hm"), Text("a")], 0.0) == [Reasoning("hm")]
    assert one.add([ToolCall(0, "x", "f"), ToolCall(0, arguments="{}")], 0.0) == [Text("a")]
    assert one.add([ToolCall(1, "y", "g")], 0.0) == [ToolCall(0, "x", "f", "{}")]
    assert one.flush() == [ToolCall(1, "y", "g")]


def test_a_delimiter_inside_a_call_names_the_call_once():
    one = joiner(coalesce="delimiter", coalesce_delimiters=[","])
    events = one.add([ToolCall(0, "x", "f", "1,2")], 0.0) + one.flush()
    assert events == [ToolCall(0, "x", "f", "1,"), ToolCall(0, arguments="2")]


def test_a_delimiter_that_two_chunks_bring_ends_an_event():
    one = joiner(coalesce="delimiter", coalesce_delimiters=["\r\n"])
    assert one.add([Text("a\r")], 0.0) == []
    assert one.add([Text("\nb")], 0.0) == [Text("a\r\n")]
    assert one.flush() == [Text("b")]
