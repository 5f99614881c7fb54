"""Every user against every subject, and the ways around subjects, on a real server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from atlas import access, access_folder, subjects, topology
from atlas.access import Role
from atlas.bus import Bus
from atlas.contracts.errors import (
    AtlasError,
    ConnectionFailedError,
    NoResponderError,
    RequestTimeoutError,
    StoreRefusedError,
)
from atlas.nats_settings import NatsSettings
from tests.integration import cli_process
from tests.support.access import ASSETS, OTHER, TENANT, Installation

ROUTER, CONTROLLER, WORKER = "provider_router", "agent_controller", "agent_worker"
OPERATOR, PUBLISHER, WATCHER = "operator", f"{TENANT}-publisher", f"{TENANT}-watcher"
USERS = (ROUTER, CONTROLLER, WORKER, OPERATOR, PUBLISHER, WATCHER)
TENANTS = {PUBLISHER, WATCHER}
SERVICES = {ROUTER, CONTROLLER, WORKER}

# Who may publish on a subject of his tenant, and who may hear it; the operator may everything.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    subjects.API_GENERATE_ALL: ({PUBLISHER}, {ROUTER}),
    subjects.API_EMBED_ALL: ({PUBLISHER}, {ROUTER}),
    subjects.API_STREAM_HISTORY_ALL: (TENANTS, {ROUTER}),
    subjects.API_STREAM_FEEDBACK_ALL: ({WORKER, PUBLISHER}, {ROUTER}),
    subjects.API_STREAM_DELETE_ALL: ({CONTROLLER, PUBLISHER}, {ROUTER}),
    subjects.API_PROVIDERS_ALL: ({WORKER} | TENANTS, {ROUTER}),
    subjects.API_TASK_SUBMIT_ALL: ({PUBLISHER}, {CONTROLLER}),
    subjects.API_TASK_GET_ALL: (TENANTS, {CONTROLLER}),
    subjects.API_TASK_LIST_ALL: (TENANTS, {CONTROLLER}),
    subjects.API_TASK_HISTORY_ALL: (TENANTS, {CONTROLLER}),
    subjects.API_TASK_DELETE_ALL: ({PUBLISHER}, {CONTROLLER}),
    subjects.API_OBJECT_GET_ALL: (TENANTS, {CONTROLLER}),
    subjects.API_OBJECT_PUT_ALL: ({PUBLISHER}, {CONTROLLER}),
    subjects.lane_requests("interactive"): ({ROUTER, WORKER, PUBLISHER}, set()),
    subjects.lane_requests("batch"): ({WORKER, PUBLISHER}, set()),
    subjects.STREAM_OWNER_ALL: ({ROUTER}, set()),
    subjects.STREAM_WRITE_ALL: ({ROUTER}, set()),
    subjects.stream_chunk("*", "*"): (set(), {ROUTER, WORKER} | TENANTS),
    subjects.STREAM_CONTROL_ALL: ({*SERVICES, PUBLISHER}, {ROUTER}),
    subjects.TASK_SUBMIT_ALL: ({CONTROLLER, PUBLISHER}, set()),
    subjects.TASK_WRITE_ALL: ({CONTROLLER}, set()),
    subjects.task_log("*", "*"): (set(), {WORKER} | TENANTS),
    subjects.TASK_CONTROL_ALL: ({PUBLISHER}, {CONTROLLER}),
    subjects.WORK_ALL: ({CONTROLLER}, {WORKER}),
    subjects.REPORT_ALL: ({WORKER}, set()),
    subjects.RESULT_ALL: ({WORKER}, set()),
    subjects.event("*", ROUTER, "stream.started"): ({ROUTER}, TENANTS),
    subjects.event("*", ROUTER, "service.health"): ({ROUTER}, {ROUTER} | TENANTS),
    subjects.event("*", ROUTER, "stream.feedback"): ({ROUTER}, {ROUTER} | TENANTS),
    subjects.event("*", CONTROLLER, "service.health"): ({CONTROLLER}, {CONTROLLER} | TENANTS),
    subjects.event("*", CONTROLLER, "worker.gone"): (
        {CONTROLLER},
        {CONTROLLER, WORKER} | TENANTS,
    ),
    subjects.event("*", WORKER, "worker.gone"): ({WORKER}, {CONTROLLER} | TENANTS),
    subjects.event("*", CONTROLLER, "task.rejected"): ({CONTROLLER}, TENANTS),
    subjects.event("*", WORKER, "service.health"): ({WORKER}, {CONTROLLER} | TENANTS),
    subjects.dead("*", "request", "*"): ({ROUTER}, set()),
    subjects.dead("*", "submit", "*"): ({CONTROLLER}, set()),
    subjects.dead("*", "report", "*"): ({CONTROLLER}, set()),
    subjects.dead("*", "work", "*"): ({WORKER}, set()),
    subjects.BUDGET_ALL: ({ROUTER}, set()),
    subjects.USAGE_ALL: ({ROUTER}, set()),
    subjects.RESERVATION_ALL: ({ROUTER}, set()),
    subjects.UPLOAD_ALL: ({CONTROLLER}, set()),
}
# The same of subjects that belong to no tenant.
COMMON: dict[str, tuple[set[str], set[str]]] = {
    subjects.bucket_key(subjects.CIRCUITS, "openai"): ({ROUTER}, {ROUTER}),
    subjects.bucket_key(subjects.OPEN_TASKS, "acme.t1"): ({CONTROLLER}, set()),
    subjects.object_chunks(subjects.OBJECTS, "o1"): ({CONTROLLER, WORKER}, set()),
    subjects.object_meta(subjects.OBJECTS, "bmFtZQ=="): ({CONTROLLER, WORKER}, set()),
    subjects.jetstream("INFO"): (SERVICES, set()),
    subjects.jetstream("STREAM.LIST"): (set(), set()),
    subjects.jetstream("STREAM.NAMES"): (set(), set()),
    subjects.jetstream("STREAM.CREATE", "THEIRS"): (set(), set()),
    subjects.jetstream("STREAM.UPDATE", subjects.TASKS): (set(), set()),
    subjects.jetstream("STREAM.DELETE", "THEIRS"): (set(), set()),
    subjects.jetstream("STREAM.PURGE", subjects.TASKS): ({CONTROLLER}, set()),
    subjects.jetstream("STREAM.SNAPSHOT", subjects.TASKS): (set(), set()),
    subjects.jetstream("STREAM.RESTORE", "THEIRS"): (set(), set()),
    subjects.jetstream("STREAM.MSG.GET", subjects.TASKS): (set(), set()),
    subjects.jetstream("STREAM.MSG.DELETE", subjects.TASKS): (set(), set()),
    subjects.jetstream("STREAM.MSG.DELETE", subjects.RESERVATIONS): ({ROUTER}, set()),
    subjects.jetstream("STREAM.INFO", subjects.TASKS): (SERVICES, set()),
    subjects.jetstream("DIRECT.GET", subjects.TASKS): ({CONTROLLER, WORKER}, set()),
    subjects.jetstream("DIRECT.GET", subjects.STREAMS): ({ROUTER, WORKER}, set()),
    subjects.jetstream("DIRECT.GET", subjects.BUDGETS): ({ROUTER}, set()),
    subjects.jetstream("DIRECT.GET", subjects.DEAD): ({CONTROLLER}, set()),
    subjects.jetstream("DIRECT.GET", subjects.EVENTS): ({CONTROLLER}, set()),
    subjects.jetstream("DIRECT.GET", subjects.objects_stream(subjects.OBJECTS)): (SERVICES, set()),
    subjects.jetstream("CONSUMER.CREATE", subjects.TASKS): (set(), set()),
    subjects.jetstream("CONSUMER.CREATE", subjects.TASKS, "mine", ">"): (set(), set()),
    subjects.jetstream("CONSUMER.DURABLE.CREATE", subjects.TASKS, "mine"): (set(), set()),
    subjects.jetstream("CONSUMER.INFO", subjects.WORK, "workers-code-high"): ({CONTROLLER}, set()),
    subjects.jetstream("CONSUMER.LIST", subjects.REQUESTS): ({ROUTER}, set()),
    subjects.jetstream("CONSUMER.LIST", subjects.WORK): ({CONTROLLER}, set()),
    subjects.jetstream("CONSUMER.LIST", subjects.STREAMS): (set(), set()),
    subjects.jetstream("CONSUMER.DELETE", subjects.REPORTS, "controllers"): (set(), set()),
    subjects.jetstream("CONSUMER.MSG.NEXT", subjects.SUBMITS, "controllers"): (
        {CONTROLLER},
        set(),
    ),
    subjects.jetstream("CONSUMER.MSG.NEXT", subjects.WORK, "workers-code-high"): (
        {WORKER},
        set(),
    ),
    "$JS.ACK.ATLAS_SUBMITS.controllers.1.1.1.1.0": ({CONTROLLER}, set()),
    "$JS.ACK.ATLAS_WORK.workers-code-high.1.1.1.1.0": ({WORKER}, set()),
    "$JS.FC.ATLAS_TASKS.x.y": (set(), set()),
    subjects.service_verb("PING"): (set(), SERVICES),
    subjects.service_verb("PING", "agent-worker"): ({WORKER}, {WORKER}),
    subjects.service_verb("INFO", "provider-router", "x"): (set(), {ROUTER}),
    subjects.service_verb("STATS", "agent-worker"): (set(), {WORKER}),
    "$SYS.REQ.SERVER.PING": (set(), set()),
    "_INBOX.operator.operator.x": (SERVICES, set()),
    "_INBOX.agent_worker.agent_worker.x": ({ROUTER, WORKER}, {WORKER}),
    "_INBOX.agent_controller.agent_controller.x": ({ROUTER, CONTROLLER}, {CONTROLLER}),
    "_INBOX.provider_router.provider_router.x": ({ROUTER}, {ROUTER}),
    f"_INBOX.{TENANT}.{PUBLISHER}.x": (set(), {PUBLISHER}),
    f"_INBOX.{TENANT}.{WATCHER}.x": (set(), {WATCHER}),
    f"_INBOX.{OTHER}.{OTHER}-publisher.x": (set(), set()),
    "_INBOX.x": (set(), set()),
    "_R_.x.y": ({ROUTER, CONTROLLER}, set()),
    "theirs": (set(), set()),
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose server runs and has all assets, and no service."""
    made = Installation.made(tmp_path_factory.mktemp("installation"))
    asyncio.run(_prepare(made))
    yield made
    asyncio.run(made.stop())


async def _prepare(installation: Installation) -> None:
    await installation.server.start()
    async with installation.bus(OPERATOR) as bus:
        await topology.ensure(bus, ASSETS)


@asynccontextmanager
async def refusals(installation: Installation, user: str) -> AsyncIterator[tuple[Client, set[str]]]:
    """A bare connection as a user, and what the server refuses to it."""
    refused: set[str] = set()

    async def hear(error: Exception) -> None:
        refused.add(str(error).split('"')[1])

    settings = installation.settings(user)
    client = await nats.connect(
        settings.url,
        nkeys_seed=str(settings.nkey_seed_file),
        inbox_prefix=settings.inbox_prefix,
        error_cb=hear,
        allow_reconnect=False,
    )
    try:
        yield client, refused
    finally:
        await client.close()


async def settled(client: Client) -> None:
    """Wait until the server has answered all; a first PING overtakes what is still buffered."""
    await client.flush()
    await client.flush()


def _wrong(expected: dict[str, bool], refused: set[str]) -> set[str]:
    """The subjects whose refusal, or whose lack of it, is not as the table says."""
    return {
        f"{subject} is {'allowed' if subject.lower() not in refused else 'refused'}"
        for subject, is_allowed in expected.items()
        if is_allowed == (subject.lower() in refused)
    }


def literal(pattern: str, tenant: str) -> str:
    """A subject of a wildcard, of one tenant."""
    return subjects.of_tenant(pattern, tenant).replace("*", "x1").replace(">", "y.z")


def rows(user: str, place: int) -> dict[str, bool]:
    """Each subject, with whether a user may publish on it (0) or hear it (1)."""
    allowed = {
        literal(pattern, TENANT): user in who[place] or user == OPERATOR
        for pattern, who in (TABLE | COMMON).items()
    }
    others = {
        literal(pattern, OTHER): (user in who[place] and user not in TENANTS) or user == OPERATOR
        for pattern, who in TABLE.items()
    }
    return allowed | others


@pytest.mark.parametrize("user", USERS)
async def test_a_user_publishes_where_the_table_says_and_nowhere_else(
    installation: Installation, user: str
) -> None:
    expected = rows(user, 0)
    # A system subject and a JetStream call with a body of nothing do nothing, whoever may send it.
    async with refusals(installation, user) as (client, refused):
        for subject in expected:
            await client.publish(subject, b"")
        await settled(client)
    assert _wrong(expected, refused) == set()


@pytest.mark.parametrize("user", USERS)
async def test_a_user_hears_what_the_table_says_and_nothing_else(
    installation: Installation, user: str
) -> None:
    expected = rows(user, 1)
    async with refusals(installation, user) as (client, refused):
        for subject in expected:
            await client.subscribe(subject)
        await settled(client)
    assert _wrong(expected, refused) == set()


def test_the_table_knows_every_subject_that_there_is() -> None:
    known = {literal(pattern, TENANT) for pattern in TABLE}
    wildcards = {
        name: literal(value, TENANT)
        for name, value in vars(subjects).items()
        if name.endswith("_ALL")
    }
    missing = [
        name
        for name, value in wildcards.items()
        if value not in known and name not in {"EVENT_ALL", "DEAD_ALL"}  # kinds of them are there
    ]
    assert missing == [], f"say in TABLE who may use {missing}, and let access.py allow it"


@pytest.mark.parametrize("wildcard", [">", "atlas.>", "atlas.*.task.*.log", "_INBOX.>", "$JS.>"])
@pytest.mark.parametrize("user", sorted(TENANTS))
async def test_a_tenant_hears_nothing_of_others_by_a_wildcard(
    installation: Installation, user: str, wildcard: str
) -> None:
    async with refusals(installation, user) as (client, refused):
        await client.subscribe(wildcard)
        await settled(client)
    assert refused == {wildcard.lower()}


async def test_nobody_connects_without_a_user(installation: Installation) -> None:
    settings = NatsSettings(url=installation.server.url, connect_timeout_ms=2_000)
    with pytest.raises(ConnectionFailedError, match="refuses a client that shows no user"):
        await Bus.connect(settings, "anonymous")


async def test_a_user_that_was_removed_connects_no_more(
    installation: Installation, tmp_path: Path
) -> None:
    stranger = Installation.made(tmp_path)
    settings = stranger.settings(PUBLISHER).model_copy(
        update={"url": installation.server.url, "connect_timeout_ms": 2_000}
    )
    with pytest.raises(ConnectionFailedError, match=r"refuses the user of .*user\.nk"):
        await Bus.connect(settings, "stranger")


def _schedule() -> dict[str, str]:
    return {
        "Nats-Schedule": "@at " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time())),
        "Nats-Schedule-Target": subjects.task_write(OTHER, "x1"),
    }


FORGED: dict[str, dict[str, str]] = {
    "a schedule into another tenant's log": _schedule(),
    "a schedule into one's own log": {
        **_schedule(),
        "Nats-Schedule-Target": subjects.task_write(TENANT, "x1"),
    },
    "a batch": {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
    "a time to live": {"Nats-TTL": "1s"},
    "a roll-up of the whole stream": {"Nats-Rollup": "all"},
    "an increment": {"Nats-Incr": "+1"},
    "an expected sequence of the stream": {"Nats-Expected-Last-Sequence": "4711"},
    "an expected sequence of its subject": {"Nats-Expected-Last-Subject-Sequence": "4711"},
    "an expected sequence of another's subject": {
        "Nats-Expected-Last-Subject-Sequence": "4711",
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.task_submit(OTHER, "x1"),
    },
    "another stream": {"Nats-Expected-Stream": subjects.TASKS},
}


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize(
    "door", [subjects.task_submit(TENANT, "t1"), subjects.stream_request(TENANT, "s1")]
)
async def test_a_forged_header_at_a_durable_door_stores_nothing(
    installation: Installation, door: str, what: str
) -> None:
    async with installation.bus(PUBLISHER) as bus, installation.bus(OPERATOR) as operator:
        before = await _stored(operator)
        with pytest.raises(StoreRefusedError):
            await bus.store(door, b"{}", headers=FORGED[what])
        await asyncio.sleep(0.05)  # a schedule that was taken would fire at once
        assert await _stored(operator) == before


@pytest.mark.parametrize("headers", [{}, *FORGED.values()], ids=["nothing forged", *FORGED])
async def test_a_control_reaches_no_stream_but_that_of_controls(
    installation: Installation, headers: dict[str, str]
) -> None:
    async with installation.bus(PUBLISHER) as bus, installation.bus(OPERATOR) as operator:
        before = await _stored(operator)
        await bus.publish(subjects.stream_control(TENANT, "s1"), b"{}", headers=headers)
        await bus.flush()
        after = await _stored(operator)
    assert after | {subjects.CONTROL: 0} == before | {subjects.CONTROL: 0}


REPLIES = (
    subjects.task_write(OTHER, "x1"),
    subjects.task_write(TENANT, "x1"),
    subjects.stream_write(OTHER, "x1"),
    subjects.stream_chunk(OTHER, "x1"),
    subjects.event(OTHER, ROUTER, "stream.started"),
    subjects.bucket_key(subjects.CIRCUITS, "openai"),
    subjects.jetstream("STREAM.DELETE", subjects.TASKS),
    f"_INBOX.{OTHER}.{OTHER}-publisher.x",
)


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize(
    "door",
    [
        subjects.task_submit(TENANT, "t1"),
        subjects.stream_request(TENANT, "s1"),
        subjects.stream_control(TENANT, "s1"),
        subjects.api(TENANT, "generate"),
    ],
)
async def test_an_answer_goes_to_nobody_else_whatever_reply_subject_is_named(
    installation: Installation, door: str, reply: str
) -> None:
    """Also where JetStream itself answers: the reply subject means nothing outside the account."""
    async with (
        installation.bus(PUBLISHER) as bus,
        installation.bus(OPERATOR) as operator,
        installation.bus(f"{OTHER}-publisher") as other,
    ):
        heard = await operator.open(reply)
        inbox = await other.open(f"_INBOX.{OTHER}.{OTHER}-publisher.>")
        served = await operator.subscribe(subjects.API_GENERATE_ALL, _answer)
        await asyncio.gather(operator.flush(), other.flush())
        before = await _stored(operator)
        await bus.publish(door, b"{}", reply=reply)
        await bus.flush()
        await operator.flush()
        after = await _stored(operator)
        doors = {subjects.SUBMITS: 0, subjects.REQUESTS: 0, subjects.CONTROL: 0}
        assert after | doors == before | doors
        assert (heard.pending_msgs, inbox.pending_msgs) == (0, 0)
        await served.unsubscribe()


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("DIRECT.GET.ATLAS_TASKS", {"last_by_subj": subjects.task_write(OTHER, "x1")}),
        ("DIRECT.GET.ATLAS_TASKS." + subjects.task_write(TENANT, "x1"), {}),
        ("STREAM.MSG.GET.ATLAS_TASKS", {"seq": 1}),
        (
            "CONSUMER.CREATE.ATLAS_TASKS",
            {
                "stream_name": subjects.TASKS,
                "config": {"deliver_subject": f"_INBOX.{TENANT}.{PUBLISHER}.x"},
            },
        ),
        (
            "CONSUMER.CREATE.ATLAS_SUBMITS",
            {
                "stream_name": subjects.SUBMITS,
                "config": {"deliver_subject": subjects.task_write(OTHER, "x1")},
            },
        ),
    ],
    ids=["direct get", "direct get by subject", "get", "push consumer", "push to others"],
)
@pytest.mark.parametrize("user", sorted(TENANTS))
async def test_jetstream_is_not_there_for_a_tenant(
    installation: Installation, user: str, call: str, body: dict[str, object]
) -> None:
    async with installation.bus(user) as bus:
        with pytest.raises((NoResponderError, RequestTimeoutError)):
            await bus.ask(f"$JS.API.{call}", json.dumps(body).encode(), timeout_s=0.3)


@pytest.mark.parametrize("user", sorted(TENANTS))
async def test_a_tenant_is_told_at_once_that_no_service_runs(
    installation: Installation, user: str
) -> None:
    async with installation.bus(user) as bus:
        with pytest.raises(NoResponderError, match="is the service for it running"):
            await bus.ask(subjects.api(TENANT, "stream.history"), b"{}")


@pytest.mark.parametrize("command", ["doctor", "admin assets"])
async def test_a_tenant_that_asks_what_operators_ask_is_told_who_may(
    installation: Installation, tmp_path: Path, command: str
) -> None:
    refused = await cli_process.atlas(
        *command.split(),
        nats_url=installation.server.url,
        cwd=tmp_path,
        settings=installation.environment(PUBLISHER),
    )
    assert (refused.status, refused.out) == (2, "")
    assert "the role `operator` of `atlas access`" in refused.err.splitlines()[-1]


async def test_what_a_tenant_publishes_on_live_subjects_reaches_nobody(
    installation: Installation,
) -> None:
    async with installation.bus(PUBLISHER) as bus, installation.bus(WATCHER) as watcher:
        heard = await watcher.open(subjects.stream_chunk(TENANT, "s1"))
        await watcher.flush()
        for reply in ("", subjects.stream_chunk(TENANT, "s1")):
            await bus.publish(subjects.stream_chunk(TENANT, "s1"), b"forged", reply=reply)
            await bus.publish(subjects.task_submit(TENANT, "t2"), b"{}", reply=reply)
        await bus.flush()
        await watcher.flush()
        assert heard.pending_msgs == 0


async def test_a_worker_of_some_capabilities_takes_no_other_work(
    installation: Installation,
) -> None:
    user = access.User("coder", Role.AGENT_WORKER, capabilities=("code",))
    access_folder.add(installation.folder, user, url="nats://unused:1")
    await installation.server.stop()
    await installation.server.start()
    async with refusals(installation, "coder") as (client, refused):
        for capability in ("code", "research"):
            call = subjects.jetstream(
                "CONSUMER.MSG.NEXT", subjects.WORK, subjects.work_consumer(capability, "high")
            )
            await client.publish(call, b"")
            await client.subscribe(subjects.capability_work(capability, "*"))
        await settled(client)
    assert refused == {
        "$js.api.consumer.msg.next.atlas_work.workers-research-high",
        "atlas.*.work.research.*",
    }


async def _answer(msg: Msg) -> None:
    await msg.respond(b"an answer")


async def _stored(bus: Bus) -> dict[str, int]:
    """How many messages each stream holds."""
    held = {}
    for one in topology.Topology(ASSETS).expected():
        try:
            held[one.name] = (await bus.jetstream.stream_info(one.name)).state.last_seq
        except AtlasError as error:
            raise AssertionError(f"{one.name}: {error}") from error
    return held
