"""Recorded traffic of real providers comes through as an independent reading of it says."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.support.provider_server import Recording, Reply, recorded_names, recording, serving

from atlas.provider_settings import ProviderSettings
from provider_router.providers.anthropic.decoder import MessagesDecoder
from provider_router.providers.base import Decoder
from provider_router.providers.errors import Origin
from provider_router.providers.openai.chat_decoder import ChatDecoder
from provider_router.providers.openai.responses_decoder import ResponsesDecoder
from provider_router.providers.registry import make_adapter

from .collected import ORIGIN, Collected, call, decode, settings, stream
from .naive_reading import read_chat, read_messages, read_responses


@dataclass(frozen=True)
class Dialect:
    """How to read one dialect: with our decoder, naively, and through which adapter."""

    decoder: Callable[[Origin], Decoder]
    read: Callable[[bytes], Collected]
    kind: str
    api: str = "auto"

    def settings(self, url: str) -> ProviderSettings:
        return settings(self.kind, url, api=self.api)


CHAT = Dialect(ChatDecoder, read_chat, "openai", "chat")
MESSAGES = Dialect(MessagesDecoder, read_messages, "anthropic")
RESPONSES = Dialect(ResponsesDecoder, read_responses, "openai", "responses")

NAMES = recorded_names() or ["openai-chat-text-0"]  # without recordings: one test, which skips


def dialect_of(recorded: Recording) -> Dialect:
    """The dialect that a recording speaks, by the path that was asked."""
    for path, dialect in (
        ("/messages", MESSAGES),
        ("/chat/completions", CHAT),
        ("/responses", RESPONSES),
    ):
        if path in recorded.path:
            return dialect
    raise AssertionError(f"{recorded.name}: no dialect for {recorded.path}")


@pytest.mark.parametrize("name", NAMES)
async def test_a_recording_streams_whole_through_its_adapter(name):
    recorded = recording(name)
    dialect = dialect_of(recorded)
    async with serving(Reply(recorded.body)) as server:
        adapter = make_adapter("acme", dialect.settings(server.url))
        collected = await stream(adapter, call())
        await adapter.close()
    assert collected == dialect.read(recorded.body)


@pytest.mark.parametrize("name", NAMES)
async def test_a_recording_streams_in_uneven_pieces_through_its_adapter(name):
    recorded = recording(name)
    dialect = dialect_of(recorded)
    cuts = tuple(range(1, len(recorded.body), max(1, len(recorded.body) // 41) | 1))
    async with serving(Reply(recorded.body, cuts=cuts, pause_s=0.001)) as server:
        adapter = make_adapter("acme", dialect.settings(server.url))
        collected = await stream(adapter, call())
        await adapter.close()
    assert collected == dialect.read(recorded.body)


@pytest.mark.parametrize("name", NAMES)
async def test_a_recording_that_breaks_off_never_looks_complete(name):
    recorded = recording(name)
    dialect = dialect_of(recorded)
    async with serving(Reply(recorded.body, break_at=len(recorded.body) // 2)) as server:
        adapter = make_adapter("acme", dialect.settings(server.url))
        collected = await stream(adapter, call())
        await adapter.close()
    assert collected.finish is None
    assert collected.error is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_means_the_same_cut_at_every_odd_byte(name):
    recorded = recording(name)
    dialect = dialect_of(recorded)
    body, expected = recorded.body, dialect.read(recorded.body)
    for at in range(1, len(body), 2):
        assert decode(dialect.decoder(ORIGIN), [body[:at], body[at:]]) == expected, at


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_means_the_same_byte_by_byte(name):
    recorded = recording(name)
    dialect = dialect_of(recorded)
    pieces = [recorded.body[at : at + 1] for at in range(len(recorded.body))]
    assert decode(dialect.decoder(ORIGIN), pieces) == dialect.read(recorded.body)
