"""Where a model that works with tools must end: rounds, money, time, calls, its task."""

import asyncio
import json

import pytest

from atlas import subjects
from atlas.contracts.base import now_ms
from atlas.contracts.inference import Role
from atlas.contracts.task_events import TaskPaused, TaskResumed
from atlas.worker import AgentLimits
from tests.support.agents import Script, add, at_work
from tests.support.answering import routing
from tests.support.subtasks import (
    end_task,
    failure_of,
    result_of,
    send,
    until_ended,
    until_no_work_is_left,
    work,
)


async def test_after_the_last_round_the_model_answers_without_tools(bus, nats_server):
    model = Script([("add", '{"a": 1, "b": 2}')], [("add", '{"a": 3, "b": 4}')], "about seven")
    limits = AgentLimits(max_rounds=3)
    async with routing(bus, model), at_work(nats_server.url, add, limits=limits):
        await send(bus, work())
        assert (await result_of(bus, work())).output.strip() == "about seven"
    assert [one.tool_choice for one in model.asked] == [None, None, "none"]
    assert [one.name for one in model.asked[2].tools] == ["add"]
    assert "Call no more tools" in model.asked[2].messages[-1].content


async def test_a_model_that_never_answers_fails_the_attempt_clearly(bus, nats_server):
    model = Script([("add", '{"a": 1, "b": 2}')])
    limits = AgentLimits(max_rounds=2)
    async with routing(bus, model), at_work(nats_server.url, add, limits=limits):
        await send(bus, work())
        report = await failure_of(bus, work())
    assert (report.error.code, report.error.retryable) == ("agent_limit", True)
    assert "calls add in round 2, the last one" in report.error.message
    assert len(model.asked) == 2


@pytest.mark.parametrize("limits", [{"max_usd": 0.15}, {"max_ms": 1}])
async def test_money_and_time_that_are_spent_make_the_next_round_the_last(bus, nats_server, limits):
    model = Script(*[[("add", '{"a": 1, "b": 2}')]] * 2, "enough")
    if "max_ms" in limits:
        del model.answers[1]
    bounds = AgentLimits(**limits)
    async with routing(bus, model), at_work(nats_server.url, add, limits=bounds):
        await send(bus, work())
        assert (await result_of(bus, work())).output == "enough"
    assert [one.tool_choice for one in model.asked][-2:] == [None, "none"]


async def test_no_tool_is_called_any_more_once_the_money_is_spent(bus, nats_server):
    called = []

    def count(n: int) -> int:
        """Count."""
        called.append(n)
        return n

    model = Script([("count", '{"n": 1}')])
    limits = AgentLimits(max_usd=0.05)
    async with routing(bus, model), at_work(nats_server.url, count, limits=limits):
        await send(bus, work())
        report = await failure_of(bus, work())
    assert (report.error.code, called, len(model.asked)) == ("agent_limit", [1], 2)


async def test_of_too_many_calls_in_a_round_the_first_are_carried_out(bus, nats_server):
    most = []

    async def slow(n: int) -> int:
        """A number, slowly."""
        most.append(len([one for one in asyncio.all_tasks() if "_contained" in repr(one)]))
        await asyncio.sleep(0.01)
        return n

    model = Script([("slow", f'{{"n": {n}}}') for n in range(30)], "x")
    limits = AgentLimits(max_calls=8, parallel_calls=2)
    async with routing(bus, model), at_work(nats_server.url, slow, limits=limits):
        await send(bus, work())
        await result_of(bus, work())
    results = model.results(2)
    assert results[:8] == [(str(n), False) for n in range(8)]
    assert {one[1] for one in results[8:]} == {True}
    assert "at most 8 calls" in results[29][0]
    assert max(most) <= 2


async def test_no_tool_is_called_while_the_task_is_paused_and_none_after_its_end(bus, nats_server):
    called = asyncio.Event()

    async def act() -> str:
        """Acts."""
        called.set()
        await asyncio.Event().wait()
        return "never"

    log = subjects.task_write("default", "t1")
    base = {"task_id": "t1", "at_ms": now_ms()}
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def say(request):
        if request.messages[0].content == "later":
            return "x"
        if request.messages[-1].role is not Role.TOOL:
            return [("add", '{"a": 1, "b": 2}')]
        asked.set()
        await go_on.wait()
        return [("act", "{}")]

    async with routing(bus, say) as router, at_work(nats_server.url, add, act):
        await send(bus, work())
        async with asyncio.timeout(10):
            await asked.wait()
            control = await bus.open(subjects.stream_control("default", router.paid[1]))
            await bus.flush()
            await bus.store(log, TaskPaused(version=1, **base).to_json())
            assert json.loads((await control.next_msg()).data)["action"] == "pause"
            go_on.set()
            await until_ended(bus, router.paid[1])
            assert not called.is_set()
            await bus.store(log, TaskResumed(version=2, **base).to_json())
            await called.wait()
            await end_task(bus)
        await until_no_work_is_left(bus)  # although the tool would wait for ever
