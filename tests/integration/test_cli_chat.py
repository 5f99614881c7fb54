"""`atlas chat` in a pipe: its exit status, its events, and an interrupt."""

import asyncio
import json
import signal

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import ProviderRateLimitError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.streams import StreamFailed
from tests.integration import cli_process
from tests.integration.client_fakes import FakeRouter, answer


@pytest.fixture
async def answers(bus: Bus, router: FakeRouter):
    """Answers each question with itself; one with `fail` in it fails halfway."""

    async def respond(msg: Msg) -> None:
        stream_id = subjects.parse(msg.subject).id
        asked = json.loads(msg.data)["messages"][-1]["content"]
        first, second, last = answer(stream_id, asked)
        if "fail" in asked:
            last = StreamFailed(
                stream_id=stream_id,
                seq=3,
                epoch=1,
                at_ms=0,
                error=ProviderRateLimitError("slow down").to_info(),
                usage=Usage(),
                cost=Cost(),
            )
        await router.write(first, second, last)

    await bus.subscribe(subjects.stream_request("*", "*", "*"), respond)
    await bus.flush()


@pytest.mark.usefixtures("answers", "only_mock")
@pytest.mark.parametrize(
    ("said", "status"), [("a\nb\n", 0), ("a\nfail\n", 1), ("fail\nb\n", 1), ("", 0)]
)
async def test_a_chat_in_a_pipe_is_status_1_when_an_answer_failed(
    said, status, nats_server, tmp_path
):
    ended = await cli_process.atlas("chat", nats_url=nats_server.url, cwd=tmp_path, said=said)
    assert (ended.status, ended.out) == (status, said)
    assert ended.err.count("error: slow down") == said.count("fail")


@pytest.mark.usefixtures("answers", "only_mock")
async def test_a_chat_in_json_tells_every_event_of_each_answer(nats_server, tmp_path):
    ended = await cli_process.atlas(
        "chat", "--json", nats_url=nats_server.url, cwd=tmp_path, said="a\nfail\n"
    )
    assert ended.status == 1
    assert [one["type"] for one in ended.records] == [
        "stream.started",
        "text.delta",
        "stream.completed",
        "stream.started",
        "text.delta",
        "stream.failed",
    ]


@pytest.mark.usefixtures("only_mock")
async def test_a_chat_in_a_pipe_that_is_interrupted_is_status_130(bus: Bus, nats_server, tmp_path):
    asked = await bus.open(subjects.stream_request("*", "*", "*"))
    await bus.flush()
    process = await cli_process.start(
        "chat", nats_url=nats_server.url, cwd=tmp_path, stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"anybody?\n")
    await asked.next_msg(timeout=20)
    process.send_signal(signal.SIGINT)
    ended = await cli_process.ended(process)
    assert ended.status == 130
    assert "Traceback" not in ended.err
