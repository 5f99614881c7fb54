"""What a request needs of a model: what keeps one out, and what only orders them."""

from collections.abc import Mapping

import pytest

from atlas.contracts.inference import TASK_NEEDS, Level, ModelCapability, ModelRequest, TaskType
from provider_router.routing.models import KnownModel, unknown_model
from provider_router.routing.needs import Needs, needs_of

CODE = "Write a Python function that sorts a list."
IMAGE = {"type": "image", "url": "https://example.com/a.png"}
TOOL = {"name": "look", "parameters": {"type": "object"}}


def needs(content: object = "Hello", **fields: object) -> Needs:
    message = {"role": "user", "content": content}
    return needs_of(ModelRequest.model_validate({"messages": [message], **fields}))


def names(levels: Mapping[ModelCapability, Level]) -> dict[str, str]:
    return {name.value: level.value for name, level in levels.items()}


@pytest.mark.parametrize(
    ("fields", "hard"),
    [
        ({}, {}),
        ({"content": [IMAGE]}, {"vision": "basic"}),
        ({"tools": [TOOL]}, {"tool_use": "basic"}),
        ({"response_format": {"type": "json_object"}}, {"json_output": "basic"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            {"json_output": "basic"},
        ),
    ],
)
def test_what_a_request_uses_keeps_out_who_cannot_do_it(fields: dict[str, object], hard: object):
    assert names(needs(**fields).hard) == hard


def test_a_task_type_that_was_only_detected_keeps_nobody_out():
    found = needs(CODE)
    assert found.task_type is TaskType.CODE_GENERATION
    assert found.hard == {}
    assert found.wished == TASK_NEEDS[TaskType.CODE_GENERATION]
    assert not found.lacks(KnownModel("small", {}))


def test_a_task_type_that_was_told_keeps_out_who_lacks_its_levels():
    found = needs("Hello", requirements={"task_type": "code_generation"})
    assert found.task_type_reason == "requirements.task_type"
    assert found.hard == TASK_NEEDS[TaskType.CODE_GENERATION]
    assert found.lacks(unknown_model("m")) == ["code strong (has moderate)"]


def test_what_is_told_goes_before_what_the_words_look_like():
    assert needs(CODE, requirements={"task_type": "translation"}).task_type is TaskType.TRANSLATION


def test_of_two_levels_of_a_capability_the_higher_is_needed():
    wish = {"task_type": "code_generation", "capabilities": {"code": "exceptional"}}
    assert names(needs("Hello", requirements=wish).hard)["code"] == "exceptional"
    wish = {"task_type": "code_generation", "capabilities": {"code": "basic"}}
    assert names(needs("Hello", requirements=wish).hard)["code"] == "strong"


def test_what_a_request_uses_is_needed_beside_what_it_requires():
    found = needs([IMAGE], requirements={"capabilities": {"vision": "strong", "math": "basic"}})
    assert names(found.hard) == {"vision": "strong", "math": "basic"}


def test_capabilities_alone_leave_the_task_type_to_be_detected():
    found = needs(CODE, requirements={"capabilities": {"math": "strong"}})
    assert found.task_type is TaskType.CODE_GENERATION
    assert names(found.hard) == {"math": "strong"}
    assert names(found.wished)["math"] == "strong"
    assert names(found.wished)["code"] == "strong"


def test_the_context_holds_the_input_and_the_answer_that_may_come():
    assert needs("x" * 4_000, max_tokens=500).context_tokens == 1_500


def test_the_context_that_is_required_counts_where_it_is_more():
    assert needs("Hello", requirements={"context_tokens": 9_000}).context_tokens == 9_000
    long = needs("x" * 40_000, requirements={"context_tokens": 9_000})
    assert long.context_tokens == 10_000


def test_a_model_with_too_small_a_context_lacks_it_and_an_unknown_one_may_do():
    long = needs("x" * 40_000)
    assert long.lacks(KnownModel("small", {}, 8_000)) == ["context 10000 tokens (has 8000)"]
    assert long.lacks(KnownModel("unknown", {}, None)) == []


def test_everything_that_is_lacking_is_told():
    found = needs([IMAGE], requirements={"capabilities": {"math": "strong"}})
    assert found.lacks(KnownModel("small", {ModelCapability.MATH: Level.BASIC})) == [
        "vision basic (has none)",
        "math strong (has basic)",
    ]
