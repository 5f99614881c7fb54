"""Messages and what stands in them: what fits which role."""

import pytest
from pydantic import ValidationError

from atlas.contracts.inference import (
    ImagePart,
    Level,
    Message,
    ModelCapability,
    ModelRequest,
    Requirements,
    Role,
    TaskType,
    TextPart,
    Usage,
    UsageSource,
)

TEXT = {"type": "text", "text": "hello"}
IMAGE = {"type": "image", "url": "https://example.com/a.png"}
FILE = {"type": "file", "object": "default/a.pdf"}
CALL = {"type": "tool_call", "id": "1", "name": "f", "arguments": "{}"}
RESULT = {"type": "tool_result", "tool_call_id": "1", "content": "42"}


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("system", TEXT),
        ("user", TEXT),
        ("user", IMAGE),
        ("user", FILE),
        ("assistant", TEXT),
        ("assistant", CALL),
        ("tool", RESULT),
    ],
)
def test_a_part_may_stand_in_a_message_of_its_role(role: str, part: dict[str, object]) -> None:
    assert len(Message.model_validate({"role": role, "content": [part]}).parts()) == 1


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("system", IMAGE),
        ("user", CALL),
        ("user", RESULT),
        ("assistant", IMAGE),
        ("assistant", RESULT),
        ("tool", TEXT),
        ("tool", CALL),
    ],
)
def test_a_part_of_another_role_is_refused(role: str, part: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=f"may not stand in a {role} message"):
        Message.model_validate({"role": role, "content": [part]})


def test_a_tool_message_of_mere_text_is_refused() -> None:
    with pytest.raises(ValidationError, match="tool_result"):
        Message.model_validate({"role": "tool", "content": "42"})


def test_a_message_without_any_part_is_refused() -> None:
    with pytest.raises(ValidationError, match="empty list"):
        Message.model_validate({"role": "user", "content": []})


def test_a_part_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="video"):
        Message.model_validate({"role": "user", "content": [{"type": "video", "url": "x"}]})


def test_a_content_of_mere_text_reads_as_one_part() -> None:
    assert Message(role=Role.USER, content="hello").parts() == [TextPart(text="hello")]


@pytest.mark.parametrize(
    "source",
    [{}, {"url": "https://example.com/a", "object": "a"}, {"data": "AA==", "url": "https://x"}],
)
def test_a_picture_has_exactly_one_source(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="exactly one of url, data, object"):
        ImagePart.model_validate({"type": "image", **source})


def test_inline_bytes_need_their_media_type() -> None:
    with pytest.raises(ValidationError, match="media_type"):
        ImagePart.model_validate({"type": "image", "data": "AA=="})


def test_a_request_without_messages_is_refused() -> None:
    with pytest.raises(ValidationError, match="messages"):
        ModelRequest.model_validate({"messages": []})


def test_what_is_asked_raises_what_the_task_type_needs() -> None:
    requirements = Requirements(
        task_type=TaskType.SUMMARIZATION, capabilities={ModelCapability.REASONING: Level.STRONG}
    )
    assert requirements.needs()[ModelCapability.REASONING] is Level.STRONG


def test_what_is_asked_never_lowers_what_the_task_type_needs() -> None:
    requirements = Requirements(
        task_type=TaskType.SUMMARIZATION, capabilities={ModelCapability.REASONING: Level.BASIC}
    )
    assert requirements.needs()[ModelCapability.REASONING] is Level.MODERATE


def test_levels_rise_from_none_to_exceptional() -> None:
    ranks = {str(level): level.rank for level in Level}
    assert ranks == {"none": 0, "basic": 1, "moderate": 2, "strong": 3, "exceptional": 4}


def test_one_estimated_part_makes_the_whole_usage_estimated() -> None:
    whole = Usage(output_tokens=1) + Usage(output_tokens=2, source=UsageSource.ESTIMATED)
    assert (whole.output_tokens, whole.source) == (3, UsageSource.ESTIMATED)
