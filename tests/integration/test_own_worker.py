"""A worker of one's own, made with `atlas.worker`, on real NATS."""

from atlas import subjects
from atlas.contracts.errors import ProviderOverloadedError
from atlas.contracts.events import Event
from atlas.contracts.inference import Usage
from atlas.objects import Objects
from tests.support.answering import USAGE, routing
from tests.support.subtasks import (
    SCHEMA,
    failure_of,
    reports,
    result_of,
    send,
    until_no_work_is_left,
    work,
    work_left,
)
from tests.support.tasks import User, controller
from tests.support.waiting import eventually
from tests.support.workers import at_work
from tests.support.workers import worker as built_in_worker


async def test_a_function_is_a_worker_also_without_any_model(bus, nats_server):
    async def count(given, ctx):
        await ctx.progress(done=1, of=2)
        return {"n": len(ctx.inputs["a"]), "goal": given.goal, "unit": ctx.task_inputs["unit"]}

    given = work(inputs={"task": {"unit": "letters"}, "a": "four"}, output_schema=SCHEMA)
    async with at_work(nats_server.url, count):
        await send(bus, given)
        result = await result_of(bus, given)
        await until_no_work_is_left(bus)
    assert result.output == {"n": 4, "goal": "g", "unit": "letters"}
    assert (result.worker, result.usage) == ("own", Usage())
    (progress,) = await reports(bus, "progress")
    assert progress.progress == {"done": 1, "of": 2}
    (started,) = await reports(bus, "started")
    assert started.stream_ids == []


async def test_a_model_answers_under_the_stream_that_the_controller_chose(bus, nats_server):
    async def translate(given, ctx):
        answer = await ctx.stream(f"{given.instruction} in French", temperature=0.5)
        return answer.content

    asked = []

    def say(request):
        asked.append(request)
        return "un deux"

    async with routing(bus, say) as router, at_work(nats_server.url, translate):
        await send(bus, work())
        result = await result_of(bus, work())
    assert (result.output.strip(), result.usage, result.cost.total_usd) == ("un deux", USAGE, 0.1)
    assert router.paid == ["stream-s1"]
    assert asked[0].temperature == 0.5
    assert asked[0].metadata["subtask_id"] == "s1"
    (started,) = await reports(bus, "started")
    assert started.stream_ids == ["stream-s1"]


async def test_further_streams_are_paid_from_what_the_first_left_of_the_budget(bus, nats_server):
    async def thrice(_given, ctx):
        answers = [await ctx.stream("again") for _ in range(3)]
        return [one.content for one in answers]

    budgets = []

    def say(request):
        budgets.append(request.budget)
        return "x"

    async with routing(bus, say) as router, at_work(nats_server.url, thrice):
        given = work(budget={"max_tokens": 20})
        await send(bus, given)
        result = await result_of(bus, given)
    assert result.output == ["x", "x", "x"]
    assert [one.max_tokens for one in budgets] == [20, 15, 10]
    assert result.usage.output_tokens == 3 * USAGE.output_tokens
    assert len(set(router.paid)) == len(router.paid) == 3


async def test_an_input_in_the_object_store_is_there_when_the_handler_is_called(bus, nats_server):
    async def give(_given, ctx):
        return ctx.inputs["a"]

    ref = await Objects(bus).put("default.t1.s0.1", {"k": "v"})
    given = work(inputs={"a": {"output_ref": ref}})
    async with at_work(nats_server.url, give):
        await send(bus, given)
        assert (await result_of(bus, given)).output == {"k": "v"}


async def test_no_input_reads_what_is_stored_for_another_tenant(bus, nats_server):
    async def give(_given, ctx):
        return ctx.inputs["a"]

    ref = await Objects(bus).put("other.t1.s1.1", "secret")
    given = work(inputs={"a": {"output_ref": ref}})
    async with at_work(nats_server.url, give):
        await send(bus, given)
        assert (await result_of(bus, given)).output == {"output_ref": ref}


async def test_copies_of_work_that_come_at_once_are_done_once(bus, nats_server):
    begun = []

    async def act(given, _ctx):
        begun.append(given.idempotency_key)
        await eventually(others_are_gone)
        return "x"

    async def others_are_gone() -> bool:
        return bool(await work_left(bus) == 1)

    for _ in range(4):
        await send(bus, work())
    async with at_work(nats_server.url, act, concurrency=4):
        await result_of(bus, work())
        await until_no_work_is_left(bus)
    assert begun == ["t1:s1:1"]


async def test_an_error_of_the_contract_is_why_the_attempt_failed(bus, nats_server):
    async def refuse(_given, _ctx):
        raise ProviderOverloadedError("no dictionary now", retry_after_ms=7)

    async with at_work(nats_server.url, refuse) as app:
        await send(bus, work())
        report = await failure_of(bus, work())
        await until_no_work_is_left(bus)
    assert (report.error.code, report.error.retry_after_ms) == ("provider_overloaded", 7)
    assert app.metrics() == {"subtasks": {"succeeded": 0, "failed": 1}}


async def test_any_other_exception_is_a_failure_that_may_be_retried(bus, nats_server):
    async def break_(given, _ctx):
        return given.inputs["dictionary"]

    async with at_work(nats_server.url, break_):
        await send(bus, work())
        report = await failure_of(bus, work())
    assert (report.error.code, report.error.retryable) == ("handler_failed", True)
    assert "KeyError: 'dictionary'" in report.error.message


async def test_a_handler_that_gives_nothing_or_no_json_fails(bus, nats_server):
    gives = {"s1": None, "s2": object()}

    async def give(given, _ctx):
        return gives[given.subtask_id]

    async with at_work(nats_server.url, give):
        for id_, says in (("s1", "gave nothing"), ("s2", "gave a object that is no JSON")):
            await send(bus, work(id_))
            report = await failure_of(bus, work(id_))
            assert report.error.code == "output_mismatch"
            assert says in report.error.message


async def test_a_handler_may_catch_how_a_stream_ended_and_its_cost_counts(bus, nats_server):
    def say(request):
        is_first = request.messages[0].content == "first"
        return ProviderOverloadedError("busy") if is_first else "x"

    async def fall_back(_given, ctx):
        try:
            return (await ctx.stream("first")).content
        except ProviderOverloadedError:
            return (await ctx.stream("second")).content

    async with routing(bus, say), at_work(nats_server.url, fall_back):
        await send(bus, work())
        result = await result_of(bus, work())
    assert result.output == "x"
    assert result.usage.input_tokens == 2 * USAGE.input_tokens


async def test_what_it_can_do_is_told_to_everybody(bus, nats_server):
    told = await bus.open(subjects.events_of("default", "agent_worker", "worker.*"))
    await bus.flush()

    async def translate(_given, _ctx):
        return "x"

    async with at_work(nats_server.url, translate):
        registered = Event.model_validate_json((await told.next_msg(timeout=5)).data)
    gone = Event.model_validate_json((await told.next_msg(timeout=5)).data)
    assert (registered.type, gone.type) == ("worker.registered", "worker.gone")
    assert registered.data["capabilities"] == ["translate"]


async def test_one_plan_is_shared_by_own_and_built_in_workers(bus, nats_server):
    async def shout(_given, ctx):
        return ctx.inputs["draft"].upper()

    plan = [
        {"id": "draft", "capability": "draft", "instruction": "write"},
        {"id": "loud", "capability": "translate", "instruction": "shout", "depends_on": ["draft"]},
    ]
    user = User(bus)
    async with (
        routing(bus, lambda _: "hello"),
        controller(nats_server.url),
        built_in_worker(nats_server.url),
        at_work(nats_server.url, shout),
    ):
        status = await user.end(await user.submit("g", plan=plan))
    assert status.output == "HELLO"
