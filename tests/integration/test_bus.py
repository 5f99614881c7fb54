"""The bus and the topology against a real server."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from atlas import subjects, topology, wire
from atlas.bus import Bus
from atlas.contracts.errors import (
    ConnectionFailedError,
    FencedError,
    NoResponderError,
    TopologyError,
)
from atlas.embedded import NatsProcess, free_port
from atlas.nats_settings import NatsSettings
from atlas.server import check_server
from atlas.settings import TopologySettings
from atlas.wire import without_secrets
from tests.support.waiting import eventually


async def test_no_server_is_one_line_that_says_where_it_looked_and_what_to_start():
    port = free_port()
    with pytest.raises(ConnectionFailedError) as raised:
        await Bus.connect(
            NatsSettings(url=f"nats://me:secret@127.0.0.1:{port}", connect_timeout_ms=300), "test"
        )
    message = raised.value.message
    assert f"nats://127.0.0.1:{port}" in message
    assert "atlas up" in message
    assert "secret" not in message
    assert "\n" not in message


def test_credentials_never_stand_in_a_shown_url():
    assert without_secrets("nats://u:p@a:1,tls://token@b:2") == "nats://a:1,tls://b:2"


async def test_a_message_written_is_republished_in_stored_order(bus: Bus):
    watcher = await bus.open(subjects.stream_chunk("default", "s1"))
    await bus.flush()
    for number in range(3):
        await bus.store(subjects.stream_write("default", "s1"), b"%d" % number)
    seen = [await watcher.next_msg(timeout=5) for _ in range(3)]
    assert [msg.data for msg in seen] == [b"0", b"1", b"2"]
    assert [(msg.headers or {})["Nats-Sequence"] for msg in seen] == ["1", "2", "3"]


async def test_history_is_read_page_by_page_without_a_consumer(bus: Bus):
    subject = subjects.stream_write("default", "s1")
    for number in range(7):
        await bus.store(subject, b"%d" % number)
        await bus.store(subjects.stream_write("default", "other"), b"x")
    read = [one.data async for one in bus.read(subjects.STREAMS, subject, page=3)]
    assert read == [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]
    assert (await bus.jetstream.stream_info(subjects.STREAMS)).state.consumer_count == 0


async def test_history_is_read_to_its_end_although_the_server_cuts_a_large_page(bus: Bus):
    subject = subjects.task_write("default", "t1")
    for _ in range(70):
        await bus.store(subject, bytes(1_000_000))
    assert len([one.seq async for one in bus.read(subjects.TASKS, subject)]) == 70


async def test_reading_what_no_server_holds_says_so(bus: Bus):
    await bus.jetstream.delete_stream(subjects.TASKS)
    with pytest.raises(NoResponderError, match="no server holds"):
        assert [one async for one in bus.read(subjects.TASKS, "atlas.default.task.t1.write")]


async def test_reading_a_subject_without_messages_gives_nothing(bus: Bus):
    subject = subjects.stream_write("default", "nobody")
    assert [one async for one in bus.read(subjects.STREAMS, subject)] == []
    assert await bus.last(subjects.STREAMS, subject) is None


async def test_messages_of_a_subject_are_counted_from_a_sequence_on(bus: Bus):
    subject = subjects.stream_write("default", "s1")
    seqs = [await bus.store(subject, b"x") for _ in range(3)]
    await bus.store(subjects.stream_write("default", "s2"), b"x")
    assert await bus.count(subjects.STREAMS, subject) == 3
    counts = [await bus.count(subjects.STREAMS, subject, from_seq=seq) for seq in seqs]
    assert counts == [3, 2, 1]
    assert await bus.count(subjects.STREAMS, subject, from_seq=seqs[-1] + 1) == 0


async def test_a_store_with_a_stale_expected_sequence_is_fenced(bus: Bus):
    owner = subjects.stream_owner("default", "s1")
    first = await bus.store(owner, b"a", expected_last=0)
    await bus.store(owner, b"b", expected_last=first)
    with pytest.raises(FencedError):
        await bus.store(
            subjects.stream_write("default", "s1"), b"x", expected_last=first, expected_of=owner
        )


async def test_a_repeated_increment_of_a_counter_adds_nothing_also_after_its_server_was_killed(
    bus: Bus, nats_server: NatsProcess
):
    subject = subjects.budget("default", "task", "t1", "tokens")
    add = {wire.INCREMENT: "+70", wire.MSG_ID_HEADER: "one"}

    async def added() -> wire.Ack:
        return wire.read_ack(subject, (await bus.ask(subject, b"", add)).data)

    assert await added() == wire.Ack(seq=1, is_duplicate=False, value=70)
    assert await added() == wire.Ack(seq=1, is_duplicate=True, value=None)
    await nats_server.kill()
    await nats_server.start()
    await bus.wait_connected(20)
    assert await added() == wire.Ack(seq=1, is_duplicate=True, value=None)


async def test_an_asset_that_somebody_configured_differently_is_named_with_what_to_do(bus: Bus):
    with pytest.raises(TopologyError) as raised:
        await topology.ensure(bus, TopologySettings(ack_wait_ms=1_000, replay_hours=1))
    assert "ATLAS_STREAMS" in raised.value.message
    assert "max_age is 86400, expected 3600" in raised.value.message
    assert "atlas admin assets --apply" in raised.value.message


async def test_a_server_without_jetstream_is_refused_with_the_flag_to_start_it_with(tmp_path):
    server = NatsProcess(tmp_path / "nats", jetstream=False)
    await server.start()
    try:
        connection = await Bus.connect(NatsSettings(url=server.url), "test")
        try:
            with pytest.raises(TopologyError, match="-js"):
                await check_server(connection)
        finally:
            await connection.close()
    finally:
        await server.stop()


async def test_a_killed_server_comes_back_with_history_and_the_bus_finds_it(
    bus: Bus, nats_server: NatsProcess, capfd
):
    subject = subjects.stream_write("default", "s1")
    await bus.store(subject, b"kept")
    back = asyncio.Event()
    bus.on_reconnect(back.set)
    await nats_server.kill()
    await asyncio.sleep(1)  # long enough for several tries, which must stay quiet
    await nats_server.start()
    async with asyncio.timeout(20):
        await back.wait()
    assert [one.data async for one in bus.read(subjects.STREAMS, subject)] == [b"kept"]
    told = capfd.readouterr()
    assert "Traceback" not in told.err + told.out
    assert (told.err + told.out).count("nats_lost") == 1


def _send(server: NatsProcess, sign: signal.Signals) -> None:
    """Send a signal; a server that is to stop has stopped then, where `/proc` tells."""
    assert server._process is not None
    os.kill(server._process.pid, sign)
    stat = Path(f"/proc/{server._process.pid}/stat")
    while sign == signal.SIGSTOP and stat.exists():
        if stat.read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.001)


async def test_a_flush_that_begins_while_the_server_is_away_ends_when_it_is_back(
    bus: Bus, nats_server: NatsProcess
):
    lost = asyncio.Event()
    bus.on_disconnect(lost.set)
    await nats_server.kill()
    async with asyncio.timeout(20):
        await lost.wait()
        flushing = asyncio.create_task(bus.flush())
        await nats_server.start()
        await flushing


async def test_a_flush_whose_server_dies_under_it_ends_when_it_is_back(
    bus: Bus, nats_server: NatsProcess
):
    _send(nats_server, signal.SIGSTOP)  # so that no answer comes before the end
    flushing = asyncio.create_task(bus.flush())
    await asyncio.sleep(0)
    await nats_server.kill()
    assert not flushing.done()
    async with asyncio.timeout(20):
        await nats_server.start()
        heard = await bus.open("news")
        await flushing
        await bus.flush()
        await bus.publish("news", b"back")
        assert (await heard.next_msg(timeout=5)).data == b"back"


async def test_a_flush_fails_when_the_server_stays_away(
    bus: Bus, nats_server: NatsProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("atlas.bus._FLUSH_S", 0.3)
    await nats_server.kill()
    with pytest.raises(ConnectionFailedError, match="does not answer"):
        await bus.flush()


async def test_a_flush_that_was_given_up_does_not_deafen_the_connection(
    bus: Bus, nats_server: NatsProcess
):
    heard = await bus.open("news")
    _send(nats_server, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bus.flush()
    _send(nats_server, signal.SIGCONT)
    await bus.flush()
    await bus.publish("news", b"heard")
    assert (await heard.next_msg(timeout=5)).data == b"heard"
    assert bus.reconnects == 0


async def test_a_subscription_made_while_the_connection_breaks_is_there_when_it_is_back(
    bus: Bus, nats_server: NatsProcess
):
    other = await Bus.connect(NatsSettings(url=nats_server.url), "other")
    client = bus.nats
    assert client._flusher_task is not None
    client._flusher_task.cancel()
    await asyncio.wait({client._flusher_task})
    client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
    await asyncio.sleep(0)  # it is closed, and the client has not noticed yet
    heard = await bus.open("news")
    await eventually(lambda: bus.reconnects)
    await bus.flush()
    await other.publish("news", b"heard")
    assert (await heard.next_msg(timeout=5)).data == b"heard"
    await other.close()
