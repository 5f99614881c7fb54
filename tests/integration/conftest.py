"""Fixtures of integration tests."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.catalogue import ProviderInfo, ProvidersReply
from atlas.embedded import NatsProcess
from tests.integration import cli_process
from tests.integration.client_fakes import FakeController, FakeRouter
from tests.support.tasks import User

type Run = Callable[..., Awaitable[cli_process.Ended]]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def node_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples with NATS's client installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm on the PATH")
    folder = tmp_path_factory.mktemp("examples")
    for path in (EXAMPLES / "package.json", *EXAMPLES.glob("*.mjs")):
        shutil.copy(path, folder)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install NATS's client: {installed.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
async def user(bus: Bus) -> User:
    """Anyone with a NATS client."""
    return User(bus)


@pytest.fixture
def cli(nats_server: NatsProcess, tmp_path: Path) -> Run:
    """`atlas` run to its end."""

    async def run(*arguments: str) -> cli_process.Ended:
        return await cli_process.atlas(*arguments, nats_url=nats_server.url, cwd=tmp_path)

    return run


@pytest.fixture
async def router(bus: Bus) -> FakeRouter:
    """A router that a test tells what to say."""
    fake = FakeRouter(bus)
    await fake.open()
    return fake


@pytest.fixture
async def controller(bus: Bus) -> FakeController:
    """A controller that a test tells what to say."""
    fake = FakeController(bus)
    await fake.open()
    return fake


@pytest.fixture
async def only_mock(bus: Bus) -> None:
    """There is no provider but the mock."""

    async def respond(msg: Msg) -> None:
        reply = ProvidersReply(
            router="r1",
            default_model="mock/standard",
            providers=[ProviderInfo(provider="mock", kind="mock", health="healthy")],
            models=[],
        )
        await msg.respond(reply.to_json())

    await bus.subscribe(subjects.API_PROVIDERS_ALL, respond)
    await bus.flush()


@pytest.fixture
async def atlas(bus: Bus, nats_server: NatsProcess) -> AsyncIterator[Atlas]:
    """A client whose watchers give a silent stream up after two seconds."""
    assert bus.is_connected  # and with it, the assets are there
    async with Atlas.connect(nats_server.url, tenant="default", silence_s=2) as connected:
        yield connected
