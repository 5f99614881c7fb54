"""The mock provider behaves like one: repeatable, in pieces, within limits, with faults."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Sequence

import jsonschema
import pytest

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import (
    ProviderConnectionError,
    ProviderInvalidRequestError,
    ProviderModelNotFoundError,
    ProviderOverloadedError,
    ProviderRateLimitError,
    ProviderTimeoutError,
)
from atlas.contracts.inference import FinishReason
from provider_router.providers.base import Adapter
from provider_router.providers.registry import make_adapter

from .collected import Collected, call, settings, stream

PROMPT = "Explain how tides and gravity shape the coast of Brittany"
ASKED = [{"role": "user", "content": PROMPT}]


def mock(fault: JsonObject | None = None, models: Sequence[str] = (), **fields: object) -> Adapter:
    return make_adapter(
        "mock",
        settings(
            "mock",
            models=list(models),
            idle_timeout_ms=100,
            first_token_timeout_ms=200,
            mock={**fields, "fault": fault or {}},
        ),
    )


async def ask(adapter: Adapter | None = None, model: str = "fast", **fields: object) -> Collected:
    return await stream(adapter or mock(), call(model, messages=ASKED, **fields))


async def test_the_same_request_has_the_same_answer():
    assert await ask() == await ask()


async def test_another_seed_has_another_answer():
    assert (await ask(mock(seed=1))).text != (await ask(mock(seed=2))).text


async def test_the_answer_speaks_of_the_prompt():
    text = (await ask()).text
    assert sum(word in text for word in ("tides", "gravity", "shape", "coast", "Brittany")) > 2


async def test_the_answer_is_sentences():
    text = (await ask()).text
    assert text[0].isupper()
    assert text.endswith(".")
    assert "  " not in text


async def test_a_prompt_without_words_is_answered_too():
    assert (await stream(mock(), call("fast", messages=[{"role": "user", "content": "?"}]))).text


async def test_limits_and_metadata_do_not_change_the_words():
    whole = (await ask()).text
    cut = await ask(max_tokens=5, metadata={"fault": "status=500"})
    assert whole.startswith(cut.text)


async def test_an_answer_comes_in_many_batches():
    async with mock().stream(call("fast", messages=ASKED)) as batches:
        assert len([batch async for batch in batches]) > 30


async def test_usage_counts_the_pieces():
    collected = await ask(max_tokens=7, reasoning={"max_tokens": 3})
    assert collected.usage is not None
    assert (collected.usage.output_tokens, collected.usage.reasoning_tokens) == (7, 3)
    assert collected.usage.input_tokens > 0


async def test_a_limit_is_kept_and_told():
    collected = await ask(max_tokens=5)
    assert (len(collected.text.split()), collected.finish) == (5, FinishReason.LENGTH)


async def test_a_stop_sequence_ends_the_answer_before_it():
    whole = (await ask()).text
    stop = whole[30:36]
    collected = await ask(stop_sequences=["never said", stop])
    assert (collected.text, collected.finish) == (whole[: whole.index(stop)], FinishReason.STOP)


async def test_reasoning_comes_when_it_is_asked_for():
    assert not (await ask()).reasoning
    assert (await ask(reasoning={"effort": "low"})).reasoning


TOOLS = [
    {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "examples": ["Köln"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city"],
        },
    },
    {"name": "time"},
]


async def test_a_required_call_is_made_with_fitting_arguments():
    collected = await ask(tools=TOOLS, tool_choice={"name": "weather"})
    ((call_id, name, arguments),) = collected.calls
    assert call_id
    assert (name, collected.finish) == ("weather", FinishReason.TOOL_CALLS)
    made = json.loads(arguments)
    assert made["city"] == "Köln"
    assert 1 <= made["days"] <= 7


async def test_some_tool_is_called_when_any_is_required():
    collected = await ask(tools=TOOLS, tool_choice="required")
    assert [name in ("weather", "time") for _, name, _ in collected.calls] == [True]


async def test_a_tool_that_may_be_called_is_called_and_what_it_answers_is_told():
    first = await ask(tools=TOOLS)
    ((id_, name, arguments),) = first.calls
    assert (name, first.finish, first.text) == ("weather", FinishReason.TOOL_CALLS, "")
    call_part = {"type": "tool_call", "id": id_, "name": name, "arguments": arguments}
    result = {"type": "tool_result", "tool_call_id": id_, "content": "rain\nall day"}
    told = [
        *ASKED,
        {"role": "assistant", "content": [call_part]},
        {"role": "tool", "content": [result]},
    ]
    second = await stream(mock(), call("fast", messages=told, tools=TOOLS))
    assert second.text.startswith("weather says: rain all day. ")
    assert not second.calls
    third = await stream(mock(tool_rounds=2), call("fast", messages=told, tools=TOOLS))
    assert [one[1] for one in third.calls] == ["time"]


async def test_several_tools_are_called_at_once_where_the_settings_say_so():
    calls = (await ask(mock(tool_calls=3), tools=TOOLS)).calls
    assert [name for _, name, _ in calls] == ["weather", "time"]
    assert len({id_ for id_, _, _ in calls}) == 2


@pytest.mark.parametrize(("rounds", "choice"), [(0, "auto"), (1, "none")])
async def test_no_tool_is_called_where_none_may_be(rounds, choice):
    collected = await ask(mock(tool_rounds=rounds), tools=TOOLS, tool_choice=choice)
    assert collected.text
    assert not collected.calls


@pytest.mark.parametrize(
    "fields", [{"tool_choice": "required"}, {"tools": TOOLS, "tool_choice": {"name": "nope"}}]
)
async def test_a_call_that_cannot_be_made_is_refused(fields):
    assert (await ask(**fields)).error is ProviderInvalidRequestError


async def test_a_json_object_is_one():
    collected = await ask(response_format={"type": "json_object"})
    assert isinstance(json.loads(collected.text), dict)


SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
    {"type": "string", "minLength": 300, "maxLength": 320},
    {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "multipleOf": 7, "minimum": 50, "maximum": 60},
    {"type": "number", "maximum": -3.5},
    {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
    {"oneOf": [{"const": 3}, {"type": "string", "minLength": 2}]},
    {"allOf": [{"properties": {"a": {"const": 1}}}, {"required": ["a"]}], "type": "object"},
    {"type": ["null", "integer"]},
    {"enum": ["red", "green"]},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False, "minItems": 2},
    {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
    {"type": "null"},
    {},
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["name", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    {
        "type": "object",
        "properties": {
            name: {"type": "string", "format": name}
            for name in ("date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6")
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_json_satisfies_the_schema(schema, seed):
    wanted = {"type": "json_schema", "json_schema": schema}
    collected = await ask(mock(seed=seed), response_format=wanted)
    draft = jsonschema.Draft202012Validator
    draft(schema, format_checker=draft.FORMAT_CHECKER).validate(json.loads(collected.text))


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        ({"const": 1, "examples": [2], "default": 3, "enum": [4]}, {1}),
        ({"examples": [2, 5], "default": 3, "enum": [4]}, {2, 5}),
        ({"default": 3, "enum": [4]}, {3}),
        ({"enum": [4, 6]}, {4, 6}),
    ],
)
async def test_what_a_schema_offers_comes_first(offer, expected):
    wanted = {"type": "json_schema", "json_schema": {"type": "integer", **offer}}
    made = [(await ask(mock(seed=seed), response_format=wanted)).text for seed in range(12)]
    assert {json.loads(text) for text in made} == expected


async def test_an_example_at_the_top_is_used_whole():
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "examples": [{"b": 2}]}
    wanted = {"type": "json_schema", "json_schema": schema}
    assert json.loads((await ask(response_format=wanted)).text) == {"b": 2}


async def test_json_is_streamed_in_pieces():
    wanted = {"type": "json_schema", "json_schema": SCHEMAS[2]}
    made = call("fast", messages=ASKED, response_format=wanted)
    async with mock().stream(made) as batches:
        assert len([batch async for batch in batches]) > 40


async def test_the_fast_model_has_no_delays():
    adapter = mock(first_token_ms=10_000, token_ms=10_000)
    async with asyncio.timeout(5):
        assert (await ask(adapter)).finish is FinishReason.STOP


async def test_the_standard_model_keeps_the_pace_of_the_settings():
    started = time.monotonic()
    adapter = mock(first_token_ms=60, token_ms=2, tokens=20)
    assert (await ask(adapter, "standard")).finish is FinishReason.STOP
    assert time.monotonic() - started > 0.04


async def test_a_model_that_is_not_offered_is_not_found():
    assert (await ask(mock(models=["standard"]), "nope")).error is ProviderModelNotFoundError


async def test_a_status_is_refused_on_entering_like_a_real_one():
    with pytest.raises(ProviderRateLimitError) as raised:
        async with mock({"status": 429, "retry_after_ms": 250}).stream(call("fast")):
            pytest.fail("entering raises")
    assert (raised.value.http_status, raised.value.retry_after_ms) == (429, 250)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"stall_after_chunks": 3}, ProviderTimeoutError),
        ({"break_after_chunks": 3}, ProviderConnectionError),
        ({"overload_after_chunks": 3}, ProviderOverloadedError),
    ],
)
async def test_a_fault_comes_after_so_many_chunks(fault, expected):
    collected = await ask(mock(fault))
    assert (collected.error, collected.finish) == (expected, None)
    assert len(collected.text.split()) == 3


async def test_a_stall_before_the_first_chunk_is_a_first_token_timeout():
    with pytest.raises(ProviderTimeoutError, match="first_token_timeout_ms"):
        async with mock({"stall_after_chunks": 0}).stream(call("fast")) as batches:
            await anext(batches)


async def test_only_the_first_calls_fail_when_a_number_is_given():
    adapter = mock({"status": 503, "times": 2})
    errors = [(await ask(adapter)).error for _ in range(4)]
    assert errors == [ProviderOverloadedError, ProviderOverloadedError, None, None]


async def test_a_begun_answer_is_gone_on_from_word_for_word():
    whole = (await ask()).text
    begun = whole[: len(whole) // 2].rstrip()
    messages = [*ASKED, {"role": "assistant", "content": begun}]
    asked = dataclasses.replace(call("fast", messages=messages), is_continued=True)
    rest = await stream(mock(), asked)
    assert begun + rest.text == whole
    limited = dataclasses.replace(call("fast", messages=messages, max_tokens=3), is_continued=True)
    assert (await stream(mock(), limited)).finish is FinishReason.LENGTH
