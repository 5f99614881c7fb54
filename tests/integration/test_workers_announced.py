"""Workers tell that they are there, how busy they are, and their end: each end once."""

import asyncio
import json
import os
import signal

import pytest
from nats.aio.subscription import Subscription

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.events import Event
from atlas.embedded import ServiceProcess
from tests.support.answering import routing
from tests.support.running import services
from tests.support.subtasks import result_of, send, work
from tests.support.tasks import User, controller, working
from tests.support.workers import at_work, processes
from tests.support.workers import worker as built_in_worker

_LATE_S = 6.0
"""Longer than each further controller waits: a second event would have come."""


async def _next(sub: Subscription, timeout_s: float = 20) -> Event:
    return Event.model_validate_json((await sub.next_msg(timeout=timeout_s)).data)


async def _listening(bus: Bus, type_: str) -> Subscription:
    sub = await bus.open(subjects.events_of("default", "*", type_))
    await bus.flush()
    return sub


async def _heard_of(bus: Bus, instance: str) -> None:
    """Until the controllers that were ready before have heard a worker too."""
    health = await _listening(bus, "service.health")
    while (await _next(health)).data["instance"] != instance:
        pass
    await health.unsubscribe()


@pytest.mark.timeout(90)
async def test_a_worker_that_is_killed_is_told_to_be_gone_once_by_one_of_many_controllers(
    bus, nats_server
):
    gone = await _listening(bus, "worker.gone")
    names = ["agent_controller"] * 3
    async with services(nats_server.url, *names, "agent_worker", "agent_worker") as all_:
        workers = [one for one in all_.running if one.name == "agent_worker"]
        for one in workers:
            await _heard_of(bus, one.instance)
        await all_.kill(workers[0].pid)
        event = await _next(gone)
        assert event.source == "agent_controller"
        assert (event.data["worker"], event.data["reason"]) == (workers[0].instance, "silent")
        with pytest.raises(TimeoutError):
            await _next(gone, _LATE_S)


@pytest.mark.timeout(90)
async def test_a_controller_killed_with_the_worker_leaves_the_telling_to_another(bus, nats_server):
    gone = await _listening(bus, "worker.gone")
    async with services(nats_server.url, *["agent_controller"] * 2, "agent_worker") as all_:
        first = min((one for one in all_.running if one.name == "agent_controller"), key=_name)
        worker = next(one for one in all_.running if one.name == "agent_worker")
        await _heard_of(bus, worker.instance)
        await all_.kill(first.pid)
        await all_.kill(worker.pid)
        event = await _next(gone)
        assert event.data["worker"] == worker.instance
        assert event.data["instance"] != first.instance
        with pytest.raises(TimeoutError):
            await _next(gone, _LATE_S)


def _name(one: ServiceProcess) -> str:
    return one.instance


async def test_a_worker_that_drains_tells_its_end_itself_and_nobody_else(bus, nats_server):
    gone = await _listening(bus, "worker.gone")
    async with services(nats_server.url, "agent_controller", "agent_worker") as all_:
        worker = next(one for one in all_.running if one.name == "agent_worker")
        await _heard_of(bus, worker.instance)
        os.kill(worker.pid, signal.SIGTERM)
        event = await _next(gone)
        assert (event.source, event.data["worker"]) == ("agent_worker", worker.instance)
        assert event.data["reason"] == "stopped"
        with pytest.raises(TimeoutError):
            await _next(gone, _LATE_S)


@pytest.mark.timeout(90)
async def test_a_worker_that_was_only_asleep_registers_again(bus, nats_server):
    gone = await _listening(bus, "worker.gone")
    async with services(nats_server.url, "agent_controller", "agent_worker") as all_:
        worker = next(one for one in all_.running if one.name == "agent_worker")
        await _heard_of(bus, worker.instance)
        registered = await _listening(bus, "worker.registered")
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            assert (await _next(gone)).data["worker"] == worker.instance
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        assert (await _next(registered)).data["worker"] == worker.instance


async def test_a_workers_health_tells_its_load_by_capability(bus, nats_server):
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def translate(_given, _ctx):
        begun.set()
        await go_on.wait()
        return "x"

    async with at_work(nats_server.url, translate, concurrency=3) as app:
        idle = app.health()
        assert (idle["running"], idle["free"], idle["load"]) == (0, 3, {})
        await send(bus, work())
        async with asyncio.timeout(10):
            await begun.wait()
        busy = app.health()
        assert (busy["running"], busy["free"], busy["load"]) == (1, 2, {"translate": 1})
        go_on.set()
        await result_of(bus, work())
    assert (app.desk.running, dict(app.desk.load)) == (0, {})


async def test_a_model_that_plans_is_told_how_good_a_worker_is_and_what_it_does(
    bus, nats_server, tmp_path
):
    asked = []

    def say(request):
        if request.response_format is None:
            return "x"
        asked.append(request.messages[0].content)
        step = {"id": "a", "capability": "translate", "instruction": "do it", "depends_on": []}
        return json.dumps({"subtasks": [step]})

    user = User(bus)
    health = await bus.open(subjects.events_of("default", "agent_worker", "service.health"))
    await bus.flush()
    offer = 'level="strong", description="Into any language of Europe."'
    async with (
        routing(bus, say),
        controller(nats_server.url),
        built_in_worker(nats_server.url),
        processes(nats_server.url, tmp_path, offer=offer),
    ):
        while (await _next(health)).data["capabilities"] != ["translate"]:
            pass
        status = await user.end(await user.submit("a poem"))
    assert status.output == "x"
    assert "- translate: strong; Into any language of Europe." in asked[0]
    assert "- draft:" not in asked[0]


async def test_a_controller_that_just_began_plans_with_the_workers_that_spoke_before_it(
    bus, nats_server
):
    def do(subtask) -> object:
        if subtask.capability != "planning":
            return "a poem"
        step = {"id": "a", "capability": "translate", "instruction": "do it", "depends_on": []}
        return {"subtasks": [step]}

    for worker, state in (("w1", "ready"), ("w2", "stopped")):
        said = {"instance": worker, "state": state, "capabilities": ["translate"]}
        health = Event(type="service.health", source="agent_worker", at_ms=now_ms(), data=said)
        subject = subjects.event("default", "agent_worker", "service.health")
        await bus.store(subject, health.to_json())
    user = User(bus)
    async with (
        controller(nats_server.url),
        working(bus, do, capabilities=("planning", "translate")) as answering,
    ):
        task_id = await user.submit("a poem")
        status = await user.end(task_id)
        planned = [one for one in await user.log(task_id) if one.type == "task.planned"]
    assert status.output == "a poem"
    assert planned[0].planner == "model"
    assert [one.subtask_id for one in answering.seen] == ["plan", "a"]
    assert "translate" in answering.seen[0].instruction
