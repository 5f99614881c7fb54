"""An answer that broke off is continued where that is asked for and possible, else begun anew."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from atlas.client.streams import Stream
from atlas.contracts.inference import UsageSource
from atlas.contracts.streams import (
    AttemptFailed,
    NextStep,
    StreamAdopted,
    StreamEvent,
)
from atlas.provider_settings import ProviderSettings
from tests.support.dialects import CHAT, DIALECTS, MESSAGES, Dialect
from tests.support.provider_server import (
    ProviderServer,
    ReceivedRequest,
    Reply,
    recording,
    refusal,
    serving,
)
from tests.support.router import (
    Pair,
    Stack,
    chat,
    chat_chunk,
    chat_event,
    provider,
    stack,
    stored_events,
    two_routers,
)

WORDS = ["Once", " upon", " a", " time", " there", " was", " a", " house."]
TEXT = "".join(WORDS)
QUESTION = "Tell me a story"
CUT = 3
"""How many words the first provider says."""
GO_ON = {"on_failure": "continue"}


class Continuing(ProviderServer):
    """Goes on from a begun answer as a model does, and answers as a whole where there is none."""

    def __init__(self, dialect: Dialect, text: str = TEXT) -> None:
        super().__init__(Reply())
        self._dialect = dialect
        self.text = text
        self.begun: list[str] = []
        self.broken: list[Reply] = []
        """What is answered first."""

    def reply_to(self, request: ReceivedRequest) -> Reply:
        """The rest of the answer."""
        begun = begun_by(request)
        self.begun.append(begun)
        assert self.text.startswith(begun)
        if self.broken:
            return self.broken.pop(0)
        return Reply(self._dialect.whole(tokens_of(self.text.removeprefix(begun))))


class Refusing(ProviderServer):
    """Takes no begun answer, and answers whole requests; breaks off the first so many."""

    def __init__(self, reply: Reply, *broken: Reply) -> None:
        super().__init__(reply)
        self.broken = list(broken)

    def reply_to(self, request: ReceivedRequest) -> Reply:
        """A refusal, as Anthropic words it."""
        if begun_by(request):
            message = "This model does not support assistant message prefill."
            return refusal(400, {"error": {"type": "invalid_request_error", "message": message}})
        return self.broken.pop(0) if self.broken else self.reply


def begun_by(request: ReceivedRequest) -> str:
    """The beginning of the answer that a request ends with; empty when it ends otherwise."""
    messages: Any = request.json()["messages"]
    last = messages[-1]
    if last["role"] != "assistant":
        return ""
    content = last["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def tokens_of(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def broken(dialect: Dialect, words: list[str]) -> Reply:
    """An answer whose connection breaks after these words."""
    begun = dialect.begun(words)
    return Reply(
        begun + dialect.text("never"), cuts=(len(begun),), pause_s=0.1, break_at=len(begun)
    )


@asynccontextmanager
async def rig(
    directory: Path, second: ProviderServer, kind: str, model: str = "some-model", **fields: object
) -> Any:
    """A router whose first provider speaks Chat Completions, and `second` after it."""
    async with AsyncExitStack() as undo:
        first = Continuing(CHAT)
        first.broken = [broken(CHAT, WORDS[:CUT])]
        await undo.enter_async_context(serving(Reply(), lambda _: first))
        await undo.enter_async_context(serving(Reply(), lambda _: second))
        providers: Mapping[str, ProviderSettings] = {
            "first": provider("openai", first.url, api="chat", prefill=True),
            "second": provider(kind, second.url, **{"models": [model], **fields}),
        }
        members = ["first/some-model", f"second/{model}"]
        groups = {"both": {"members": members}}
        running = await undo.enter_async_context(stack(directory, providers, groups=groups))
        yield running, first


async def answered(running: Stack, **fields: Any) -> tuple[Stream, list[StreamEvent]]:
    """Ask both; gives the stream at its end, and what was stored for it."""
    asked = {"model": "both", "fallback": GO_ON, **fields}
    async with asyncio.timeout(30), running.atlas.stream(QUESTION, **asked) as stream:
        await stream.result()
    assert stream.reading.is_whole()
    return stream, await running.stored(stream.stream_id)


def asked_of(pair: Pair) -> Stream:
    return pair.atlas.stream(QUESTION, model="acme/some-model", fallback=GO_ON)


def steps(events: list[StreamEvent]) -> list[NextStep | None]:
    return [event.next for event in events if isinstance(event, AttemptFailed)]


GOES_ON = {
    "chat": ("some-model", {"api": "chat", "prefill": True}),
    "messages": ("claude-sonnet-4-5", {}),
    "ollama": ("llama3.2", {}),
}


@pytest.mark.parametrize("name", GOES_ON)
async def test_the_next_provider_goes_on_from_what_the_first_one_said(tmp_path: Path, name: str):
    dialect = next(one for one in DIALECTS if one.name == name)
    model, fields = GOES_ON[name]
    second = Continuing(dialect)
    async with rig(tmp_path, second, dialect.kind, model, **fields) as (running, _):
        stream, events = await answered(running)
    assert stream.reading.text == TEXT
    assert steps(events) == ["continue"]
    assert second.begun == ["".join(WORDS[:CUT])]
    assert stream.reading.restarts == 0
    assert stream.reading.terminal is not None
    usage = stream.reading.terminal.usage
    first_tokens = 4  # `Once upon a`, and so many of the question
    assert usage.source is UsageSource.ESTIMATED
    assert usage.input_tokens == first_tokens + 3  # and what the second one reports
    assert usage.output_tokens == 3 + 5


@pytest.mark.parametrize(
    ("kind", "model", "fields", "asked"),
    [
        pytest.param("openai", "some-model", {"api": "chat"}, {}, id="not known to"),
        pytest.param("openai", "o3", {"api": "responses", "prefill": True}, {}, id="responses"),
        pytest.param("anthropic", "claude-opus-4-6", {}, {}, id="since 4.6"),
        pytest.param(
            "anthropic",
            "claude-sonnet-4-5",
            {},
            {"reasoning": {"max_tokens": 2_000}},
            id="thinks first",
        ),
        pytest.param("ollama", "llama3.2", {"prefill": False}, {}, id="told not to"),
        pytest.param(
            "anthropic",
            "claude-sonnet-4-5",
            {},
            {"response_format": {"type": "json_object"}},
            id="answers by format",
        ),
    ],
)
async def test_where_it_cannot_be_continued_the_answer_begins_anew(
    tmp_path: Path, kind: str, model: str, fields: dict[str, object], asked: dict[str, object]
):
    dialect = next(
        one for one in DIALECTS if one.kind == kind and one.api == fields.get("api", one.api)
    )
    second = ProviderServer(Reply(dialect.whole(["Anew."])))
    async with rig(tmp_path, second, kind, model, **fields) as (running, _):
        stream, events = await answered(running, **asked)
    assert stream.reading.text == "Anew."
    assert steps(events) == ["restart"]


async def test_a_tool_call_is_never_continued(tmp_path: Path):
    call = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"city"'}}
    said = chat_chunk("Let me see") + chat_event(
        {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    )
    second = ProviderServer(Reply(chat(["Anew."])))
    async with rig(tmp_path, second, "openai", api="chat", prefill=True) as (running, first):
        first.broken = [Reply(said, cuts=(len(said) - 1,), break_at=len(said))]
        stream, events = await answered(running, tools=[{"name": "weather"}])
    assert (stream.reading.text, steps(events)) == ("Anew.", ["restart"])


async def test_whitespace_at_the_end_is_not_sent_and_not_doubled(tmp_path: Path):
    second = Continuing(MESSAGES)
    words = [*WORDS[:CUT], " "]
    async with rig(tmp_path, second, "anthropic", "claude-haiku-4-5") as (running, first):
        first.broken = [broken(CHAT, words)]
        stream, events = await answered(running)
    assert (stream.reading.text, steps(events)) == (TEXT, ["continue"])
    assert second.begun == ["Once upon a"]


async def test_a_server_gets_the_fields_that_it_wants_with_a_begun_answer(tmp_path: Path):
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    second = Continuing(CHAT)
    async with rig(tmp_path, second, "openai", api="chat", prefill=fields) as (running, _):
        await answered(running)
        begun = second.requests[0].json()
        await answered(running, model="second/some-model")
        whole = second.requests[1].json()
    assert begun.items() >= fields.items()
    assert not whole.keys() & fields.keys()


async def test_a_provider_that_refuses_a_begun_answer_is_asked_for_the_whole_one(tmp_path: Path):
    second = Refusing(Reply(chat(["Anew."])), broken(CHAT, WORDS[:CUT]))
    async with rig(tmp_path, second, "openai", api="chat", prefill=True) as (running, _):
        stream, events = await answered(running, model="second/some-model")
    assert (stream.reading.text, steps(events)) == ("Anew.", ["continue", "restart"])
    assert [begun_by(request) for request in second.requests] == ["", "Once upon a", ""]


async def test_where_one_refuses_a_begun_answer_another_may_go_on_from_it(tmp_path: Path):
    second = Refusing(Reply(chat(["Anew."])))
    async with rig(tmp_path, second, "openai", api="chat", prefill=True) as (running, first):
        stream, events = await answered(running)
    assert (stream.reading.text, steps(events)) == (TEXT, ["continue", "continue"])
    assert first.begun == ["", "Once upon a"]
    assert [begun_by(request) for request in second.requests] == ["Once upon a"]


async def test_an_answer_that_breaks_off_twice_is_continued_twice(tmp_path: Path):
    second = Continuing(CHAT)
    second.broken = [broken(CHAT, WORDS[CUT:6])]
    async with rig(tmp_path, second, "openai", api="chat", prefill=True) as (running, first):
        stream, events = await answered(running)
    assert (stream.reading.text, steps(events)) == (TEXT, ["continue", "continue"])
    assert first.begun == ["", "".join(WORDS[:6])]
    assert second.begun == ["".join(WORDS[:CUT])]


async def test_an_answer_that_nobody_wants_continued_begins_anew(tmp_path: Path):
    second = Continuing(CHAT)
    async with rig(tmp_path, second, "openai", api="chat", prefill=True) as (running, _):
        stream, events = await answered(running, fallback={})
    assert (stream.reading.text, steps(events)) == (TEXT, ["restart"])
    assert second.begun == [""]


async def test_a_recorded_answer_that_is_cut_is_whole_in_the_end(tmp_path: Path):
    recorded = recording("openai-chat-text-1")
    second = Continuing(CHAT)
    async with rig(tmp_path, second, "openai", api="chat", prefill=True) as (running, first):
        first.broken = [Reply(recorded.body)]
        whole, _ = await answered(running, model="first/some-model")
        second.text = whole.reading.text
        for share in (0.3, 0.6):
            first.text, cut = whole.reading.text, int(len(recorded.body) * share)
            first.broken = [Reply(recorded.body, cuts=(cut - 1,), pause_s=0.1, break_at=cut)]
            stream, events = await answered(running)
            assert stream.reading.text == whole.reading.text
            assert steps(events) == ["continue"]


async def test_the_mock_goes_on_with_its_own_words(tmp_path: Path):
    fault = {"break_after_chunks": 20, "times": 1}
    mock = {"first_token_ms": 1, "token_ms": 0}
    providers = {
        name: ProviderSettings.model_validate({"kind": "mock", "mock": {**mock, **more}})
        for name, more in (("broken", {"fault": fault}), ("sound", {}))
    }
    groups = {"both": {"members": ["broken/fast", "sound/fast"]}}
    async with stack(tmp_path, providers, groups=groups) as running:
        stream, events = await answered(running)
        sound, _ = await answered(running, model="sound/fast")
    assert steps(events) == ["continue"]
    assert stream.reading.text == sound.reading.text


async def test_a_router_that_adopts_a_stream_goes_on_from_what_history_holds(tmp_path: Path):
    async with two_routers(tmp_path, prefill=True) as pair:
        pair.server.reply = Reply(CHAT.begun(WORDS[:CUT]), then_silent=True)
        async with asyncio.timeout(60), asked_of(pair) as stream:
            async for _ in stream:
                if stream.reading.text == "".join(WORDS[:CUT]):
                    break
            pair.server.reply = Reply(CHAT.whole(WORDS[CUT:]))
            await pair.kill_owner(stream.stream_id)
            response = await stream.result()
        events = await stored_events(pair.bus, stream.stream_id)
    assert response.content == TEXT
    assert stream.reading.is_whole()
    (adopted,) = [event for event in events if isinstance(event, StreamAdopted)]
    assert (adopted.next, adopted.attempt) == ("continue", 2)
    assert [begun_by(request) for request in pair.server.requests] == ["", "Once upon a"]
    assert response.usage.input_tokens == 4 + 3
    assert response.metrics.time_to_first_token_ms is not None


async def test_a_router_that_adopts_what_cannot_be_continued_begins_anew(tmp_path: Path):
    async with two_routers(tmp_path) as pair:
        pair.server.reply = Reply(CHAT.begun(WORDS[:CUT]), then_silent=True)
        async with asyncio.timeout(60), asked_of(pair) as stream:
            await anext(aiter(stream))
            pair.server.reply = Reply(CHAT.whole(["Anew."]))
            await pair.kill_owner(stream.stream_id)
            response = await stream.result()
        events = await stored_events(pair.bus, stream.stream_id)
    assert response.content == "Anew."
    (adopted,) = [event for event in events if isinstance(event, StreamAdopted)]
    assert adopted.next == "restart"
