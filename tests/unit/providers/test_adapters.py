"""Adapters over real HTTP: what is sent, and how refusals end."""

import re
import socket

import pytest
from tests.support.provider_server import Reply, refusal, serving

from atlas.contracts.errors import (
    ConfigurationError,
    ProviderAuthError,
    ProviderConnectionError,
    ProviderContextLengthError,
    ProviderModelNotFoundError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
)
from atlas.contracts.inference import FinishReason
from provider_router.providers.openai.adapter import OpenAIAdapter, wants_responses
from provider_router.providers.registry import make_adapter

from .collected import KEY, call, settings, stream
from .dialects import BODIES, KINDS, RESPONSES, TEXT, body_of


@KINDS
async def test_an_answer_streams_through_its_adapter(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        collected = await stream(adapters(kind, server.url), call())
    assert (collected.text, collected.finish) == (TEXT, FinishReason.TOOL_CALLS)


@KINDS
async def test_an_answer_in_single_bytes_is_the_same(kind, adapters):
    body = BODIES[kind]
    async with serving(Reply(body, cuts=tuple(range(len(body))))) as server:
        collected = await stream(adapters(kind, server.url), call())
    assert (collected.text, collected.finish) == (TEXT, FinishReason.TOOL_CALLS)


async def test_every_dialect_has_its_own_path(adapters):
    paths = {}
    for kind, body in BODIES.items():
        async with serving(Reply(body)) as server:
            await stream(adapters(kind, server.url), call())
            paths[kind] = server.requests[0].path
    assert paths == {
        "openai": "/chat/completions",
        "anthropic": "/v1/messages",
        "ollama": "/api/chat",
    }


async def test_the_api_setting_chooses_responses(adapters):
    async with serving(Reply(body_of("responses-tools.sse"))) as server:
        collected = await stream(adapters("openai", server.url, api="responses"), call())
        assert server.requests[0].path == "/responses"
    assert collected == RESPONSES


@KINDS
async def test_the_key_is_sent_as_a_bearer_token(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        await stream(adapters(kind, server.url), call())
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_server_compatible_with_anthropic_gets_the_key_as_it_was_once_sent(adapters):
    async with serving(Reply(BODIES["anthropic"])) as server:
        await stream(adapters("anthropic", server.url), call())
    assert server.requests[0].headers["x-api-key"] == KEY


@KINDS
async def test_without_a_key_none_is_sent(kind, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    async with serving(Reply(BODIES[kind])) as server:
        adapter = make_adapter("acme", settings(kind, server.url))
        await stream(adapter, call())
        await adapter.close()
    assert KEY not in str(server.requests[0].headers)


@KINDS
async def test_trace_context_is_passed_on(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        await stream(adapters(kind, server.url), call())
    assert server.requests[0].headers["traceparent"] == "00-aa-bb-01"


@KINDS
async def test_the_body_asks_for_a_stream_and_holds_provider_options(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        await stream(
            adapters(kind, server.url),
            call("m-1", provider_options={"some_option": {"x": [1]}, "stream": False}),
        )
    body = server.requests[0].json()
    assert (body["model"], body["stream"], body["some_option"]) == ("m-1", True, {"x": [1]})


async def test_betas_go_into_anthropics_header(adapters):
    async with serving(Reply(BODIES["anthropic"])) as server:
        options = {"betas": ["mcp-client-2025-04-04", "b"]}
        await stream(adapters("anthropic", server.url), call(provider_options=options))
    assert server.requests[0].headers["anthropic-beta"] == "mcp-client-2025-04-04,b"
    assert "betas" not in server.requests[0].json()


REFUSALS = [
    ("openai", 401, {"error": {"message": f"bad {KEY}", "code": "invalid_api_key"}},
     ProviderAuthError),
    ("openai", 429, {"error": {"message": "x", "type": "insufficient_quota"}},
     ProviderQuotaExceededError),
    ("openai", 400, {"error": {"message": "x", "code": "context_length_exceeded"}},
     ProviderContextLengthError),
    ("openai", 429, {"error": {"message": "x", "code": 429}}, ProviderRateLimitError),
    ("openai", 404, {"detail": "not found"}, ProviderModelNotFoundError),
    ("anthropic", 401, {"type": "error", "error": {"type": "authentication_error",
     "message": f"bad {KEY}"}}, ProviderAuthError),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error",
     "message": "x", "details": {"error_code": "enforced_spend_limit_reached"}}},
     ProviderQuotaExceededError),
    ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
     ProviderOverloadedError),
    ("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}},
     ProviderRateLimitError),
    ("ollama", 404, {"error": "model 'x' not found"}, ProviderModelNotFoundError),
    ("ollama", 401, {"error": f"bad {KEY}"}, ProviderAuthError),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "error", "expected"), REFUSALS)
async def test_a_refusal_is_raised_on_entering(kind, status, error, expected, adapters):
    async with serving(refusal(status, error, {"Retry-After": "7"})) as server:
        with pytest.raises(expected) as raised:
            async with adapters(kind, server.url).stream(call()):
                pytest.fail("entering raises")
    found = raised.value
    assert (found.provider, found.http_status, found.retry_after_ms) == ("acme", status, 7000)
    assert KEY not in found.message
    assert len(server.requests) == 1, "adapters never retry"


@KINDS
async def test_a_refusal_that_is_no_json_is_read_by_its_status(kind, adapters):
    async with serving(Reply(b"<html>busy</html>", 503)) as server:
        assert (await stream(adapters(kind, server.url), call())).error is ProviderOverloadedError


@KINDS
async def test_a_refused_connection_says_what_to_check(kind, adapters):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ProviderConnectionError, match="check base_url"):
        async with adapters(kind, url).stream(call()):
            pytest.fail("entering raises")


@KINDS
async def test_an_unknown_host_is_told_apart(kind, adapters):
    with pytest.raises(ProviderConnectionError, match="cannot be resolved"):
        async with adapters(kind, "http://no-such-host.invalid").stream(call()):
            pytest.fail("entering raises")


@KINDS
async def test_tls_with_a_server_that_has_none_is_told_apart(kind, adapters):
    async with serving(Reply()) as server:
        with pytest.raises(ProviderConnectionError, match="TLS"):
            async with adapters(kind, server.url.replace("http:", "https:")).stream(call()):
                pytest.fail("entering raises")


@pytest.mark.parametrize("bad", ["sk-1\nX-Evil: 1", "sk 1", "sk-ü"])
@KINDS
def test_a_key_that_no_header_may_hold_is_refused_without_naming_it(kind, bad, monkeypatch):
    monkeypatch.setenv("ACME_KEY", bad)
    with pytest.raises(ConfigurationError) as raised:
        make_adapter("acme", settings(kind, api_key_env="ACME_KEY"))
    assert not re.search(r"sk.1|ü", raised.value.message)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("o1", True),
        ("o3-pro", True),
        ("o4-mini-deep-research", True),
        ("gpt-5-pro", True),
        ("gpt-5.1-codex-max", True),
        ("gpt-5-codex", True),
        ("codex-mini-latest", True),
        ("computer-use-preview", True),
        ("gpt-5", False),
        ("gpt-5-mini", False),
        ("gpt-4o", False),
        ("gpt-4o-mini", False),
        ("omni-moderation", False),
        ("chatgpt-4o-latest", False),
    ],
)
def test_auto_takes_responses_where_the_model_wants_it(model, expected):
    assert wants_responses(model) is expected


@pytest.mark.parametrize(
    ("url", "api", "expected"),
    [
        (None, "auto", True),
        ("https://eu.api.openai.com/v1", "auto", True),
        ("https://openrouter.ai/api/v1", "auto", False),
        ("https://api.openai.com.evil.test/v1", "auto", False),
        ("https://openrouter.ai/api/v1", "responses", True),
        (None, "chat", False),
    ],
)
async def test_auto_takes_responses_at_openai_only(url, api, expected):
    adapter = OpenAIAdapter("acme", settings("openai", url, api=api))
    assert adapter.uses_responses("o3") is expected
    await adapter.close()
