"""The small fixtures of every dialect, cut at every byte, and what is special in each."""

import pytest

from atlas.contracts.errors import (
    ProviderAuthError,
    ProviderContentFilterError,
    ProviderContextLengthError,
    ProviderInvalidRequestError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderStreamError,
)
from atlas.contracts.inference import FinishReason, Usage
from provider_router.providers import decoding
from provider_router.providers.anthropic.decoder import MessagesDecoder
from provider_router.providers.base import Finished, Text
from provider_router.providers.ollama.decoder import OllamaDecoder
from provider_router.providers.openai.chat_decoder import ChatDecoder
from provider_router.providers.openai.responses_decoder import ResponsesDecoder

from .collected import ORIGIN, Collected, decode
from .dialects import CHAT, MESSAGES, OLLAMA, RESPONSES, body_of

FIXTURES = pytest.mark.parametrize(
    ("name", "decoder", "expected"),
    [
        ("chat-tools.sse", ChatDecoder, CHAT),
        ("messages-tools.sse", MessagesDecoder, MESSAGES),
        ("responses-tools.sse", ResponsesDecoder, RESPONSES),
        ("ollama-tools.ndjson", OllamaDecoder, OLLAMA),
    ],
)


@FIXTURES
def test_a_dialect_means_the_same_cut_at_every_byte(name, decoder, expected):
    body = body_of(name)
    for at in range(len(body)):
        assert decode(decoder(ORIGIN), [body[:at], body[at:]]) == expected, at


@FIXTURES
def test_a_dialect_may_end_its_lines_with_cr_lf(name, decoder, expected):
    body = body_of(name).replace(b"\n", b"\r\n")
    assert decode(decoder(ORIGIN), [body]) == expected


@FIXTURES
def test_a_body_that_ends_early_is_never_complete(name, decoder, expected):
    body = body_of(name)
    # Chat without its [DONE] has told everything, see the test of that rule below.
    whole = body.rfind(b"usage") if decoder is ChatDecoder else len(body.rstrip()) - 1
    for end in range(0, whole, 3):
        collected = decode(decoder(ORIGIN), [body[:end]])
        assert collected.finish is None
        assert collected.error is ProviderStreamError
        assert expected.text.startswith(collected.text)


@FIXTURES
def test_what_is_no_json_is_a_stream_error(name, decoder, expected):
    del expected
    body = b"{'".join(body_of(name).rsplit(b'{"', 1))
    assert decode(decoder(ORIGIN), [body]).error is ProviderStreamError


def test_an_endless_event_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_EVENT_BYTES", 1000)
    decoder = ChatDecoder(ORIGIN)
    decoder.feed(b"data: " + b"x" * 2000)
    assert isinstance(decoder.failure, ProviderStreamError)


def chat(*events: str) -> Collected:
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    return decode(ChatDecoder(ORIGIN), [body])


def choice(delta: str, finish: str = "null") -> str:
    return f'{{"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}'


STOP = choice("{}", '"stop"')
USAGE = '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


class TestChat:
    def test_a_stream_without_done_is_complete_when_finish_and_usage_came(self):
        assert chat(choice('{"content":"a"}'), STOP, USAGE).finish is FinishReason.STOP

    def test_a_stream_without_done_and_usage_is_not(self):
        assert chat(choice('{"content":"a"}'), STOP).error is ProviderStreamError

    def test_done_without_a_finish_reason_is_a_stream_error(self):
        assert chat(choice('{"content":"a"}'), "[DONE]").error is ProviderStreamError

    @pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
    def test_reasoning_stands_in_either_field(self, field):
        assert chat(choice(f'{{"{field}":"hm"}}'), STOP, "[DONE]").reasoning == "hm"

    def test_reasoning_in_both_fields_counts_once(self):
        both = choice('{"reasoning":"hm","reasoning_content":"hm"}')
        assert chat(both, STOP, "[DONE]").reasoning == "hm"

    def test_content_may_be_typed_parts(self):
        parts = (
            '{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},'
            '{"type":"text","text":"a"}]}'
        )
        collected = chat(choice(parts), STOP, "[DONE]")
        assert (collected.text, collected.reasoning) == ("a", "hm")

    def test_a_refusal_is_text_and_ends_as_content_filter(self):
        collected = chat(choice('{"refusal":"No."}'), STOP, "[DONE]")
        assert (collected.text, collected.finish) == ("No.", FinishReason.CONTENT_FILTER)

    def test_calls_without_an_index_are_told_apart_by_their_ids(self):
        first = '{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}'
        second = '{"tool_calls":[{"id":"b","function":{"name":"g","arguments":"{}"}}]}'
        collected = chat(choice(first), choice(second), STOP, "[DONE]")
        assert collected.calls == [("a", "f", "{}"), ("b", "g", "{}")]

    def test_calls_that_share_index_0_are_told_apart_by_their_ids(self):
        first = '{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}'
        second = '{"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}]}'
        collected = chat(choice(first), choice(second), STOP, "[DONE]")
        assert collected.calls == [("a", "f", "{}"), ("b", "g", "{}")]

    def test_indexes_are_counted_by_appearance(self):
        call = '{"tool_calls":[{"index":3,"id":"a","function":{"name":"f","arguments":"{}"}}]}'
        assert chat(choice(call), STOP, "[DONE]").calls == [("a", "f", "{}")]

    def test_an_id_repeated_in_every_piece_is_still_one_call(self):
        piece = '{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}]}'
        assert chat(choice(piece), choice(piece), STOP, "[DONE]").calls == [("a", "f", "11")]

    def test_arguments_may_come_as_an_object(self):
        call = '{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":{"x":1}}}]}'
        assert chat(choice(call), STOP, "[DONE]").calls == [("a", "f", '{"x":1}')]

    def test_other_choices_than_the_first_are_left_out(self):
        other = '{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}'
        assert chat(choice('{"content":"a"}'), other, STOP, "[DONE]").text == "a"

    def test_what_came_before_an_error_is_kept(self):
        told = '{"error":{"message":"no","code":"rate_limit_exceeded"}}'
        collected = chat(choice('{"content":"a"}'), told)
        assert (collected.text, collected.error) == ("a", ProviderRateLimitError)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ('{"code":400,"message":"x"}', ProviderInvalidRequestError),
            ('{"code":"402","message":"x"}', ProviderQuotaExceededError),
            ('{"code":503,"message":"x"}', ProviderOverloadedError),
            ('{"code":"context_length_exceeded","message":"x"}', ProviderContextLengthError),
            ('{"type":"invalid_request_error","message":"429"}', ProviderInvalidRequestError),
            ('{"message":"rate limit 429"}', ProviderServerError),
            ('"something"', ProviderServerError),
        ],
    )
    def test_an_error_in_the_stream_is_read_by_code_type_and_number(self, error, expected):
        assert chat(f'{{"error":{error}}}').error is expected

    def test_an_error_after_a_finish_reason_is_still_an_error(self):
        collected = chat(STOP, '{"error":{"code":502,"message":"x"}}', "[DONE]")
        assert (collected.finish, collected.error) == (None, ProviderServerError)

    def test_the_finish_reason_error_is_an_error(self):
        assert chat(choice("{}", '"error"'), "[DONE]").error is ProviderServerError

    def test_nothing_after_the_end_is_read(self):
        decoder = ChatDecoder(ORIGIN)
        end = f"data: {STOP}\n\ndata: [DONE]\n\n".encode()
        deltas = decoder.feed(end + f"data: {choice('{"content":"late"}')}\n\n".encode())
        assert deltas == [Finished(FinishReason.STOP)]

    def test_the_cache_hits_of_deepseek_count_as_cached(self):
        usage = (
            '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,'
            '"prompt_cache_hit_tokens":5}}'
        )
        collected = chat(STOP, usage, "[DONE]")
        assert collected.usage == Usage(input_tokens=9, output_tokens=2, cached_input_tokens=5)


def messages(*events: str) -> Collected:
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    return decode(MessagesDecoder(ORIGIN), [body])


class TestMessages:
    @pytest.mark.parametrize(
        ("stop", "expected"),
        [
            ("end_turn", FinishReason.STOP),
            ("stop_sequence", FinishReason.STOP),
            ("max_tokens", FinishReason.LENGTH),
            ("model_context_window_exceeded", FinishReason.LENGTH),
            ("tool_use", FinishReason.TOOL_CALLS),
            ("refusal", FinishReason.CONTENT_FILTER),
            ("pause_turn", FinishReason.OTHER),
        ],
    )
    def test_stop_reasons_are_ours(self, stop, expected):
        collected = messages(
            f'{{"type":"message_delta","delta":{{"stop_reason":"{stop}"}}}}',
            '{"type":"message_stop"}',
        )
        assert collected.finish is expected

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ('{"type":"overloaded_error","message":"x"}', ProviderOverloadedError),
            ('{"type":"rate_limit_error","message":"x"}', ProviderRateLimitError),
            ('{"type":"api_error","message":"overloaded"}', ProviderServerError),
            ('{"type":"authentication_error","message":"x"}', ProviderAuthError),
            ('{"type":"billing_error","message":"x"}', ProviderQuotaExceededError),
            (
                '{"type":"invalid_request_error","details":{"error_code":"enforced_spend_limit_reached"}}',
                ProviderQuotaExceededError,
            ),
        ],
    )
    def test_an_error_in_the_stream_is_read_by_its_type(self, error, expected):
        assert messages(f'{{"type":"error","error":{error}}}').error is expected

    def test_events_are_read_without_their_names(self):
        named = body_of("messages-tools.sse")
        bare = b"\n".join(line for line in named.split(b"\n") if not line.startswith(b"event:"))
        assert decode(MessagesDecoder(ORIGIN), [bare]) == MESSAGES

    def test_usage_is_known_from_the_first_event_on(self):
        collected = decode(MessagesDecoder(ORIGIN), [body_of("messages-tools.sse")[:400]])
        assert collected.usage is not None
        assert collected.usage.input_tokens == 330


def responses(*events: str) -> Collected:
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    return decode(ResponsesDecoder(ORIGIN), [body])


class TestResponses:
    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("max_output_tokens", FinishReason.LENGTH),
            ("content_filter", FinishReason.CONTENT_FILTER),
            ("something_new", FinishReason.OTHER),
        ],
    )
    def test_an_incomplete_response_says_why(self, reason, expected):
        told = f'{{"incomplete_details":{{"reason":"{reason}"}},"usage":{{"input_tokens":3}}}}'
        collected = responses(f'{{"type":"response.incomplete","response":{told}}}')
        assert (collected.finish, collected.usage) == (expected, Usage(input_tokens=3))

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("server_error", ProviderServerError),
            ("rate_limit_exceeded", ProviderRateLimitError),
            ("invalid_prompt", ProviderContentFilterError),
        ],
    )
    def test_a_failed_response_is_read_by_its_code(self, code, expected):
        failed = (
            f'{{"type":"response.failed","response":{{"error":{{"code":"{code}","message":"x"}},'
            '"usage":{"input_tokens":3}}}'
        )
        collected = responses(failed)
        assert (collected.error, collected.usage) == (expected, Usage(input_tokens=3))

    @pytest.mark.parametrize(
        "event",
        [
            '{"type":"error","code":"insufficient_quota","message":"x","sequence_number":1}',
            '{"type":"error","error":{"type":"insufficient_quota","message":"x","code":null}}',
        ],
    )
    def test_an_error_event_is_read_flat_or_nested(self, event):
        assert responses(event).error is ProviderQuotaExceededError

    def test_a_refusal_is_text_and_ends_as_content_filter(self):
        collected = responses(
            '{"type":"response.refusal.delta","delta":"No."}',
            '{"type":"response.completed","response":{}}',
        )
        assert (collected.text, collected.finish) == ("No.", FinishReason.CONTENT_FILTER)


def ollama(*lines: str) -> Collected:
    return decode(OllamaDecoder(ORIGIN), ["\n".join(lines).encode()])


class TestOllama:
    def test_an_error_line_is_an_error_and_keeps_what_came(self):
        collected = ollama('{"message":{"content":"a"}}', '{"error":"the model crashed"}')
        assert (collected.text, collected.error) == ("a", ProviderServerError)

    def test_a_length_limit_is_a_finish_reason(self):
        assert ollama('{"done":true,"done_reason":"length"}').finish is FinishReason.LENGTH

    def test_a_plain_answer_stops(self):
        assert ollama('{"message":{"content":"a"},"done":true}').finish is FinishReason.STOP

    def test_a_line_is_decoded_as_soon_as_it_is_complete(self):
        assert OllamaDecoder(ORIGIN).feed(b'{"message":{"content":"a"}}\n{"mess') == [Text("a")]
