"""`atlas stream`: where it begins to show, and what it tells of a stream."""

import re

import pytest

from atlas.bus import Bus
from atlas.contracts.errors import ProviderRateLimitError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.streams import AttemptFailed, StreamCancelled, StreamPaused, StreamResumed
from tests.integration import cli_process
from tests.integration.client_fakes import FakeRouter, completed, delta, started


@pytest.fixture
def cli(nats_server, tmp_path):
    async def run(*arguments: str) -> cli_process.Ended:
        return await cli_process.atlas(*arguments, nats_url=nats_server.url, cwd=tmp_path)

    return run


@pytest.fixture
async def router(bus: Bus):
    fake = FakeRouter(bus)
    await fake.open()
    return fake


async def test_the_end_alone_is_the_final_text_or_the_last_event(router: FakeRouter, cli):
    failed = AttemptFailed(
        stream_id="s1",
        seq=3,
        epoch=1,
        at_ms=0,
        attempt=1,
        provider="mock",
        error=ProviderRateLimitError("slow down").to_info(),
        next="restart",
    )
    await router.write(started("s1", 1), delta("s1", 2, "one"), failed, delta("s1", 4, "two"))
    await router.write(completed("s1", 5, "two"))
    ended = await cli("stream", "watch", "s1", "--from", "end")
    assert (ended.status, ended.out, ended.err) == (0, "two\n", "")
    ended = await cli("stream", "watch", "s1", "--from", "end", "--json")
    assert [one["type"] for one in ended.records] == ["stream.completed"]


@pytest.mark.parametrize("place", ["-2", "begin", "1.5"])
async def test_a_place_that_is_none_is_wrong_use(cli, place):
    ended = await cli("stream", "watch", "s1", "--from", place)
    assert ended.status == 2
    assert "neither a seq" in ended.err


async def test_a_stream_is_shown_with_who_controlled_it_its_figures_and_its_text(
    router: FakeRouter, cli
):
    of = {"stream_id": "s1", "epoch": 1}
    await router.write(
        started("s1", 1).model_copy(update={"at_ms": 10_000}),
        delta("s1", 2, "so far").model_copy(update={"at_ms": 11_000}),
        StreamPaused(seq=3, at_ms=12_000, by="me", reason="lunch", **of),
        StreamResumed(seq=4, at_ms=15_000, **of),
        StreamCancelled(
            seq=5, at_ms=16_000, by="her", reason="enough", usage=Usage(), cost=Cost(), **of
        ),
    )
    ended = await cli("stream", "show", "s1")
    assert ended.status == 0
    assert ended.out.startswith(
        "stream s1: cancelled, 5 events\nmodel    mock/standard (attempt 1)\n"
    )
    assert "took     6.0s, first token after 1.0s, paused for 3.0s\n" in ended.out
    assert re.findall(r"^control +\S+ (.*)$", ended.out, re.MULTILINE) == [
        "paused by me: lunch",
        "resumed",
        "cancelled by her: enough",
    ]
    assert ended.out.endswith("text     6 characters\n\nso far\n")
    (shown,) = (await cli("stream", "show", "s1", "--json")).records
    assert (shown["text"], shown["by"], shown["metrics"]["paused_ms"]) == ("so far", "her", 3_000)
    assert [(one["type"], one.get("by")) for one in shown["controls"]] == [
        ("stream.paused", "me"),
        ("stream.resumed", None),
    ]
