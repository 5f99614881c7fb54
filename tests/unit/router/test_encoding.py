"""Content as bytes: the contract's own shapes, and joining that loses nothing."""

from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.streams import (
    STREAM_EVENT,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from provider_router.providers.base import Reasoning, Text, ToolCall
from provider_router.streaming.encoding import Content, coalesce, encode_content

TEXTS = st.text(max_size=6)
CALLS = st.builds(
    ToolCall,
    index=st.integers(0, 2),
    id=st.none() | st.just("call_a"),
    name=st.none() | st.just("weather"),
    arguments=TEXTS,
)
CONTENTS: st.SearchStrategy[Content] = st.one_of(
    st.builds(Text, TEXTS), st.builds(Reasoning, TEXTS), CALLS
)


def as_contract(content: Content, at_ms: int) -> StreamEvent:
    match content:
        case Text(text):
            return TextDelta(stream_id="s1", seq=3, epoch=7, at_ms=at_ms, text=text)
        case Reasoning(text):
            return ReasoningDelta(stream_id="s1", seq=3, epoch=7, at_ms=at_ms, text=text)
        case ToolCall(index, id_, name, arguments):
            return ToolCallDelta(
                stream_id="s1",
                seq=3,
                epoch=7,
                at_ms=at_ms,
                index=index,
                id=id_,
                name=name,
                arguments=arguments,
            )


@given(CONTENTS)
def test_content_is_encoded_as_the_contract_says(content: Content):
    event = STREAM_EVENT.validate_json(encode_content("s1", 3, 7, content))
    assert event == as_contract(content, event.at_ms)


def atoms(contents: list[Content]) -> list[object]:
    """Contents as characters, so that it does not matter how they were cut."""
    found: list[object] = []
    for one in contents:
        if isinstance(one, ToolCall):
            if one.id is not None or one.name is not None:
                found.append((one.index, one.id, one.name))
            found += [(one.index, character) for character in one.arguments]
        else:
            found += [(type(one), character) for character in one.text]
    return found


@given(st.lists(CONTENTS, min_size=1))
def test_joined_content_says_the_same_in_the_same_order(contents: list[Content]):
    assert atoms(coalesce(contents)) == atoms(contents)


@given(st.lists(CONTENTS, min_size=1))
def test_joined_content_leaves_nothing_to_join(contents: list[Content]):
    joined = coalesce(contents)
    assert coalesce(joined) == joined


@given(st.lists(TEXTS, min_size=1))
def test_neighbours_of_one_kind_become_one(texts: list[str]):
    assert coalesce([Text(text) for text in texts]) == [Text("".join(texts))]


def test_a_new_tool_call_is_never_joined_to_the_one_before():
    calls: list[Content] = [
        ToolCall(0, "a", "f", "{}"),
        ToolCall(1, "b", "g", "{"),
        ToolCall(1, arguments="}"),
    ]
    assert coalesce(calls) == [ToolCall(0, "a", "f", "{}"), ToolCall(1, "b", "g", "{}")]
