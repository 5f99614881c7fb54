"""All of Atlas under its own users: everything works, nothing is refused or to spare."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atlas import access_folder, subjects
from atlas.access import assets, permissions
from atlas.client import Atlas
from atlas.contracts.errors import AtlasError, OverloadedError
from atlas.contracts.ids import new_id
from atlas.contracts.work import Subtask
from atlas.objects import Objects
from atlas.process import open_context
from atlas.settings import Settings, TopologySettings
from atlas.worker import WorkContext, Worker
from tests.support.access import OTHER, TENANT, Installation

PUBLISHER, WATCHER, OPERATOR = f"{TENANT}-publisher", f"{TENANT}-watcher", "operator"
SERVICES = ("provider_router", "agent_controller", "agent_worker")
PATIENCE_S = 60
MUCH = "äx" * 500_000
"""More than NATS takes in a message."""
CONFIGURATION = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_HEALTH_INTERVAL_MS": "500",
    "ATLAS_MONITORING__PORT": "0",
    "ATLAS_ROUTER__DEFAULT_MODEL": "mock/standard",
    "ATLAS_WORKER__MODEL": "mock/standard",
    "ATLAS_BUDGETS__TENANTS": json.dumps({TENANT: {"day": {"max_tokens": 10_000_000}}}),
    "ATLAS_PROVIDERS": json.dumps(
        {
            "mock": {
                "kind": "mock",
                "models": [{"name": "standard"}],
                "mock": {"token_ms": 5},
            },
            "down": {
                "kind": "openai",
                "base_url": "http://127.0.0.1:9/v1",
                "models": [{"name": "gone"}],
            },
        }
    ),
}

SPARE: dict[str, dict[str, str]] = {
    "provider_router": {
        "_INBOX.agent_worker.*.>": "answers to `api.providers`, which workers without a model of "
        "their settings ask for",
        "atlas.*.stream.*.control": "the end of a pause that is bounded",
    },
    "agent_controller": {
        "$JS.API.DIRECT.GET.ATLAS_CONTROL": "whether a control was kept that no router answered",
        "$JS.API.DIRECT.GET.ATLAS_REPORTS": "the result of work that nobody seems to have taken",
        "atlas.*.dead.report.*": "a report that nobody can read",
        "$JS.API.STREAM.MSG.DELETE.ATLAS_WORK": "work of a deleted task that nobody took",
        "$JS.API.STREAM.MSG.DELETE.ATLAS_DEAD": "letters on a deleted task",
    },
    "agent_worker": {
        "atlas.*.api.providers": "which models there are, where the settings name none",
        "atlas.*.api.stream.feedback": "that a model's answer was of no use",
        "atlas.*.stream.*.control": "pauses and ends the further streams of an attempt",
    },
}
"""What a user may do and the run below may do without, with what it is for."""


@dataclass(slots=True)
class Story:
    """What was seen of a run."""

    text: str = ""
    seen_by_the_watcher: str = ""
    log_versions: list[int] = field(default_factory=list)
    task_output: object = None
    large_outputs: list[object] = field(default_factory=list)
    told_to_another: str = ""
    of_a_picture: str = ""
    states: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    after_the_crash: str = ""
    violations: list[str] = field(default_factory=list)
    used: dict[str, tuple[set[str], set[str]]] = field(default_factory=dict)
    service_logs: str = ""
    refused_to_the_watcher: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A server that writes down what each user does."""
    made = Installation.made(tmp_path_factory.mktemp("run"), extra=("--trace",))
    made.variables.update(CONFIGURATION)
    return made


@pytest.fixture(scope="module")
def story(installation: Installation) -> Iterator[Story]:
    """One run of everything."""
    told = Story()
    try:
        asyncio.run(_live(installation, told))
        yield told
    finally:
        asyncio.run(installation.stop())


@asynccontextmanager
async def as_user(
    installation: Installation, user: str, tenant: str = TENANT
) -> AsyncIterator[Atlas]:
    """A client of a tenant."""
    settings = Settings(nats=installation.settings(user), tenant=tenant)
    async with Atlas.connect(settings=settings) as atlas:
        yield atlas


async def _live(installation: Installation, told: Story) -> None:
    await installation.server.start()
    for name in SERVICES:
        await installation.start_service(name)
    async with (
        asyncio.timeout(4 * PATIENCE_S),
        as_user(installation, PUBLISHER) as publisher,
        as_user(installation, WATCHER) as watcher,
    ):
        await _streams(publisher, watcher, told)
        await _task(publisher, watcher, told)
        await _doors(publisher, told)
        await _dead_letters(installation, told)
        await _large_outputs(installation, publisher, watcher, told)
        await _operate(installation, told)
        await installation.server.kill()
        await installation.server.start()
        told.after_the_crash = await _asked_until_answered(publisher)
    for process in installation.processes.values():
        process.terminate()
    for process in installation.processes.values():
        await asyncio.to_thread(process.wait, PATIENCE_S)
    told.violations = installation.violations()
    told.used = installation.used()
    told.service_logs = "".join(installation.told_by(name) for name in SERVICES)
    async with as_user(installation, WATCHER) as watcher:
        await _meddle(watcher, installation, told)


async def _streams(publisher: Atlas, watcher: Atlas, told: Story) -> None:
    own = new_id()
    async with publisher.stream("Tell me of the lakes of the north.", stream_id=own) as stream:
        seeing = asyncio.create_task(_text_of(watcher, own))
        await anext(aiter(stream))
        for action in ("pause", "resume"):
            told.states.append((await publisher.control_stream(own, action)).state)
        told.text = (await stream.result()).content
        told.seen_by_the_watcher = await seeing
    async with publisher.stream("Something that nobody waits for.") as stream:
        await anext(aiter(stream))
        told.states.append((await publisher.control_stream(stream.stream_id, "cancel")).state)
    with pytest.raises(AtlasError):  # a circuit opens, and the routers tell each other
        await publisher.generate("Is anybody there?", model="down/gone")
    async with publisher.stream("In no hurry.", lane="batch") as stream:
        await stream.result()


async def _text_of(watcher: Atlas, stream_id: str) -> str:
    while True:
        try:
            return (await watcher.stream_result(stream_id)).content
        except AtlasError as error:
            if error.code != "not_found":
                raise
            await asyncio.sleep(0.05)


async def _task(publisher: Atlas, watcher: Atlas, told: Story) -> None:
    task = await publisher.submit("Compare three lakes.", pattern="parallel", approval="plan")
    log = watcher.watch_task(task.task_id)
    async for event in log:
        told.log_versions.append(event.version)
        if event.type == "task.awaiting_approval":
            await publisher.control_task(task.task_id, "approve")
        if event.type == "subtask.started" and len(told.states) == 3:
            for action in ("pause", "resume"):
                told.states.append((await publisher.control_task(task.task_id, action)).state)
    told.task_output = (await publisher.task(task.task_id)).output
    cancelled = await publisher.submit("Not needed.", pattern="single", priority="high")
    async for event in cancelled.events():
        if event.type == "subtask.started":
            await publisher.control_task(cancelled.task_id, "cancel")
    for client in (publisher, watcher):
        assert task.task_id in {one.task_id for one in await client.tasks()}
    await _delete(publisher, cancelled.task_id)


async def _delete(publisher: Atlas, task_id: str) -> None:
    """Delete a task that ended just now: its stream may still be on its way to the end."""
    while True:
        with contextlib.suppress(OverloadedError):
            await publisher.delete_task(task_id)
            return
        await asyncio.sleep(0.1)


async def _doors(publisher: Atlas, told: Story) -> None:
    done = await publisher.generate("Name one river.")
    blamed = json.dumps({"stream_id": done.stream_id, "fault": "malformed"}).encode()
    reply = await publisher._bus.ask(subjects.api(TENANT, "stream.feedback"), blamed)
    assert b"model" in reply.data, reply.data
    await publisher.delete_stream(done.stream_id)
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(anext(publisher.events()))
        while not telling.done():
            await publisher.generate("Name one lake.")
    await publisher.embed(["a lake", "a river"], model="mock/embedding")
    await publisher.providers()
    await publisher.explain("Name one lake.")
    bus = publisher._bus
    for door, body in (
        (subjects.api(TENANT, "task.submit"), {"goal": "Name a river.", "pattern": "single"}),
        (subjects.api(TENANT, "generate"), {"messages": [{"role": "user", "content": "x"}]}),
    ):
        reply = await bus.ask(door, json.dumps(body).encode(), timeout_s=PATIENCE_S)
        assert b'"error"' not in reply.data, reply.data
    told.said["history"] = (
        await bus.ask(subjects.api(TENANT, "task.history"), b'{"task_id": "none"}')
    ).data.decode()


async def _dead_letters(installation: Installation, told: Story) -> None:
    """What nobody can read, at every durable door; the worker's by a controller's mistake."""
    async with installation.bus(OPERATOR) as operator:
        letters = await operator.open(subjects.DEAD_ALL)
        await operator.flush()
        async with installation.bus(PUBLISHER) as bus:
            await bus.store(subjects.task_submit(TENANT, "unreadable"), b"?")
            await bus.store(subjects.stream_request(TENANT, "unreadable"), b"?")
        async with installation.bus("agent_controller") as bus:
            await bus.store(subjects.work(TENANT, "research", "high"), b"?")
        while len(told.dead) < 3:
            letter = await letters.next_msg(timeout=PATIENCE_S)
            told.dead.add(letter.subject.split(".")[3])


async def _large_outputs(
    installation: Installation, publisher: Atlas, watcher: Atlas, told: Story
) -> None:
    """A task whose output fits no message, read by its tenant and not by another one."""
    plan = [
        {"id": "write", "capability": "write-much", "instruction": "Much."},
        {"id": "read", "capability": "write-much", "instruction": "m", "depends_on": ["write"]},
    ]
    async with _writing_much(installation):
        task = await publisher.submit("Write very much.", plan=list(plan))
        end = await task.result()
    ref = str(end.output_ref)
    told.large_outputs = [end.output, await watcher.load(ref)]
    async with as_user(installation, f"{OTHER}-publisher", OTHER) as stranger:
        with pytest.raises(AtlasError) as refusal:
            await stranger.load(ref)
    told.told_to_another = refusal.value.message
    for service in ("agent_worker", "agent_controller"):
        async with installation.bus(service) as bus:
            for text in ("older", "newer"):  # which takes the place of the older one
                await Objects(bus).put(f"{TENANT}.{task.task_id}.{service}", text)
    await publisher.delete_task(task.task_id)
    picture = await publisher.store(b"\x89PNG" * 250_000, media_type="image/png")
    seen = [{"role": "user", "content": [{"type": "image", "object": picture}]}]
    told.of_a_picture = (await publisher.generate(seen)).content


@asynccontextmanager
async def _writing_much(installation: Installation) -> AsyncIterator[None]:
    """A worker of a user's own, with the rights of every worker."""
    worker = Worker()

    @worker.handles("write-much")
    async def write(_: Subtask, ctx: WorkContext) -> str:
        return "".join([*map(str, ctx.inputs.values()), MUCH])

    settings = Settings(topology=TopologySettings(ack_wait_ms=1_000))
    async with installation.bus("agent_worker") as bus:
        opening = open_context("agent_worker", "own", "workers", settings, bus)
        async with opening as context, worker.compose(context) as app:
            yield
            await app.drain()


async def _operate(installation: Installation, told: Story) -> None:
    backup = str(installation.folder / "backup")
    for user, *command in (
        (OPERATOR, "top", "--once"),
        (OPERATOR, "doctor"),
        (OPERATOR, "admin", "assets"),
        (OPERATOR, "admin", "backup", backup),
        (OPERATOR, "task", "list"),
        *((service, "doctor", "--service", service) for service in SERVICES),
        (WATCHER, "task", "list"),
    ):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "atlas.cli", *command],
            env=installation.environment(user) | {"ATLAS_TENANT": TENANT},
            cwd=installation.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        told.statuses[f"{user}: {' '.join(command)}"] = done.returncode
        told.said[command[0]] = done.stdout + done.stderr


async def _asked_until_answered(publisher: Atlas) -> str:
    """A router needs a moment until it is back as well."""
    while True:
        try:
            answer = await publisher.generate("Who is back?", timeout_s=10)
        except AtlasError:
            await asyncio.sleep(0.1)
        else:
            return answer.content


async def _meddle(watcher: Atlas, installation: Installation, told: Story) -> None:
    """What a watcher is refused; it is told at once, by the server."""
    for subject in (
        subjects.task_submit(TENANT, "t9"),
        subjects.task_control(TENANT, "t9"),
        subjects.stream_control(TENANT, "s9"),
        subjects.stream_request(TENANT, "s9"),
        subjects.api(TENANT, "generate"),
        subjects.api(OTHER, "task.list"),
    ):
        await watcher._bus.publish(subject, b"{}")
    await watcher._bus.flush()
    new = installation.violations()[len(told.violations) :]
    told.refused_to_the_watcher = [line.rsplit('"', 2)[1] for line in new]


def test_an_answer_reaches_whoever_asked(story: Story) -> None:
    assert story.text


def test_a_watcher_sees_every_token_of_it(story: Story) -> None:
    assert story.seen_by_the_watcher == story.text


def test_a_watcher_sees_the_log_of_a_task_without_a_gap(story: Story) -> None:
    assert story.log_versions == list(range(1, len(story.log_versions) + 1))


def test_a_task_comes_to_its_result(story: Story) -> None:
    assert story.task_output


def test_streams_and_tasks_are_controlled(story: Story) -> None:
    expected = ["paused", "active", "cancelled", "paused", "running"]
    assert story.states == expected


def test_what_nobody_can_read_becomes_a_dead_letter(story: Story) -> None:
    assert story.dead == {"request", "submit", "work"}


def test_an_output_that_fits_no_message_comes_whole_to_whoever_is_of_its_tenant(
    story: Story,
) -> None:
    assert story.large_outputs == [2 * MUCH, 2 * MUCH]


def test_another_tenant_gets_none_of_it(story: Story) -> None:
    assert "is none of tenant 'umbrella'" in story.told_to_another
    assert story.of_a_picture


def test_an_operator_sees_and_saves_everything(story: Story) -> None:
    assert story.statuses == dict.fromkeys(story.statuses, 0), story.said


def test_after_the_server_was_killed_everything_goes_on(story: Story) -> None:
    assert story.after_the_crash


def test_nothing_was_refused_to_anybody(story: Story) -> None:
    assert story.violations == [], (
        "the server refused what somebody needs: add it to the role in shared/atlas/access.py, "
        "and to the table in tests/integration/test_access.py"
    )


def test_no_service_heard_of_a_refusal(story: Story) -> None:
    assert [line for line in story.service_logs.splitlines() if "nats_refused" in line] == []


def test_a_watcher_changes_nothing(story: Story) -> None:
    assert story.refused_to_the_watcher == [
        "atlas.acme.task.t9.submit",
        "atlas.acme.task.t9.control",
        "atlas.acme.stream.s9.control",
        "atlas.acme.stream.s9.request.interactive",
        "atlas.acme.api.generate",
        "atlas.umbrella.api.task.list",
    ]


@pytest.mark.parametrize("user", [*SERVICES, PUBLISHER])
def test_a_user_may_nothing_that_it_does_not_need(
    installation: Installation, story: Story, user: str
) -> None:
    known = {one.name: one.user for one in access_folder.read(installation.folder)}
    allowed = permissions(known[user])
    published, heard = story.used[user]
    unused = {
        one
        for patterns, used in ((allowed.publish, published), (allowed.subscribe, heard))
        for one in patterns
        if not any(_matches(one, subject) for subject in used)
    }
    if user in SERVICES:  # the first that starts makes the assets, each checks those it finds
        unused -= set(assets())
    assert sorted(unused - set(SPARE.get(user, {}))) == [], (
        "take it out of the role in shared/atlas/access.py, or say in SPARE what it is for"
    )


def _matches(pattern: str, subject: str) -> bool:
    """Whether a permission covers a subject that was used (a subscription may be a wildcard)."""
    asked, given = pattern.split("."), subject.split(".")
    for place, token in enumerate(asked):
        if token == ">":
            return len(given) > place
        if place >= len(given) or (token not in ("*", given[place])):
            return False
    return len(asked) == len(given)


def test_no_seed_is_in_any_log(installation: Installation, story: Story) -> None:
    seeds = [path.read_text().strip() for path in installation.folder.glob("users/*/user.nk")]
    told = story.service_logs + installation.server.log_path.read_text() + str(story.said)
    assert [seed for seed in seeds if seed in told] == []


def test_there_are_logs_to_look_at(story: Story, installation: Installation) -> None:
    assert Path(installation.server.log_path).stat().st_size > 0
    assert '"ready"' in story.service_logs or "ready" in story.service_logs
