"""What a service tells monitors over HTTP: that it is alive, and whether it may be given work."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from atlas.client import Atlas
from atlas.contracts.errors import ConfigurationError
from atlas.embedded import SERVICES, NatsProcess, Services, free_port
from atlas.settings import Settings

PATIENCE_S = 30


class Monitor:
    """Asks a service, and waits for an answer."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        async with self._session.get(self._url + path) as answer:
            return answer.status, await answer.text()

    async def until(self, is_it: Callable[[int, list[str]], bool]) -> list[str]:
        """Ask whether the service is ready until the answer is the expected one."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status, text = await self.get("/readyz")
                troubles: list[str] = json.loads(text)["troubles"]
                assert (status == 200) == (not troubles)
                if is_it(status, troubles):
                    return troubles
                await asyncio.sleep(0.05)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


@pytest.fixture
async def port() -> int:
    return free_port()


@pytest.fixture
async def services(nats_server: NatsProcess, port: int) -> AsyncIterator[Services]:
    """Services that answer monitors."""
    one = Services(nats_server.url, environment={"ATLAS_MONITORING__PORT": str(port)})
    yield one
    await one.stop()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_is_ready_while_nats_is_there_and_alive_without_it(
    nats_server: NatsProcess, services: Services, session, port: int, name: str
):
    await services.start([name])
    monitor = Monitor(session, port)
    assert await monitor.get("/livez") == (200, "ok\n")
    assert await monitor.until(lambda status, _: status == 200) == []
    await nats_server.kill()
    assert await monitor.until(lambda status, _: status == 503) == [
        "NATS is away; it reconnects by itself"
    ]
    assert (await monitor.get("/livez"))[0] == 200
    await nats_server.start()
    assert await monitor.until(lambda status, _: status == 200) == []
    assert (await monitor.get("/metrics-of-others"))[0] == 404


async def test_a_service_that_drains_is_not_ready_and_still_alive(
    nats_server: NatsProcess, services: Services, session, port: int
):
    services.environment = {
        **services.environment,
        "ATLAS_PROVIDERS": json.dumps({"mock": {"kind": "mock", "mock": {"token_ms": 200}}}),
    }
    (router,) = await services.start(["provider_router"])
    monitor = Monitor(session, port)
    async with (
        Atlas.connect(nats_server.url, settings=Settings()) as atlas,
        atlas.stream("Tell me a long story") as stream,
    ):
        await anext(aiter(stream))
        os.kill(router.pid, signal.SIGTERM)
        assert await monitor.until(lambda status, _: status == 503) == ["it is draining"]
        assert (await monitor.get("/livez"))[0] == 200
        await stream.cancel()


async def test_a_router_of_which_no_provider_answers_is_not_ready(
    services: Services, session, port: int
):
    away = {"kind": "openai", "base_url": f"http://127.0.0.1:{free_port()}/v1"}
    services.environment = {
        **services.environment,
        "ATLAS_PROVIDERS": json.dumps({"house": away}),
        "ATLAS_ROUTER__PROBE_IDLE_MS": "1000",
    }
    await services.start(["provider_router"])
    found = await Monitor(session, port).until(lambda status, _: status == 503)
    assert found == ["no provider can be asked: house; `atlas providers` says why"]


async def test_an_address_that_is_taken_is_told_with_what_to_set(
    nats_server: NatsProcess, services: Services, port: int, tmp_path: Path
):
    await services.start(["agent_worker"])
    with (tmp_path / "log").open("wb") as log:
        second = Services(nats_server.url, log, {"ATLAS_MONITORING__PORT": str(port)})
        with pytest.raises(ConfigurationError):
            await second.start(["agent_controller"])
        await second.stop()
    told = (tmp_path / "log").read_text()
    assert f"nothing can listen on 127.0.0.1:{port}" in told
    assert "ATLAS_MONITORING__PORT" in told
    assert "Traceback" not in told
