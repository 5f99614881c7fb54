"""Failures below and around an answer, through every adapter: precise, and told with what to do."""

import asyncio
import socket
from dataclasses import dataclass

import pytest
from tests.support.broken_servers import (
    HEAD,
    answering,
    chunk,
    listening,
    resetting,
    self_signed,
)
from tests.support.provider_server import Reply, serving

from atlas.contracts.errors import (
    ProviderConnectionError,
    ProviderError,
    ProviderServerError,
    ProviderStreamError,
    ProviderTimeoutError,
)

from .collected import read
from .dialects import BODIES, body_of

SPEAKERS = pytest.mark.parametrize("speaker", ["anthropic", "openai", "responses", "ollama"])
ANSWERS = {**BODIES, "responses": body_of("responses-tools.sse")}
PAGE = b"<html><head><title>502 Bad Gateway</title></head></html>"


@dataclass(frozen=True)
class Failed:
    """What a caller gets to see."""

    kind: type[ProviderError]
    message: str


@pytest.fixture
def failure(adapters):
    """How a call of one speaker's adapter at a URL fails."""

    async def of(speaker: str, url: str, **fields: object) -> Failed:
        kind = "openai" if speaker == "responses" else speaker
        api = "responses" if speaker == "responses" else "chat"
        with pytest.raises(ProviderError) as raised:
            await read(adapters(kind, url, api=api, **fields))
        error = raised.value
        assert error.provider == "acme"
        return Failed(type(error), error.message)

    return of


def begun(speaker: str) -> bytes:
    """An answer up to the middle, at the end of an event."""
    body = ANSWERS[speaker]
    line = body.index(b"\n", body.index("Grüße".encode()))
    return body[: line + 1] + (b"" if speaker == "ollama" else b"\n")


@SPEAKERS
async def test_a_certificate_that_nobody_trusts(speaker, failure, tmp_path):
    async with listening(answering(HEAD), self_signed(tmp_path)) as url:
        failed = await failure(speaker, url)
    assert failed.kind is ProviderConnectionError
    assert f"no TLS with {url.removeprefix('https://')}" in failed.message
    assert "check base_url's scheme and the certificates" in failed.message


@SPEAKERS
async def test_tls_where_there_is_none(speaker, failure):
    async with serving(Reply()) as server:
        failed = await failure(speaker, server.url.replace("http:", "https:"))
    assert failed.kind is ProviderConnectionError
    assert "no TLS" in failed.message


@SPEAKERS
async def test_a_name_that_does_not_resolve(speaker, failure):
    failed = await failure(speaker, "http://no-such-host.invalid")
    assert failed.kind is ProviderConnectionError
    assert "no-such-host.invalid cannot be resolved; check base_url and DNS" in failed.message


@SPEAKERS
async def test_a_port_where_nobody_listens(speaker, failure):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    failed = await failure(speaker, f"http://{address}")
    assert failed.kind is ProviderConnectionError
    assert f"no connection to {address}" in failed.message
    assert "that the server runs" in failed.message


@SPEAKERS
async def test_a_connection_closed_instead_of_an_answer(speaker, failure):
    async with listening(answering(b"")) as url:
        failed = await failure(speaker, url)
    assert failed.kind is ProviderConnectionError
    assert "no connection to" in failed.message


@SPEAKERS
async def test_a_reset_in_the_middle_of_the_body(speaker, failure):
    async with listening(resetting(HEAD + chunk(begun(speaker)))) as url:
        failed = await failure(speaker, url)
    assert failed.kind is ProviderConnectionError
    assert "cut the connection in the middle of the answer" in failed.message


@SPEAKERS
async def test_a_chunk_shorter_than_it_says(speaker, failure):
    async with listening(answering(HEAD + b"ffff\r\n" + begun(speaker))) as url:
        failed = await failure(speaker, url)
    assert failed.kind is ProviderConnectionError
    assert "in the middle of the answer" in failed.message


@SPEAKERS
async def test_bytes_that_are_no_http(speaker, failure):
    async with listening(answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as url:
        failed = await failure(speaker, url)
    assert failed.kind is ProviderConnectionError
    assert "does not answer as an HTTP server does" in failed.message
    assert "check base_url, its port and its scheme" in failed.message


@SPEAKERS
async def test_a_body_of_garbage(speaker, failure):
    async with serving(Reply(b"\x00\xfe\x81garbage without end")) as server:
        failed = await failure(speaker, server.url)
    assert failed.kind is ProviderStreamError
    assert "garbage" in failed.message


@SPEAKERS
async def test_a_web_page_with_an_error_status(speaker, failure):
    async with serving(Reply(PAGE, 502, {"Content-Type": "text/html"})) as server:
        failed = await failure(speaker, server.url)
    assert failed.kind is ProviderServerError
    assert "acme answered 502: <html>" in failed.message


@SPEAKERS
async def test_a_web_page_in_place_of_a_stream(speaker, failure):
    async with serving(Reply(PAGE, headers={"Content-Type": "text/html"})) as server:
        failed = await failure(speaker, server.url)
    assert failed.kind is ProviderStreamError
    assert "<html>" in failed.message


@SPEAKERS
async def test_an_accepted_request_that_is_answered_with_nothing(speaker, failure):
    async with serving(Reply(b"")) as server:
        failed = await failure(speaker, server.url)
    assert failed.kind is ProviderStreamError
    assert "answered with nothing; check base_url" in failed.message


@SPEAKERS
async def test_a_stream_that_ends_cleanly_before_the_answer_does(speaker, failure):
    async with serving(Reply(begun(speaker))) as server:
        failed = await failure(speaker, server.url)
    assert failed.kind is ProviderStreamError
    assert "the stream broke off before its end" in failed.message


@SPEAKERS
async def test_a_provider_that_never_answers(speaker, failure):
    async with serving(Reply(headers_after_s=30)) as server:
        failed = await failure(speaker, server.url, first_token_timeout_ms=100)
    assert failed.kind is ProviderTimeoutError
    assert "first_token_timeout_ms sets the limit" in failed.message


@SPEAKERS
async def test_a_provider_that_falls_silent(speaker, failure):
    async with serving(Reply(begun(speaker), then_silent=True)) as server:
        failed = await failure(speaker, server.url, idle_timeout_ms=100)
    assert failed.kind is ProviderTimeoutError
    assert "idle_timeout_ms sets the limit" in failed.message


@SPEAKERS
async def test_a_refusal_whose_body_never_comes_is_told_by_its_status(speaker, failure):
    async with serving(Reply(b"", 500, {"Content-Length": "10"}, then_silent=True)) as server:
        failed = await failure(speaker, server.url, first_token_timeout_ms=200)
    assert failed.kind is ProviderServerError
    assert "acme answered 500" in failed.message


@SPEAKERS
async def test_a_redirect_takes_neither_key_nor_prompt_elsewhere(speaker, failure):
    async with serving(Reply(begun(speaker))) as elsewhere:
        moved = Reply(b"", 307, {"Location": f"{elsewhere.url}/chat/completions"})
        async with serving(moved) as server:
            failed = await failure(speaker, server.url)
        assert not elsewhere.asked.is_set()
    assert failed.kind is ProviderConnectionError
    assert "answered 307 and points to http" in failed.message
    assert "set base_url" in failed.message


async def test_a_call_that_is_cancelled_is_no_failure_of_the_provider(adapters):
    async with serving(Reply(headers_after_s=30)) as server:
        task = asyncio.create_task(read(adapters("openai", server.url)))
        await asyncio.wait_for(server.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
