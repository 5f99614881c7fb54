"""After a reconnect the assets are made again, tried until it succeeds; what fails is told."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import cast

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import ServiceUnavailableError
from tests.support.waiting import eventually

from atlas import process, topology
from atlas.bus import Bus
from atlas.contracts.errors import ConnectionFailedError, TopologyError
from atlas.server import check_server
from atlas.service import Context
from atlas.settings import TopologySettings

_GIVE_UP_S = 20


@pytest.mark.parametrize("failure", [TopologyError("no leader"), NatsTimeoutError()])
async def test_a_check_that_failed_after_a_reconnect_is_made_again_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
):
    readiness = process._Readiness(cast("Bus", None))
    told: list[str | None] = []

    async def ensure(_bus: object, _settings: object) -> None:
        told.append(readiness.asset_trouble)
        if len(told) <= 3:
            raise failure

    monkeypatch.setattr(topology, "ensure", ensure)
    monkeypatch.setattr(process, "_CHECK_AGAIN_S", 0.001)
    context = SimpleNamespace(bus=None, settings=SimpleNamespace(topology=None))
    back = asyncio.Event()
    back.set()
    check = asyncio.create_task(
        process._check_after_reconnect(cast("Context", context), back, readiness)
    )
    try:
        await eventually(lambda: len(told) >= 4 and readiness.asset_trouble is None)
    finally:
        check.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await check
    assert told[0] is None
    assert all(told[1:]), "while it is wrong, it is not ready"
    assert len(told) == 4, "what succeeded is not repeated"


def _bus(error: Exception) -> Bus:
    async def account_info() -> None:
        raise error

    version = SimpleNamespace(major=2, minor=14, patch=0)
    nats = SimpleNamespace(connected_server_version=version)
    return cast(
        "Bus", SimpleNamespace(nats=nats, jetstream=SimpleNamespace(account_info=account_info))
    )


async def test_a_cluster_without_a_leader_is_not_taken_for_one_without_jetstream():
    error = ServiceUnavailableError(
        code=503, err_code=10008, description="JetStream system temporarily unavailable"
    )
    with pytest.raises(TopologyError, match="no leader"):
        await check_server(_bus(error))


async def test_a_server_that_does_not_answer_says_which_user_may_ask():
    with pytest.raises(ConnectionFailedError, match="the role `operator`"):
        await check_server(_bus(NatsTimeoutError()))


async def test_a_server_that_says_nothing_more_has_no_jetstream():
    with pytest.raises(TopologyError, match="JetStream is off"):
        await check_server(_bus(ServiceUnavailableError()))


async def test_a_cluster_that_chooses_its_leaders_is_asked_again_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
):
    answers: list[Exception | None] = [NatsTimeoutError(), NatsTimeoutError(), None]

    async def account_info() -> None:
        return None

    async def ensure_all(*_: object) -> None:
        if (answer := answers.pop(0) if answers else NatsTimeoutError()) is not None:
            raise answer

    bus = _bus(NatsTimeoutError())
    monkeypatch.setattr(bus.jetstream, "account_info", account_info)
    monkeypatch.setattr(topology, "_ensure_all", ensure_all)
    await topology.ensure(bus, TopologySettings())
    assert answers == []
    monkeypatch.setattr(topology, "_ANSWERS_S", 0.0)
    with pytest.raises(ConnectionFailedError, match="JetStream does not answer"):
        await topology.ensure(bus, TopologySettings())
