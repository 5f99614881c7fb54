"""Fixtures for every test: a real NATS server per session, and services on it."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas import topology
from atlas.bus import Bus
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from atlas.settings import TopologySettings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Who runs the tests in the background of a script has SIGINT ignored, and so would every
    # command have that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    """A nats-server of the test's own, on an ephemeral port with its own store directory."""
    server = NatsProcess(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bus(nats_server: NatsProcess) -> AsyncIterator[Bus]:
    """A connection to a server that has all assets."""
    connection = await Bus.connect(NatsSettings(url=nats_server.url), "test")
    await topology.ensure(connection, TopologySettings(ack_wait_ms=1_000))
    yield connection
    await connection.close()
