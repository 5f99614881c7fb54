"""`atlas doctor` names what is wrong, and says what to do: each made true, on a real server."""

import asyncio
import contextlib
import re
import textwrap
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats import micro

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.events import DeadLetter
from atlas.embedded import NatsProcess, Services, free_port
from atlas.provider_settings import ProviderSettings
from tests.integration import cli_process
from tests.support.limited import SMALL_VARIABLES, limited
from tests.support.provider_server import Reply, serving
from tests.support.router import TENANT, stack

OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"


class Told(dict[str, tuple[str, str]]):
    """Level and message of each check; `status` is the command's."""

    status: int


async def doctor(url: str, cwd: Path, **settings: str) -> Told:
    """What `atlas doctor` says."""
    ended = await cli_process.atlas("doctor", "--json", nats_url=url, cwd=cwd, settings=settings)
    told = Told({one["check"]: (one["level"], one["message"]) for one in ended.records})
    told.status = ended.status
    explained = re.findall(r"`([a-z_ ]+?)(?: …| of …)?`", OPERATE.read_text())
    for check, (level, _) in told.items():
        assert level == "ok" or any(check.startswith(one) for one in explained), check
    order = [one["level"] for one in ended.records]
    assert order == sorted(order, key=["problem", "warning", "ok"].index), ended.err
    return told


async def test_without_nats_it_says_where_it_looked_and_what_to_start(tmp_path: Path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas("doctor", nats_url=url, cwd=tmp_path)
    assert ended.status == 2
    assert re.search(f"no NATS server answers at {url}.*atlas up", ended.err)


async def test_a_server_without_jetstream_is_told_how_to_be_started(tmp_path: Path):
    server = NatsProcess(tmp_path / "nats", jetstream=False)
    await server.start()
    try:
        told = await doctor(server.url, tmp_path)
    finally:
        await server.stop()
    level, message = told["nats"]
    assert (told.status, level) == (1, "problem")
    assert "JetStream is off on this NATS server; start it with `-js`" in message


async def test_a_server_that_is_too_old_is_named_with_the_version_that_is_needed(
    nats_server: NatsProcess, tmp_path: Path
):
    async with claiming("2.10.29", nats_server.port) as url:
        told = await doctor(url, tmp_path)
    level, message = told["nats"]
    assert (told.status, level) == (1, "problem")
    assert "the NATS server is 2.10.29, and Atlas needs 2.12.0 or newer; upgrade it" in message


@contextlib.asynccontextmanager
async def claiming(version: str, port: int) -> AsyncIterator[str]:
    """A way to a NATS server on which it claims to be of another version."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        info = await from_server.readline()
        writer.write(re.sub(rb'"version":"[^"]*"', b'"version":"%s"' % version.encode(), info))
        await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as proxy:
        yield f"nats://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"


async def test_a_bound_that_is_none_is_told_as_such_and_a_size_to_its_byte(
    nats_server: NatsProcess, bus: Bus, tmp_path: Path
):
    config = (await bus.jetstream.stream_info(subjects.STREAMS)).config
    config.max_age, config.max_bytes = 0, -1
    await bus.jetstream.update_stream(config)
    message = (await doctor(nats_server.url, tmp_path))["assets"][1]
    assert "max_age is unlimited, the settings say 24 h (86400 s)" in message
    assert "max_bytes is unlimited, the settings say 4,096 MB (4294967296 bytes)" in message


async def test_assets_that_differ_are_named_with_the_command_that_changes_them(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    assert bus.is_connected
    told = await doctor(nats_server.url, tmp_path, ATLAS_TOPOLOGY__REPLAY_HOURS="30")
    assert told["assets"][0] == "problem"
    assert re.search("ATLAS_STREAMS.*max_age is 24 h.*admin assets --apply", told["assets"][1])


async def test_a_provider_without_its_key_is_named_with_the_variable(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    assert bus.is_connected
    (tmp_path / "atlas.yaml").write_text(
        "providers: {house: {kind: openai, api_key_env: HOUSE_KEY, models: [m]}}"
    )
    told = await doctor(nats_server.url, tmp_path)
    assert told["provider house"] == (
        "problem",
        "HOUSE_KEY is not set; set it, or remove the provider",
    )


async def test_a_vendor_that_is_declared_without_a_key_is_told_where_it_is_named(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    assert bus.is_connected
    (tmp_path / "atlas.yaml").write_text("providers: {claude: {kind: anthropic}}")
    told = await doctor(nats_server.url, tmp_path)
    level, message = told["provider claude"]
    assert (told.status, level) == (1, "problem")
    assert "`api_key_env: ANTHROPIC_API_KEY`" in message


async def test_a_key_that_a_probe_finds_refused_is_told_before_anybody_asks(tmp_path: Path):
    async with serving(Reply()) as server:
        server.probe_reply = Reply(b'{"error":{"message":"Incorrect API key"}}', status=401)
        house = {"kind": "openai", "base_url": f"{server.url}/v1", "models": ["m"]}
        providers = {"house": ProviderSettings.model_validate(house)}
        async with stack(tmp_path, providers, router={"probe_idle_ms": 1_000}) as rig:
            async with asyncio.timeout(20):
                await server.probed.wait()
                while (told := await doctor(rig.nats.url, tmp_path)).get("probe of house") is None:
                    pass  # each look takes its three seconds
    level, message = told["probe of house"]
    assert level == "problem"
    assert "correct the key that providers.house names" in message


async def test_on_a_server_that_no_service_ever_used_only_that_is_told(
    nats_server: NatsProcess, tmp_path: Path
):
    told = await doctor(nats_server.url, tmp_path)
    assert told["assets"][0] == "problem"
    assert "the first one that starts does" in told["assets"][1]
    assert "room" not in told


async def test_a_provider_that_refuses_its_key_is_named(tmp_path: Path):
    refusal = Reply(b'{"error":{"message":"Incorrect API key provided"}}', status=401)
    async with serving(refusal) as server:
        house = {"kind": "openai", "base_url": f"{server.url}/v1", "models": ["m"]}
        providers = {"house": ProviderSettings.model_validate(house)}
        async with stack(tmp_path, providers) as rig:
            with pytest.raises(Exception, match="key"):
                await rig.atlas.generate("Hello", model="house/m")
            told = await doctor(rig.nats.url, tmp_path)
    level, message = told["circuit of house"]
    assert (told.status, level) == (1, "problem")
    assert "its key was refused; correct the key that providers.house names" in message


SHIFTED = textwrap.dedent(
    """
    import time
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + 60
    time.time_ns = lambda: _time_ns() + 60_000_000_000
    """
)


async def test_a_service_whose_clock_is_wrong_is_named_with_by_how_much(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    assert bus.is_connected
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    variables = {"PYTHONPATH": str(tmp_path), "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"}
    services = Services(nats_server.url, environment=variables)
    try:
        [router] = await services.start(["provider_router"])
        told = await doctor(nats_server.url, tmp_path)
    finally:
        await services.stop()
    level, message = told["clocks"]
    assert level == "problem"
    assert re.search(rf"{router.instance} is (59\.\d s|60\.0 s|1 min) ahead.*NTP", message)
    assert "NATS is" not in message


async def test_a_wrong_clock_of_its_own_host_shows_against_the_server(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    assert bus.is_connected
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    told = await doctor(nats_server.url, tmp_path, PYTHONPATH=str(tmp_path))
    assert told["clocks"][0] == "problem"
    assert re.search(r"NATS is (1 min|6\d\.\d s|59\.\d s) behind", told["clocks"][1])


async def test_clocks_that_agree_are_well(bus: Bus, nats_server: NatsProcess, tmp_path: Path):
    assert bus.is_connected
    assert (await doctor(nats_server.url, tmp_path))["clocks"][0] == "ok"


async def test_work_that_no_worker_can_do_is_named_by_its_capability(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    for number in range(3):
        await bus.store(subjects.work(TENANT, "sing", "normal"), b"%d" % number)
    told = await doctor(nats_server.url, tmp_path)
    level, message = told["capability sing"]
    assert level == "problem"
    assert message.startswith("work waits (3 messages;")
    assert "no running worker has it; start one" in message
    assert "or cancel the tasks that need it" in message
    settings = {"ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"}
    services = Services(nats_server.url, environment=settings)
    try:
        await services.start(["agent_worker"])
        await bus.store(subjects.work(TENANT, "draft", "normal"), b"unreadable, but for a draft")
        told = await doctor(nats_server.url, tmp_path)
    finally:
        await services.stop()
    assert "capability sing" in told
    assert "capability draft" not in told


async def test_a_queue_that_grows_is_named_with_how_long_its_oldest_waits(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    async def submit() -> None:
        number = 0
        while True:
            number += 1
            await bus.store(subjects.task_submit(TENANT, f"t{number}"), b'{"goal": "x"}')
            await asyncio.sleep(0.05)

    submitting = asyncio.create_task(submit())
    told = await doctor(nats_server.url, tmp_path)
    submitting.cancel()
    level, message = told["queue ATLAS_SUBMITS/controllers"]
    assert level == "warning"
    assert re.search(
        r"^\d+ wait, \d+ more than \d\.\d s ago, the oldest for [^;]+; .*start more controllers",
        message,
    )


async def test_a_queue_that_does_not_grow_is_no_news(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    await bus.store(subjects.task_submit(TENANT, "t1"), b'{"goal": "x"}')
    told = await doctor(nats_server.url, tmp_path)
    assert told["queues"][0] == "ok"


async def test_dead_letters_are_counted_and_the_last_is_told(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    letter = DeadLetter(
        kind="submit",
        id="t1",
        subject=subjects.task_submit(TENANT, "t1"),
        at_ms=now_ms(),
        error=InvalidRequestError("goal: missing").to_info(),
        payload_base64="",
    )
    await bus.store(subjects.dead(TENANT, "submit", "t1"), letter.to_json())
    level, message = (await doctor(nats_server.url, tmp_path))["dead letters"]
    assert level == "warning"
    assert message.startswith("1 in ATLAS_DEAD. The last, submit t1: goal: missing.")


async def test_a_service_of_another_version_is_named(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    with warnings.catch_warnings():  # nats.micro 2.11 says utcnow() when it is made
        warnings.simplefilter("ignore", DeprecationWarning)
        service = await micro.add_service(
            bus.nats, name="provider-router", version="9.9.9", metadata={"instance": "far-1"}
        )
    told = await doctor(nats_server.url, tmp_path)
    await service.stop()
    assert told["versions"][0] == "warning"
    assert re.search(r"this is [\d.]+, and far-1 is 9\.9\.9; two releases", told["versions"][1])


async def test_an_account_that_is_nearly_full_is_told_with_what_to_do(tmp_path: Path):
    async with limited(tmp_path) as one:
        for number in range(9):
            await one.bus.store(subjects.task_write(TENANT, "t1"), b"%d" % number * 500_000)
        await one.rebound(account="5MB")
        level, message = (await doctor(one.server.url, tmp_path, **SMALL_VARIABLES))["room"]
        assert level in {"warning", "problem"}
        assert re.search(r"\d\d% of the 5 MB of this JetStream account .*raise `max_file`", message)


async def test_a_server_that_stores_nothing_any_more_is_a_problem(tmp_path: Path):
    async with limited(tmp_path) as one:
        for number in range(4):
            await one.bus.store(subjects.task_write(TENANT, "t1"), b"%d" % number * 500_000)
        await one.rebound(store="1MB")
        told = await doctor(one.server.url, tmp_path, **SMALL_VARIABLES)
        level, message = told["room"]
        assert (told.status, level) == (1, "problem")
        assert "insufficient resources" in message
        assert "max_file_store" in message
        assert told["assets"][0] == "ok"


async def test_a_door_that_is_nearly_full_is_told_before_it_refuses(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    config = (await bus.jetstream.stream_info(subjects.SUBMITS)).config
    await bus.jetstream.update_stream(config, max_msgs=10)
    for number in range(9):
        await bus.store(subjects.task_submit(TENANT, f"t{number}"), b'{"goal": "x"}')
    told = await doctor(nats_server.url, tmp_path, ATLAS_TOPOLOGY__MAX_SUBMISSIONS="10")
    assert told["room"][0] == "warning"
    assert "ATLAS_SUBMITS is 90% full, and refuses more when it is" in told["room"][1]


async def test_parts_of_objects_that_fill_their_stream_are_told_with_when_they_go(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    config = (await bus.jetstream.stream_info(subjects.UPLOADS)).config
    most = config.max_msgs or 0
    for number in range(most - most // 20):
        await bus.publish(subjects.upload(TENANT, "lake", number), b"x")
    await bus.store(subjects.upload(TENANT, "lake", "last"), b"x")
    level, told = (await doctor(nats_server.url, tmp_path))["room"]
    assert level in {"warning", "problem"}
    assert "ATLAS_UPLOADS is 95% full, and refuses more when it is: objects wait for" in told
