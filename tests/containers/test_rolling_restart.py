"""A composition whose every container is restarted and replaced under load, and its end."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from atlas.bus import Bus
from atlas.client import Atlas
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.support.load import Load, Stored, stored, under_load

from .composition import SERVICES, Composition, running

TWO_ROUTERS = ("--scale", "provider-router=2")
PATIENCE_S = 600

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("engine"),
]


@pytest.fixture
def composition() -> Iterator[Composition]:
    """All of it, with a second router."""
    with running(*TWO_ROUTERS) as made:
        yield made


def _as_user(composition: Composition, user: str, account: str, folder: Path) -> NatsSettings:
    """How a program on this machine connects."""
    return NatsSettings(
        url=composition.nats_url,
        nkey_seed_file=composition.seed_of(user, folder),
        inbox_prefix=f"_INBOX.{account}.{user}",
    )


def _steps(composition: Composition) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What an operator does one after the other, as commands of `docker`."""
    project = ("compose", "--project-name", composition.project)
    for service in SERVICES:
        for container in composition.containers(service):
            yield f"restart a container of {service}", ("restart", container)
    anew = (*project, "up", "--detach", "--force-recreate", "--no-deps")
    for service in SERVICES:
        scale = TWO_ROUTERS if service == "provider-router" else ()
        yield f"replace every container of {service}", (*anew, *scale, service)
    yield "restart nats", (*project, "restart", "nats")


async def _restart_everything(
    composition: Composition, steps: Iterable[tuple[str, tuple[str, ...]]], load: Load
) -> list[str]:
    """Tells what was in flight before each step."""
    told = []
    for what, command in steps:
        assert load.streams_in_flight > 0
        assert load.tasks_in_flight > 0  # there is something to lose
        assert load.refused == 0  # of the services none is needed to be accepted
        told.append(
            f"{load.streams_in_flight} streams and {load.tasks_in_flight} tasks in flight: {what}"
        )
        await asyncio.to_thread(composition.docker, *command)
        await asyncio.to_thread(composition.up, "--no-recreate", *TWO_ROUTERS)
    return told


async def _stored(nats: NatsSettings) -> Stored:
    bus = await Bus.connect(nats, "test")
    try:
        return await stored(bus)
    finally:
        await bus.close()


# While NATS restarts, its published port closes each connection at once, which nats-py forgets.
@pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")
async def test_every_container_is_restarted_and_replaced_under_load_and_nothing_is_lost(
    composition: Composition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    publisher = _as_user(composition, "default-publisher", "default", tmp_path)
    operator = _as_user(composition, "operator", "operator", tmp_path)
    steps = list(_steps(composition))
    async with (
        asyncio.timeout(PATIENCE_S),
        Atlas.connect(settings=Settings(nats=publisher)) as atlas,
    ):
        async with under_load(atlas) as load:
            told = await _restart_everything(composition, steps, load)
        held = await _stored(operator)
    wrong = held.wrong(load)
    told.append(
        f"{load.streams.total()} streams and {load.tasks.total()} tasks accepted, "
        f"{load.refused} refused and asked for again; lost or done twice: {len(wrong)}"
    )
    with capsys.disabled():
        print("", *told, *wrong, sep="\n")  # noqa: T201 - the figures are what it is for
    assert wrong == []
    assert set(load.streams) == {"stop"}
    assert set(load.tasks) == {"task.completed"}
    assert len(load.texts) == 1


def test_down_leaves_nothing_but_volumes_and_with_volumes_nothing():
    with running() as made:
        assert set(made.left()) == {"containers", "networks", "volumes"}
        made.compose("down")
        assert set(made.left()) == {"volumes"}
        made.compose("down", "--volumes")
        assert made.left() == {}
