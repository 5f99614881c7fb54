"""Probes of every adapter over real HTTP: what is asked, what an answer is, what a failure."""

import asyncio
import socket

import pytest
from tests.support.provider_server import Reply, refusal, serving

from atlas.contracts.errors import (
    ProviderAuthError,
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
)
from provider_router.providers.registry import make_adapter
from provider_router.routing.probing import is_unreachable

from .collected import KEY, call, settings, stream
from .dialects import BODIES, KINDS

LISTED = Reply(b'{"data": []}')
PATHS = {"anthropic": "/v1/models", "openai": "/models", "ollama": "/api/version"}
NO_PROBE = {
    "not found": refusal(404, {"error": {"message": "no"}}),
    "not allowed": refusal(405, {"detail": "Method Not Allowed"}),
    "not for this key": refusal(403, {"error": {"message": "Missing scopes: api.model.read"}}),
    "a web page": Reply(b"<!doctype html><html></html>"),
    "nothing": Reply(status=204),
}
FAILURES = [
    (refusal(401, {"error": {"message": f"wrong: {KEY}"}}), ProviderAuthError),
    (refusal(429, {"error": {"message": "slowly"}}), ProviderRateLimitError),
    (refusal(500, {"error": {"message": "broken"}}), ProviderServerError),
    (refusal(529, {"error": {"type": "overloaded_error"}}), ProviderOverloadedError),
]


async def failure(adapter) -> ProviderError:
    """How a probe fails, within a deadline."""
    with pytest.raises(ProviderError) as raised:
        async with asyncio.timeout(10):
            await adapter.probe()
    return raised.value


@KINDS
async def test_the_free_question_of_each_dialect_is_asked_with_the_key(kind, adapters):
    async with serving(Reply()) as server:
        server.probe_reply = LISTED
        assert await adapters(kind, server.url).probe() is True
        [asked] = server.probes
    assert (asked.method, asked.path) == ("GET", PATHS[kind])
    assert KEY in asked.headers["x-api-key" if kind == "anthropic" else "authorization"]
    assert not server.requests


@KINDS
@pytest.mark.parametrize("reply", NO_PROBE.values(), ids=NO_PROBE)
async def test_a_server_that_answers_something_else_offers_no_probe(kind, reply, adapters):
    async with serving(Reply()) as server:
        server.probe_reply = reply
        assert await adapters(kind, server.url).probe() is False


async def test_the_key_does_not_follow_a_redirect(adapters):
    async with serving(Reply()) as server, serving(Reply()) as elsewhere:
        elsewhere.probe_reply = LISTED
        server.probe_reply = Reply(status=302, headers={"Location": f"{elsewhere.url}/models"})
        assert await adapters("openai", server.url).probe() is False
        assert not elsewhere.probes


@KINDS
@pytest.mark.parametrize(("reply", "expected"), FAILURES)
async def test_a_refusal_is_the_error_that_a_call_would_raise(kind, reply, expected, adapters):
    async with serving(Reply()) as server:
        server.probe_reply = reply
        error = await failure(adapters(kind, server.url))
    assert type(error) is expected
    assert error.provider == "acme"
    assert KEY not in error.message
    assert not is_unreachable(error)


@KINDS
async def test_where_nobody_listens_there_is_no_connection(kind, adapters):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    error = await failure(adapters(kind, url))
    assert isinstance(error, ProviderConnectionError)
    assert is_unreachable(error)


async def test_a_connection_that_nobody_accepts_is_none(adapters):
    with socket.socket() as full:
        # A backlog of none, filled by one: the next connection gets no answer.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            error = await failure(adapters("openai", url, connect_timeout_ms=100))
    assert isinstance(error, ProviderTimeoutError)
    assert is_unreachable(error)


SILENT = {
    "before its headers": Reply(headers_after_s=30),
    "in its body": Reply(b'{"data": [', then_silent=True),
}


@KINDS
@pytest.mark.parametrize("reply", SILENT.values(), ids=SILENT)
async def test_a_silent_server_was_reached_and_costs_no_more_than_the_deadline(
    kind, reply, adapters
):
    async with serving(Reply()) as server:
        server.probe_reply = reply
        adapter = adapters(kind, server.url, connect_timeout_ms=100, probe_timeout_ms=100)
        error = await failure(adapter)
    assert isinstance(error, ProviderTimeoutError)
    assert error.was_sent
    assert not is_unreachable(error)


async def test_an_answer_that_is_cut_was_reached(adapters):
    async with serving(Reply()) as server:
        server.probe_reply = Reply(b'{"data": [1, 2', break_at=10)
        error = await failure(adapters("openai", server.url))
    assert isinstance(error, ProviderConnectionError)
    assert not is_unreachable(error)


@KINDS
async def test_a_probe_uses_the_connection_that_the_next_call_uses(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        server.probe_reply = LISTED
        adapter = adapters(kind, server.url)
        assert await adapter.probe()
        assert (await stream(adapter, call())).finish is not None
    assert len(server.connections) == 1


async def test_a_mock_is_well_whatever_faults_its_calls_have():
    adapter = make_adapter("mock", settings("mock", mock={"fault": {"status": 500}}))
    assert await adapter.probe() is True
