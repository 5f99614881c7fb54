"""What every dialect makes of a request: pure, field by field."""

from typing import Any

import pytest

from atlas.contracts.errors import ProviderInvalidRequestError
from provider_router.providers.anthropic.requests import DEFAULT_MAX_TOKENS, messages_body
from provider_router.providers.ollama.requests import ollama_body
from provider_router.providers.openai.chat_requests import chat_body
from provider_router.providers.openai.responses_requests import responses_body

from .collected import ORIGIN, request

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "weather", "description": "Tells it.", "parameters": SCHEMA, "strict": True}
IMAGE = {"type": "image", "data": "aGk=", "media_type": "image/png"}
CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "What is it like?"}, IMAGE]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Köln"}'},
            {"type": "tool_call", "id": "c2", "name": "time", "arguments": ""},
        ],
    },
    {"role": "tool", "content": [{"type": "tool_result", "tool_call_id": "c1", "content": "rain"}]},
    {
        "role": "tool",
        "content": [
            {"type": "tool_result", "tool_call_id": "c2", "content": "no clock", "is_error": True}
        ],
    },
]


def chat(*, is_openai: bool = True, model: str = "m", **fields: object) -> dict[str, Any]:
    return chat_body(model, request(**fields), ORIGIN, is_openai=is_openai)


def responses(model: str = "m", **fields: object) -> dict[str, Any]:
    return responses_body(model, request(**fields), ORIGIN)


def messages(model: str = "claude-sonnet-4-5", **fields: object) -> dict[str, Any]:
    return messages_body(model, request(**fields), ORIGIN)


def ollama(model: str = "qwen3", **fields: object) -> dict[str, Any]:
    return ollama_body(model, request(**fields), ORIGIN)


BODIES = pytest.mark.parametrize("body", [chat, responses, messages, ollama])


@BODIES
def test_an_unresolved_object_is_refused(body):
    part = {"type": "image", "object": "cat"}
    with pytest.raises(ProviderInvalidRequestError, match="'cat' was not resolved"):
        body(messages=[{"role": "user", "content": [part]}])


@BODIES
def test_provider_options_replace_our_fields_but_never_the_stream(body):
    made = body(temperature=0.5, provider_options={"temperature": 1, "x": None, "stream": False})
    assert (made["temperature"], made["x"], made["stream"]) == (1, None, True)


@BODIES
def test_what_was_not_asked_for_is_not_sent(body):
    assert not set(body()) & {"temperature", "top_p", "tools", "tool_choice", "stop", "options"}


class TestMessages:
    def test_the_least_request_has_a_bound(self):
        assert messages() == {
            "model": "claude-sonnet-4-5",
            "max_tokens": DEFAULT_MAX_TOKENS,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
            "stream": True,
        }

    def test_a_conversation_with_tools_and_an_image(self):
        made = messages(messages=CONVERSATION, system_prompt="Answer.")
        assert made["system"] == "Answer.\n\nBe kind."
        source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
        assert made["messages"] == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it like?"},
                    {"type": "image", "source": source},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {
                        "type": "tool_use",
                        "id": "c1",
                        "name": "weather",
                        "input": {"city": "Köln"},
                    },
                    {"type": "tool_use", "id": "c2", "name": "time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "rain"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "c2",
                        "content": "no clock",
                        "is_error": True,
                    },
                ],
            },
        ]

    def test_arguments_that_are_no_object_are_refused(self):
        part = {"type": "tool_call", "id": "c9", "name": "f", "arguments": "[1]"}
        with pytest.raises(ProviderInvalidRequestError, match="c9"):
            messages(messages=[{"role": "assistant", "content": [part]}])

    def test_documents_by_url_as_pdf_and_as_text(self):
        parts = [
            {"type": "file", "url": "https://x.test/a.pdf", "name": "A"},
            {"type": "file", "data": "aGk=", "media_type": "application/pdf"},
            {"type": "file", "data": "aGk=", "media_type": "text/plain"},
        ]
        (turn,) = messages(messages=[{"role": "user", "content": parts}])["messages"]
        assert turn["content"] == [
            {
                "type": "document",
                "source": {"type": "url", "url": "https://x.test/a.pdf"},
                "title": "A",
            },
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
            },
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
            },
        ]

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("auto", {"type": "auto"}),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            ({"name": "weather"}, {"type": "tool", "name": "weather"}),
        ],
    )
    def test_tools_and_the_choice_among_them(self, choice, expected):
        made = messages(tools=[TOOL], tool_choice=choice)
        assert made["tool_choice"] == expected
        assert made["tools"] == [
            {
                "name": "weather",
                "description": "Tells it.",
                "input_schema": SCHEMA,
                "strict": True,
            }
        ]

    def test_a_schema_goes_into_the_output_config(self):
        made = messages(response_format={"type": "json_schema", "json_schema": SCHEMA})
        assert made["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}

    def test_a_json_object_is_asked_for_in_the_system_prompt(self):
        made = messages(response_format={"type": "json_object"}, system_prompt="Be kind.")
        assert made["system"] == ("Be kind.\n\nAnswer with a single JSON object and nothing else.")

    @pytest.mark.parametrize(
        ("fields", "thinking", "max_tokens"),
        [
            ({"reasoning": {"effort": "low"}}, 2_048, 2_048 + DEFAULT_MAX_TOKENS),
            ({"reasoning": {"max_tokens": 3_000}}, 3_000, 3_000 + DEFAULT_MAX_TOKENS),
            ({"reasoning": {"max_tokens": 10}}, 1_024, 1_024 + DEFAULT_MAX_TOKENS),
            ({"reasoning": {"effort": "high"}, "max_tokens": 4_000}, 3_999, 4_000),
            ({"reasoning": {"effort": "low"}, "max_tokens": 500}, None, 500),
        ],
    )
    def test_an_older_model_thinks_within_a_budget_below_the_bound(
        self, fields, thinking, max_tokens
    ):
        made = messages(**fields)
        expected = {"type": "enabled", "budget_tokens": thinking} if thinking else None
        assert (made.get("thinking"), made["max_tokens"]) == (expected, max_tokens)

    def test_an_older_model_does_not_think_between_its_tool_calls(self):
        made = messages(messages=CONVERSATION, reasoning={"effort": "low"})
        assert "thinking" not in made

    @pytest.mark.parametrize(
        ("model", "is_adaptive"),
        [
            ("claude-3-7-sonnet-20250219", False),
            ("claude-sonnet-4-20250514", False),
            ("claude-opus-4-1-20250805", False),
            ("claude-haiku-4-5", False),
            ("claude-opus-4-6", True),
            ("claude-opus-5-20270101", True),
            ("claude-next", True),
        ],
    )
    def test_newer_models_think_adaptively(self, model, is_adaptive):
        made = messages(model, reasoning={"effort": "medium"})
        assert (made["thinking"] == {"type": "adaptive"}) is is_adaptive
        assert ("output_config" in made) is is_adaptive

    @pytest.mark.parametrize(
        ("reasoning", "expected"),
        [({"effort": "minimal"}, "low"), ({"max_tokens": 5_000}, "medium"), ({}, "medium")],
    )
    def test_newer_models_take_an_effort(self, reasoning, expected):
        wanted = {"type": "json_schema", "json_schema": SCHEMA}
        made = messages("claude-opus-4-6", reasoning=reasoning, response_format=wanted)
        config = made["output_config"]
        assert isinstance(config, dict)
        assert config["effort"] == expected
        assert config["format"]["schema"] == SCHEMA


class TestOllama:
    def test_the_least_request(self):
        assert ollama() == {
            "model": "qwen3",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
        }

    def test_a_conversation_with_tools_and_an_image(self):
        assert ollama(messages=CONVERSATION)["messages"] == [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "What is it like?", "images": ["aGk="]},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Köln"}}},
                    {"id": "c2", "function": {"name": "time", "arguments": {}}},
                ],
            },
            {"role": "tool", "tool_name": "weather", "tool_call_id": "c1", "content": "rain"},
            {"role": "tool", "tool_name": "time", "tool_call_id": "c2", "content": "no clock"},
        ]

    def test_limits_are_options_which_those_of_the_user_join(self):
        made = ollama(
            max_tokens=5,
            temperature=0.1,
            stop_sequences=["END"],
            provider_options={"options": {"num_ctx": 4096}, "keep_alive": 0},
        )
        assert made["options"] == {
            "num_predict": 5,
            "temperature": 0.1,
            "stop": ["END"],
            "num_ctx": 4096,
        }
        assert made["keep_alive"] == 0

    def test_formats(self):
        assert ollama(response_format={"type": "json_object"})["format"] == "json"
        wanted = {"type": "json_schema", "json_schema": SCHEMA}
        assert ollama(response_format=wanted)["format"] == SCHEMA

    def test_a_format_holds_where_no_tool_may_be_called(self):
        wanted = {"type": "json_schema", "json_schema": SCHEMA}
        assert "format" not in ollama(response_format=wanted, tools=[TOOL])
        closed = ollama(response_format=wanted, tools=[TOOL], tool_choice="none")
        assert closed["format"] == SCHEMA

    def test_thinking_is_a_level_for_the_family_that_has_levels(self):
        assert ollama(reasoning={"effort": "high"})["think"] is True
        assert ollama("gpt-oss:20b", reasoning={"effort": "high"})["think"] == "high"

    @pytest.mark.parametrize("choice", ["required", {"name": "weather"}])
    def test_a_forced_call_is_refused(self, choice):
        with pytest.raises(ProviderInvalidRequestError, match="tool_choice"):
            ollama(tools=[TOOL], tool_choice=choice)

    def test_no_tools_are_sent_when_none_may_be_called(self):
        assert "tools" not in ollama(tools=[TOOL], tool_choice="none")

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "image", "url": "https://x.test/a.png"},
            {"type": "file", "data": "aGk=", "media_type": "application/pdf"},
        ],
    )
    def test_what_the_api_cannot_take_is_refused(self, part):
        with pytest.raises(ProviderInvalidRequestError):
            ollama(messages=[{"role": "user", "content": [part]}])
