"""Which broken answers may be continued, and that the two parts come to one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.inference import ModelRequest
from provider_router.providers.base import Reasoning, Text, ToolCall
from provider_router.streaming.begun import Continuation, Said
from provider_router.streaming.encoding import Content

HELLO = [{"role": "user", "content": "Hello"}]
TEXT = Text("Once upon")
TOOL = {"name": "weather"}
SPACED = st.text(alphabet="ab \n", max_size=12)


def request(**fields: object) -> ModelRequest:
    return ModelRequest.model_validate({"messages": HELLO, **fields})


@pytest.mark.parametrize(
    ("contents", "fields"),
    [
        ([TEXT], {}),
        ([Reasoning("hm"), TEXT], {}),
        ([TEXT], {"tools": [TOOL], "tool_choice": "auto"}),
        ([TEXT], {"response_format": {"type": "text"}}),
        ([TEXT], {"max_tokens": 4}),
    ],
)
def test_text_may_be_continued(contents: list[Content], fields: dict[str, object]):
    assert Said(contents).why_not(request(**fields)) is None


@pytest.mark.parametrize(
    ("contents", "fields", "why"),
    [
        ([], {}, "nothing yet"),
        ([Text(" \n")], {}, "nothing yet"),
        ([Reasoning("hm")], {}, "nothing yet"),
        ([TEXT, Reasoning("hm")], {}, "thought again"),
        ([TEXT, ToolCall(0, "a", "weather")], {}, "call a tool"),
        ([ToolCall(0, "a", "weather"), TEXT], {}, "call a tool"),
        ([TEXT], {"response_format": {"type": "json_object"}}, "response_format"),
        ([TEXT], {"tools": [TOOL], "tool_choice": "required"}, "tool call"),
        ([TEXT], {"tools": [TOOL], "tool_choice": {"name": "weather"}}, "tool call"),
        ([TEXT], {"messages": [*HELLO, {"role": "assistant", "content": "Once"}]}, "assistant"),
        ([TEXT], {"max_tokens": 3}, "max_tokens"),
    ],
)
def test_what_may_not_be_continued_says_why(
    contents: list[Content], fields: dict[str, object], why: str
):
    assert why in (Said(contents).why_not(request(**fields)) or "")


def test_what_is_void_is_no_obstacle():
    said = Said([TEXT, ToolCall(0, "a", "weather")])
    said.restart()
    said.add([TEXT])
    assert (said.text, said.why_not(request())) == ("Once upon", None)


def test_the_request_for_the_rest_ends_with_what_was_said_and_asks_for_no_more_than_is_left():
    asked = request(max_tokens=100, temperature=0.5)
    rest = Continuation(asked, "Once upon a time \n").request
    assert rest.messages[:-1] == asked.messages
    assert (rest.messages[-1].role, rest.messages[-1].content) == ("assistant", "Once upon a time")
    assert (rest.max_tokens, rest.temperature) == (100 - 5, 0.5)


@given(SPACED, st.lists(SPACED), st.integers(0, 4))
def test_whitespace_at_the_seam_is_neither_doubled_nor_lost(
    begun: str, rest: list[str], repeated: int
):
    """The model begins with as much of the whitespace that was not sent as it likes to."""
    begun = "x" + begun
    seam = begun[len(begun.rstrip()) :]
    again = seam[:repeated]
    whole = "".join(rest)
    if again != seam and whole[:1].isspace():
        whole = "y" + whole
    texts = [again[:1], again[1:], whole]
    one = Continuation(request(), begun)
    joined = [content for text in texts for content in one.joined([Text(text)])]
    texts = [content.text for content in joined if isinstance(content, Text)]
    assert begun + "".join(texts) == begun + whole
