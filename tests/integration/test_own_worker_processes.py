"""Workers of one's own as processes: planned with, stopped, and killed without a word."""

import asyncio
import json
import signal

from atlas import subjects
from tests.support.answering import USAGE, routing
from tests.support.subtasks import result_of, send, until_no_work_is_left, until_reported, work
from tests.support.tasks import User, controller
from tests.support.workers import processes
from tests.support.workers import worker as built_in_worker


async def test_of_two_workers_one_is_killed_in_the_middle_and_nothing_is_lost_or_paid_twice(
    bus, nats_server, tmp_path
):
    go_on = asyncio.Event()

    async def say(request):
        if request.messages[0].content == "do it":
            return "one"
        await go_on.wait()
        return "two"

    async with routing(bus, say) as router, processes(nats_server.url, tmp_path, 2) as running:
        await send(bus, work())
        (told,) = await until_reported(bus, "progress")
        pid = int(told.worker.split("-")[-2])
        victim = next(process for process in running if process.pid == pid)
        victim.kill()
        await until_reported(bus, "progress", 2)  # the other one is as far
        go_on.set()
        result = await result_of(bus, work())
        await until_no_work_is_left(bus)
    assert result.output == "two"
    assert result.worker != told.worker
    assert result.usage.output_tokens == 2 * USAGE.output_tokens
    assert len(router.paid) == len(set(router.paid)) == 2


async def test_on_sigterm_a_worker_finishes_what_it_does_and_ends(bus, nats_server, tmp_path):
    go_on = asyncio.Event()

    async def say(_request):
        await go_on.wait()
        return "x"

    async with routing(bus, say), processes(nats_server.url, tmp_path) as (process,):
        await send(bus, work())
        await until_reported(bus, "started")
        process.send_signal(signal.SIGTERM)
        go_on.set()
        async with asyncio.timeout(15):
            assert await process.wait() == 0
        assert (await result_of(bus, work())).output == "x"
        await until_no_work_is_left(bus)


async def test_a_model_may_plan_with_what_a_worker_announces(bus, nats_server, tmp_path):
    def say(request):
        if request.response_format is None:
            return "x"
        node = request.response_format.json_schema["properties"]["subtasks"]["items"]["properties"]
        offered = "translate" if "translate" in node["capability"]["enum"] else "draft"
        step = {"id": "a", "capability": offered, "instruction": "do it", "depends_on": []}
        return json.dumps({"subtasks": [step]})

    user = User(bus)
    health = await bus.open(subjects.events_of("default", "agent_worker", "service.health"))
    await bus.flush()
    async with (
        routing(bus, say),
        controller(nats_server.url),
        built_in_worker(nats_server.url),
        processes(nats_server.url, tmp_path),
    ):
        await health.next_msg(timeout=20)  # the controller was ready before, and heard it too
        status = await user.end(await user.submit("a poem"))
    planned = next(one for one in status.subtasks if one.subtask_id == "a")
    assert (planned.capability, planned.state, status.output) == ("translate", "succeeded", "x")
