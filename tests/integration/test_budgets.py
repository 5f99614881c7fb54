"""Budgets that routers share, on a real NATS: held, never counted twice, and given back."""

import asyncio
import contextlib
import itertools
import random
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from atlas import subjects
from atlas.budget_settings import BudgetSettings
from atlas.bus import Bus
from atlas.contracts.catalogue import ModelUsage
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    InvalidRequestError,
    RequestTimeoutError,
)
from atlas.contracts.inference import Cost, Usage
from atlas.embedded import NatsProcess
from provider_router.accounting.account import UNLIMITED, LimitedAccount
from provider_router.accounting.budgets import Amounts, Estimate, Verdict
from provider_router.accounting.counters import Addition, Counted
from provider_router.accounting.usage import UsageCounters
from tests.support.accounts import TENANT, Books, books, limited, spend
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("bus")  # which makes what JetStream is to hold

CHUNK = 7
LIMIT = 300_000


async def test_a_stream_reserves_before_it_starts_and_is_settled_to_what_it_used(
    nats_server: NatsProcess,
):
    async with books(nats_server.url, limited(max_tokens=10_000)) as mine:
        account = await mine.open(Estimate(100))
        assert await mine.tokens() == 612
        (record,) = await mine.records()
        assert (record.router, record.lines[0].number) == (mine.name, 0)
        await account.settle(Amounts(130))
        assert await mine.tokens() == 130
        assert await mine.records() == []
        await account.settle(Amounts(999))
        assert await mine.tokens() == 130


async def test_a_settlement_may_be_more_than_what_was_reserved(nats_server: NatsProcess):
    async with books(nats_server.url, limited(max_tokens=700)) as mine:
        account = await mine.open(Estimate(100))
        await account.settle(Amounts(900))
        assert await mine.tokens() == 900


async def test_a_request_that_finds_too_little_is_refused_and_holds_nothing(
    nats_server: NatsProcess,
):
    async with books(nats_server.url, limited(max_tokens=700, max_usd=5)) as mine:
        account = await mine.open(Estimate(100))
        with pytest.raises(BudgetExceededError) as refused:
            await mine.open(Estimate(500, output_price=2.0))
        assert refused.value.details is not None
        assert (refused.value.details["left"], refused.value.details["limit"]) == (88, 700)
        assert 0 < (refused.value.retry_after_ms or 0) <= 86_400_000
        assert await mine.tokens() == 612
        assert [(one.unit, one.spent) for one in await mine.accounts.told(TENANT)] == [
            ("tokens", 612),
            ("usd", 0),
        ]
        assert len(await mine.records()) == 1
        await account.settle(Amounts(1))
        assert await mine.open(Estimate(500)) is not UNLIMITED


async def test_the_last_of_a_budget_is_given_in_a_smaller_slice_and_then_the_stream_ends(
    nats_server: NatsProcess,
):
    async with books(nats_server.url, limited(max_tokens=1_000)) as mine:
        account = await mine.open(Estimate(0))
        used = await spend(account, 5_000, CHUNK)
        assert 1_000 <= used < 1_000 + CHUNK
        assert account.exceeded is not None
        assert (account.exceeded["scope"], account.exceeded["limit"]) == ("day", 1_000)
        await account.settle(Amounts(used))
        assert await mine.tokens() == used


async def test_a_stream_that_is_given_its_slices_in_time_never_waits(nats_server: NatsProcess):
    async with books(nats_server.url, limited(max_tokens=100_000)) as mine:
        account = await mine.open(Estimate(0))
        for used in range(0, 20_000, 50):
            assert account.used(used, 0) is Verdict.OK
            await asyncio.sleep(0.005)
        await account.settle(Amounts(20_000))
        assert await mine.tokens() == 20_000


async def test_whom_nobody_limits_is_asked_nothing(nats_server: NatsProcess):
    async with books(nats_server.url, BudgetSettings()) as mine:
        await mine.bus.close()  # and NATS is not either
        assert await mine.open(Estimate(100)) is UNLIMITED


async def test_all_streams_of_a_task_share_its_budget(nats_server: NatsProcess):
    headers = {"Atlas-Task": "t1", "Atlas-Task-Budget": '{"max_tokens": 700}'}
    async with (
        books(nats_server.url, BudgetSettings()) as mine,
        books(nats_server.url, BudgetSettings()) as others,
    ):
        account = await mine.open(Estimate(0), headers=headers)
        second = await others.open(Estimate(0), headers=headers)
        with pytest.raises(BudgetExceededError, match="task t1, 700 tokens") as refused:
            await others.open(Estimate(1), headers=headers)
        assert refused.value.retry_after_ms is None
        other = {**headers, "Atlas-Task": "t2"}
        assert await mine.open(Estimate(1), headers=other) is not UNLIMITED
        await account.settle(Amounts(5))
        assert await spend(second, 10_000, CHUNK) in range(695, 695 + CHUNK)


@pytest.mark.parametrize(
    ("task", "budget", "says"),
    [
        ("t 1", '{"max_tokens": 5}', "'t 1' is no task_id"),
        ("t1", '{"max_tokens": 0}', "greater than 0"),
        ("t1", '{"max_token": 5}', "Extra inputs"),
        ("t1", "5", "no Budget in JSON"),
    ],
)
async def test_a_task_budget_nobody_can_read_is_refused(
    nats_server: NatsProcess, task: str, budget: str, says: str
):
    headers = {"Atlas-Task": task, "Atlas-Task-Budget": budget}
    async with books(nats_server.url, BudgetSettings()) as mine:
        with pytest.raises(InvalidRequestError, match=says):
            await mine.open(Estimate(0), headers=headers)


async def test_an_increment_counts_once_however_often_and_however_late_it_is_repeated(
    nats_server: NatsProcess,
):
    subject = subjects.budget(TENANT, "task", "t1", "tokens")
    async with books(nats_server.url, BudgetSettings()) as mine:
        addition = Addition(subject, 70, "a")
        assert await mine.counters.add(addition, 2) == Counted(70, was_there=False)
        assert await mine.counters.add(addition, 2) == Counted(70, was_there=False)
        assert addition.began_s is not None
        before = mine.counters.seen_seq
        addition.began_s -= 3_600  # JetStream has forgotten the id by then; history has not
        assert await mine.counters.add(addition, 2) == Counted(70, was_there=False)
        sent = [one.amount async for one in mine.counters.history(subject, before + 1)]
        assert set(sent) == {0}
        foreign = await mine.counters.add(Addition(subject, 70, "a"), 2)
        assert foreign == Counted(70, was_there=True)


@dataclass
class Tally:
    """What all routers use together, as it happens."""

    requests: "itertools.count[int]" = field(default_factory=itertools.count)
    used: int = 0
    refused: int = 0
    is_a_third_used: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, tokens: int) -> None:
        self.used += tokens
        if self.used > LIMIT / 3:
            self.is_a_third_used.set()


async def _slot(mine: Books, tally: Tally, many: int, seed: int) -> None:
    """One of a router's slots: takes requests until there are no more."""
    rng = random.Random(seed)
    while next(tally.requests) < many:
        try:
            account = await mine.open(Estimate(rng.randint(1, 60)))
        except BudgetExceededError:
            tally.refused += 1
            continue
        used = await spend(account, rng.randint(1, 1_500), CHUNK, tally.add)
        await account.settle(Amounts(used))


async def _watch(mine: Books, tally: Tally, samples: list[tuple[int, int]]) -> None:
    """Sample what was used, and then what the counter says."""
    while True:
        used = tally.used
        with contextlib.suppress(AtlasError):  # NATS is away
            samples.append((used, await mine.tokens()))
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_four_routers_and_a_thousand_requests_never_overrun_the_budget_of_their_tenant(
    nats_server: NatsProcess, *, is_restarted: bool
):
    """Also when NATS is killed in the middle: nothing is counted twice, and nothing is lost."""
    slots, tally, samples = 64, Tally(), list[tuple[int, int]]()
    async with AsyncExitStack() as undo, asyncio.timeout(100):
        routers = [
            await undo.enter_async_context(books(nats_server.url, limited(max_tokens=LIMIT)))
            for _ in range(4)
        ]
        watching = asyncio.create_task(_watch(routers[0], tally, samples))
        running = [
            asyncio.create_task(_slot(routers[slot % 4], tally, 1_000, slot))
            for slot in range(slots)
        ]
        await tally.is_a_third_used.wait()
        if is_restarted:
            await nats_server.kill()
            await nats_server.start()
        await asyncio.gather(*running)
        watching.cancel()
        await asyncio.wait({watching})
        for router in routers:
            await router.accounts.drain(20)
            assert router.accounts.running == 0
        assert await routers[0].tokens() == tally.used
        assert await routers[0].records() == []
    assert tally.refused
    assert LIMIT * 0.95 < tally.used <= LIMIT + slots * CHUNK
    assert len(samples) > 3
    assert all(counted >= used - slots * CHUNK for used, counted in samples)


async def test_a_slow_router_that_others_settled_counts_nothing_twice_and_goes_on(
    nats_server: NatsProcess,
):
    budgets = limited(max_tokens=100_000)
    async with books(nats_server.url, budgets) as slow, books(nats_server.url, budgets) as other:
        account = await slow.open(Estimate(0), "s1")
        account.used(40, 0)
        assert await other.reconciler(slow.name, {"s1": Amounts(30)}).once() == 1
        assert await other.tokens() == 30
        slow.accounts._doubt()  # as after a reconnect, or after the process stood still
        assert account.used(600, 0) is Verdict.WAIT
        assert await account.extend()
        assert await other.tokens() >= 600
        assert len(await other.records()) == 1
        await account.settle(Amounts(650))
        assert await other.tokens() == 650
        assert await other.records() == []


async def test_a_router_that_does_not_know_that_it_was_taken_for_dead_finds_its_numbers_used(
    nats_server: NatsProcess,
):
    budgets = limited(max_tokens=100_000)
    async with books(nats_server.url, budgets) as slow, books(nats_server.url, budgets) as other:
        account = await slow.open(Estimate(0), "s1")
        assert await other.reconciler(slow.name, {"s1": Amounts(30)}).once() == 1
        account.used(600, 0)
        assert await account.extend()
        assert account.used(5_000, 0) is Verdict.WAIT
        assert await account.extend()
        await account.settle(Amounts(5_000))
        assert await other.tokens() == 5_000


async def test_what_a_killed_router_had_reserved_comes_back_however_many_give_it_back(
    bus: Bus, nats_server: NatsProcess
):
    held = await bus.open(subjects.event(TENANT, "test", "held"))
    await bus.flush()
    process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec, no wait
        [sys.executable, "-m", "tests.support.accounts", nats_server.url, "doomed", "20"]
    )
    try:
        await held.next_msg(timeout=30)
    finally:
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    budgets = limited(max_tokens=1_000_000)
    used = {"doomed-3": Amounts(110), "doomed-4": Amounts(700)}
    async with AsyncExitStack() as undo:
        others = [await undo.enter_async_context(books(nats_server.url, budgets)) for _ in range(4)]
        mine = others[0]
        assert await mine.tokens() == 20 * 612
        await asyncio.gather(*(one.reconciler("doomed", used).once() for one in others))
        assert await mine.tokens() == 810
        assert await mine.records() == []
        assert await mine.reconciler("doomed", used).once() == 0


async def test_an_increment_that_was_under_way_when_its_router_died_is_found_in_history(
    nats_server: NatsProcess,
):
    budgets = limited(max_tokens=100_000)
    async with books(nats_server.url, budgets) as dead, books(nats_server.url, budgets) as other:
        account = await dead.open(Estimate(0), "s1")
        assert isinstance(account, LimitedAccount)
        await account.holding.enter(1)  # a record that knows of the first increment
        record = account.holding.record
        await dead.counters.add(
            Addition(record.lines[0].subject, 400, f"{record.reservation_id}:0:1"), 1
        )
        assert await other.tokens() == 912
        await other.reconciler(dead.name, {"s1": Amounts(3)}).once()
        assert await other.tokens() == 3


async def test_a_router_is_given_time_before_it_counts_as_dead(nats_server: NatsProcess):
    async with books(nats_server.url, limited(max_tokens=1_000)) as mine:
        await mine.open(Estimate(0))
        reconciler = mine.reconciler(mine.name)
        reconciler._grace_s = 0.2
        assert await reconciler.once() == 0
        assert await eventually(reconciler.once) == 1


async def test_while_nats_is_away_a_request_is_refused_in_bounded_time_and_may_be_repeated(
    nats_server: NatsProcess,
):
    async with books(nats_server.url, limited(max_tokens=10_000)) as mine:
        running = await mine.open(Estimate(0))
        await nats_server.kill()
        with pytest.raises(RequestTimeoutError, match="cannot be reached") as refused:
            async with asyncio.timeout(10):
                await mine.open(Estimate(0))
        assert refused.value.to_info().retryable
        running.used(600, 0)
        with pytest.raises(RequestTimeoutError, match="cannot be reached"):
            async with asyncio.timeout(20):
                await running.extend()
        async with asyncio.timeout(10):
            await running.settle(Amounts(600))
        await nats_server.start()
        await mine.bus.wait_connected(20)
        await mine.accounts.drain(20)
        assert await mine.tokens() == 600
        assert await mine.records() == []


async def test_an_old_record_is_written_anew_and_says_what_is_held_by_now(nats_server: NatsProcess):
    async with books(nats_server.url, limited(max_tokens=10_000)) as mine:
        account = await mine.open(Estimate(0))
        assert isinstance(account, LimitedAccount)
        holding = account.holding
        holding.record = holding.record.model_copy(update={"at_ms": 0})
        await mine.accounts._tend()
        (record,) = await mine.records()
        assert (record.lines[0].held, record.lines[0].number) == (512, 1)
        assert record == holding.record
        await account.settle(Amounts(1))
        assert await mine.records() == []


async def test_usage_is_counted_by_tenant_model_and_day_for_all_routers(nats_server: NatsProcess):
    async with (
        books(nats_server.url, BudgetSettings()) as mine,
        books(nats_server.url, BudgetSettings()) as others,
    ):
        for router in (mine, others):
            usage = UsageCounters(router.counters)
            for _ in range(3):
                usage.add(
                    TENANT,
                    "openai/gpt-4.1",
                    Usage(input_tokens=3, output_tokens=5),
                    Cost(total_usd=0.001),
                )
            usage.add("acme", "mock/fast", Usage(), Cost())
            await usage.flush()
            await usage.flush()
        assert await usage.spent(TENANT) == [
            ModelUsage(
                model="openai/gpt-4.1",
                requests=6,
                input_tokens=18,
                output_tokens=30,
                cost=Cost(total_usd=0.006),
            )
        ]
        assert await usage.spent("acme") == [ModelUsage(model="mock/fast", requests=2)]
        assert await usage.spent("globex") == []


async def test_a_stream_with_a_budget_of_its_own_holds_no_more_than_that_of_a_shared_one(
    nats_server: NatsProcess,
):
    async with books(nats_server.url, limited(max_tokens=1_000)) as mine:
        estimate = Estimate(100, most_tokens=250)
        streams = [await mine.open(estimate) for _ in range(4)]
        assert await mine.tokens() == 1_000
        for account in streams:
            for used in range(100, 250, 10):
                assert account.used(used, 0) is Verdict.OK
            await account.settle(Amounts(250))
        assert await mine.tokens() == 1_000
