"""What both OpenAI dialects make of a request: pure, field by field."""

import pytest

from atlas.contracts.errors import ProviderInvalidRequestError

from .test_requests import CONVERSATION, SCHEMA, TOOL, chat, responses


class TestChat:
    def test_the_least_request(self):
        assert chat() == {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream_options": {"include_usage": True},
            "stream": True,
        }

    def test_a_conversation_with_tools_and_an_image(self):
        assert chat(messages=CONVERSATION, system_prompt="Answer.")["messages"] == [
            {"role": "system", "content": "Answer."},
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it like?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Köln"}'},
                    },
                    {
                        "id": "c2",
                        "type": "function",
                        "function": {"name": "time", "arguments": "{}"},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "tool", "tool_call_id": "c2", "content": "no clock"},
        ]

    def test_the_bound_has_its_new_name_at_openai_and_its_old_one_elsewhere(self):
        assert chat(max_tokens=5)["max_completion_tokens"] == 5
        assert chat(max_tokens=5, is_openai=False)["max_tokens"] == 5

    def test_sampling_and_stops(self):
        made = chat(temperature=0.2, top_p=0.9, stop_sequences=["END"])
        assert (made["temperature"], made["top_p"], made["stop"]) == (0.2, 0.9, ["END"])

    def test_tools_and_the_choice_among_them(self):
        made = chat(tools=[TOOL], tool_choice={"name": "weather"})
        function = {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}
        assert made["tools"] == [{"type": "function", "function": function | {"strict": True}}]
        assert made["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
        assert chat(tools=[TOOL], tool_choice="required")["tool_choice"] == "required"

    def test_response_formats(self):
        assert chat(response_format={"type": "json_object"})["response_format"] == {
            "type": "json_object"
        }
        wanted = {"type": "json_schema", "name": "city", "json_schema": SCHEMA, "strict": False}
        assert chat(response_format=wanted)["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": SCHEMA, "strict": False},
        }

    @pytest.mark.parametrize(
        ("reasoning", "expected"),
        [
            ({"effort": "high", "max_tokens": 10}, "high"),
            ({"max_tokens": 1000}, "minimal"),
            ({"max_tokens": 2000}, "low"),
            ({"max_tokens": 8000}, "medium"),
            ({"max_tokens": 9000}, "high"),
            ({}, "medium"),
        ],
    )
    def test_a_budget_of_thoughts_becomes_an_effort(self, reasoning, expected):
        assert chat(reasoning=reasoning)["reasoning_effort"] == expected

    def test_a_file_goes_as_data_and_never_by_url(self):
        part = {"type": "file", "data": "aGk=", "media_type": "application/pdf", "name": "a.pdf"}
        made = chat(messages=[{"role": "user", "content": [part]}])["messages"]
        file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}
        assert made == [{"role": "user", "content": [{"type": "file", "file": file}]}]
        by_url = {"type": "file", "url": "https://x.test/a.pdf"}
        with pytest.raises(ProviderInvalidRequestError, match="by URL"):
            chat(messages=[{"role": "user", "content": [by_url]}])


class TestResponses:
    def test_the_least_request(self):
        assert responses() == {
            "model": "m",
            "input": [{"role": "user", "content": "Hello"}],
            "store": False,
            "stream": True,
        }

    def test_a_conversation_with_tools_and_an_image(self):
        made = responses(messages=CONVERSATION, system_prompt="Answer.")
        assert made["instructions"] == "Answer."
        assert made["input"] == [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it like?"},
                    {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                ],
            },
            {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city":"Köln"}',
            },
            {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": "no clock"},
        ]

    def test_limits_reasoning_and_format(self):
        wanted = {"type": "json_schema", "json_schema": SCHEMA}
        made = responses(max_tokens=5, reasoning={"effort": "low"}, response_format=wanted)
        assert made["max_output_tokens"] == 5
        assert made["reasoning"] == {"effort": "low"}
        assert made["text"] == {
            "format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
        }

    def test_a_tool_is_not_strict_unless_it_says_so(self):
        loose = {key: value for key, value in TOOL.items() if key != "strict"}
        (made,) = responses(tools=[loose])["tools"]
        assert made == {
            "type": "function",
            "name": "weather",
            "description": "Tells it.",
            "parameters": SCHEMA,
            "strict": False,
        }

    def test_stop_sequences_are_refused(self):
        with pytest.raises(ProviderInvalidRequestError, match="stop_sequences"):
            responses(stop_sequences=["END"])

    def test_a_file_may_be_a_url(self):
        part = {"type": "file", "url": "https://x.test/a.pdf"}
        (item,) = responses(messages=[{"role": "user", "content": [part]}])["input"]
        assert item["content"] == [{"type": "input_file", "file_url": "https://x.test/a.pdf"}]
