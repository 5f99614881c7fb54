"""Fair shares of queues, in virtual time: a small task beside huge ones, and limits they share."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controller.task_farm import WORK_MS, Farm
from tests.unit.controller.task_world import node

from agent_controller.tasks.admission import Admission
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.shares import Counts, ShareLimits, Shares, Taken, counted, lane_of
from atlas.contracts.errors import OverloadedError
from atlas.contracts.tasks import Priority
from atlas.turns import precedence

GENERAL = lane_of("default", "general", Priority.NORMAL)
NOTHING = Counts({}, {})


def test_a_small_task_stands_behind_a_bounded_amount_of_a_huge_one():
    farm = Farm()
    farm.submit("huge", 400)
    small = farm.submit("small", 4, after_ms=5 * WORK_MS)
    farm.run()
    before = farm.begun[: farm.begun.index(small)]
    since = [key for key in before if key[1] == "huge"]
    assert len(since) <= 5 * farm.workers + farm.limits.task_waiting + farm.workers
    assert farm.ended_at_ms[small] < 1_000 + 10 * WORK_MS


def test_without_the_bound_the_small_task_would_wait_for_all_of_the_huge_one():
    farm = Farm(Limits(task_waiting=10_000), ShareLimits(lane_waiting=10_000))
    farm.submit("huge", 400)
    small = farm.submit("small", 4, after_ms=5 * WORK_MS)
    assert farm.run().begun.index(small) == 400


def test_many_tasks_of_one_tenant_do_not_hold_up_another_tenant():
    """Two hundred tasks of one subtask each: what a task may queue bounds nothing here."""
    farm = Farm()
    for number in range(200):
        farm.submit(f"t{number}", 1)
    small = farm.submit("small", 1, "other", after_ms=5 * WORK_MS)
    farm.run()
    begun_before = 5 * farm.workers
    assert farm.begun.index(small) <= begun_before + farm.share_limits.lane_waiting + farm.workers


def test_many_tasks_of_one_tenant_have_their_turns_in_the_order_in_which_they_came():
    farm = Farm()
    keys = [farm.submit(f"t{number}", 1, after_ms=number // 10) for number in range(100)]
    assert farm.run().begun == keys


def test_a_small_task_has_its_turn_beside_many_huge_ones_of_the_same_tenant():
    farm = Farm()
    for number in range(10):
        farm.submit(f"huge{number}", 100)
    small = farm.submit("small", 2, after_ms=10 * WORK_MS)
    farm.run()
    ranks = sorted(farm.ended_at_ms, key=farm.ended_at_ms.__getitem__)
    assert ranks[0] == small
    assert farm.begun.index(small) < 300


def test_urgent_work_goes_first_and_what_is_not_urgent_is_not_forgotten():
    farm = Farm()
    low = farm.submit("low", 10, priority="low")
    high = farm.submit("high", 400, priority="high")
    farm.run()
    place = farm.begun.index(low, farm.begun.index(high))
    assert Counter(farm.begun[:160])[low] in range(8, 12)
    assert place < 40


def test_of_sixteen_turns_most_begin_with_high_and_one_with_low():
    assert Counter(precedence(turn)[0] for turn in range(160)) == {
        Priority.HIGH: 120,
        Priority.NORMAL: 30,
        Priority.LOW: 10,
    }
    assert all(set(precedence(turn)) == set(Priority) for turn in range(16))


def test_a_limit_of_a_capability_holds_for_all_tenants_together():
    farm = Farm(share_limits=ShareLimits(capabilities={"general": 3}))
    for tenant in ("a", "b", "c"):
        farm.submit("t", 12, tenant)
    farm.run()
    assert farm.most_out["general"] == 3
    assert Counter(tenant for tenant, _ in farm.begun[3:18]) == {"a": 5, "b": 5, "c": 5}


def test_where_one_at_a_time_may_go_tenants_take_turns_however_many_tasks_stand_in_line():
    farm = Farm(share_limits=ShareLimits(capabilities={"general": 1}))
    for number in range(50):
        farm.submit(f"t{number}", 1, "a")
    small = farm.submit("small", 1, "b")
    assert farm.run().begun.index(small) <= 2


def test_a_limit_of_a_tenant_holds_over_all_capabilities():
    plan = [
        node(f"s{n}").model_copy(update={"capability": "code" if n % 2 else "draft"})
        for n in range(20)
    ]
    farm = Farm(share_limits=ShareLimits(tenant=2))
    farm.submit("t", 0, "a", plan=plan)
    other = farm.submit("t", 20, "b")
    farm.run()
    assert farm.most_out["a"] == 2
    assert farm.most_out["b"] == 2
    assert other in farm.ended_at_ms


def test_a_limit_is_asked_of_a_fresh_count_only():
    """Another controller may have used the room since."""
    shares = Shares(ShareLimits(tenant=5))
    assert not shares.ask(("default", "t"), GENERAL, 1_000)
    assert list(shares.take(NOTHING, 1_001)) == [("default", "t")]
    assert shares.ask(("default", "t"), GENERAL, 1_002)
    assert not shares.ask(("default", "u"), GENERAL, 2_000)


def test_what_a_step_was_granted_counts_until_it_is_in_the_queue():
    shares = Shares(ShareLimits(lane_waiting=1))
    assert shares.ask(("default", "t"), GENERAL, 1_000)
    shares.take(NOTHING, 1_001)
    assert not shares.ask(("default", "u"), GENERAL, 1_002)
    shares.settle(("default", "t"))
    shares.queues(1_003)
    assert list(shares.take(NOTHING, 1_003)) == [("default", "u")]


def test_what_runs_leaves_its_place_in_the_queue():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 3}, {GENERAL.queue: Taken(2, 2)}), 1_000)
    assert not shares.ask(("default", "t"), GENERAL, 1_001)
    assert shares.queues(1_001) == [GENERAL.queue]
    assert shares.take(Counts({GENERAL: 3}, {GENERAL.queue: Taken(3, 2)}), 1_002)
    assert shares.ask(("default", "t"), GENERAL, 1_003)


def test_a_queue_that_drains_fast_may_be_longer_and_for_a_second_after_it():
    def room(shares, now_ms) -> Any:
        return sum(shares.ask(("default", "t"), GENERAL, now_ms) for _ in range(1_000))

    shares = Shares(ShareLimits(lane_waiting=10))
    shares.ask(("default", "t"), GENERAL, 1_000)
    shares.take(Counts({}, {GENERAL.queue: Taken(0, 100)}), 1_000)
    shares.take(Counts({}, {GENERAL.queue: Taken(0, 160)}), 1_100)
    assert room(shares, 1_101) == 599  # 0.6 a millisecond, and one is on its way
    shares.settle(("default", "t"))
    shares.queues(2_100)
    shares.take(Counts({}, {GENERAL.queue: Taken(0, 160)}), 2_100)
    assert room(shares, 2_101) == 300
    shares.settle(("default", "t"))
    shares.queues(9_000)
    shares.take(Counts({}, {GENERAL.queue: Taken(0, 160)}), 9_000)
    assert room(shares, 9_001) == 10


def in_line(shares, *names, now_ms=1_001) -> None:
    for name in names:
        assert not shares.ask(("default", name), GENERAL, now_ms)


def test_what_a_task_was_granted_is_kept_until_its_step_however_often_is_counted():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    in_line(shares, "busy", "next")
    assert list(shares.take(NOTHING, 1_002)) == [("default", "busy")]
    assert not shares.take(NOTHING, 1_003)
    assert shares.is_awaited(("default", "busy"))
    shares.begin(("default", "busy"))
    assert shares.ask(("default", "busy"), GENERAL, 1_004)
    shares.settle(("default", "busy"))
    assert not shares.is_awaited(("default", "busy"))
    assert not shares.take(Counts({GENERAL: 1}, {}), 1_005)
    shares.queues(1_006)
    assert list(shares.take(NOTHING, 1_006)) == [("default", "next")]


def test_what_a_step_does_not_use_of_what_it_was_granted_goes_to_the_next_in_line():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    in_line(shares, "sated", "next")
    assert list(shares.take(NOTHING, 1_002)) == [("default", "sated")]
    shares.begin(("default", "sated"))
    shares.settle(("default", "sated"))
    assert list(shares.take(NOTHING, 1_003)) == [("default", "next")]


def test_what_is_granted_while_a_step_runs_is_kept_for_the_next_one():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    shares.begin(("default", "t"))
    in_line(shares, "t", "next")
    assert list(shares.take(NOTHING, 1_002)) == [("default", "t")]
    shares.settle(("default", "t"))
    assert shares.is_awaited(("default", "t"))
    assert not shares.take(NOTHING, 1_003)
    shares.begin(("default", "t"))
    assert shares.ask(("default", "t"), GENERAL, 1_004)


def test_a_task_that_does_not_come_for_what_it_was_granted_holds_nobody_up_for_long():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    in_line(shares, "late", "next")
    assert list(shares.take(NOTHING, 1_002)) == [("default", "late")]
    assert not shares.take(NOTHING, 31_001)
    assert list(shares.take(NOTHING, 31_002)) == [("default", "next")]
    shares.leave(("default", "next"))
    assert list(shares.take(NOTHING, 31_003)) == [("default", "late")]  # it lost no place


def test_who_loses_what_it_was_granted_to_another_controller_is_first_in_line_again():
    shares = Shares(ShareLimits(capabilities={"general": 2}))
    in_line(shares, "first", "second", "third", now_ms=1_000)
    assert list(shares.take(NOTHING, 1_002)) == [("default", "first"), ("default", "second")]
    assert not shares.take(Counts({GENERAL: 2}, {}), 1_003)
    assert not shares.is_awaited(("default", "first"))
    assert list(shares.take(Counts({GENERAL: 1}, {}), 1_004)) == [("default", "first")]
    shares.leave(("default", "first"))
    assert list(shares.take(Counts({GENERAL: 1}, {}), 1_005)) == [("default", "second")]


def test_a_task_that_ended_stands_in_no_line():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    in_line(shares, "ended", "next")
    shares.leave(("default", "ended"))
    assert list(shares.take(NOTHING, 1_002)) == [("default", "next")]
    shares.leave(("default", "next"))
    assert not shares.is_line


def test_what_goes_out_while_the_queues_are_counted_is_counted_too():
    shares = Shares(ShareLimits(tenant=1))
    in_line(shares, "t", now_ms=1_000)
    shares.queues(1_001)
    assert list(shares.take(NOTHING, 1_002)) == [("default", "t")]
    shares.queues(1_003)  # the server answers, and then
    shares.begin(("default", "t"))
    assert shares.ask(("default", "t"), GENERAL, 1_004)
    shares.settle(("default", "t"))
    in_line(shares, "u", now_ms=1_005)
    assert not shares.take(NOTHING, 1_006)


def test_a_queue_that_nobody_asked_for_lately_is_not_looked_at():
    shares = Shares(ShareLimits())
    shares.ask(("default", "t"), GENERAL, 1_000)
    assert shares.queues(6_000) == [GENERAL.queue]
    assert shares.queues(6_001) == []


def test_a_queue_that_a_task_waits_for_is_looked_at_however_long_that_takes():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    assert not shares.ask(("default", "t"), GENERAL, 1_001)
    assert shares.queues(60_000) == [GENERAL.queue]


def test_a_subject_that_no_controller_wrote_is_not_counted():
    found = counted([("default", "general", "normal", 2), ("default", "general", "urgent", 9)])
    assert found == {GENERAL: 2}


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 25)), min_size=1, max_size=8),
    priorities=st.lists(st.sampled_from(list(Priority)), min_size=8, max_size=8),
    workers=st.integers(1, 5),
    waiting=st.integers(1, 9),
    lane_waiting=st.integers(1, 9),
    tenant=st.none() | st.integers(1, 9),
    capability=st.none() | st.integers(1, 9),
    controllers=st.integers(1, 3),
    visit_ms=st.sampled_from([0, 100, 700, 6_000]),
)
def test_whatever_the_limits_every_task_ends_and_none_is_exceeded(
    *, sizes, priorities, workers, waiting, lane_waiting, tenant, capability, controllers, visit_ms
):
    limits = ShareLimits(
        lane_waiting, tenant, {} if capability is None else {"general": capability}
    )
    farm = Farm(
        replace(Limits(), task_waiting=waiting), limits, workers, controllers, visit_ms=visit_ms
    )
    keys = [
        farm.submit(f"t{place}", size, name, priority=priorities[place])
        for place, (name, size) in enumerate(sizes)
    ]
    farm.run(lambda one: one.now_ms > 10_000_000)
    assert set(farm.ended_at_ms) == set(keys)
    assert Counter(farm.begun) == Counter(
        {key: size for key, (_, size) in zip(keys, sizes, strict=True)}
    )
    for lane, most in farm.most_waiting.items():
        in_a_moment = 4 * workers  # all of them between two looks, a quarter of a second
        assert most <= (max(lane_waiting, in_a_moment) + workers) * controllers, lane
    if controllers == 1 and tenant is not None:
        assert max(farm.most_out[name] for name in "abc") <= tenant
    if controllers == 1 and capability is not None:
        assert farm.most_out["general"] <= capability


@settings(deadline=None, max_examples=12)
@given(
    tenants=st.integers(1, 4),
    huge=st.integers(1, 3),
    small=st.integers(1, 8),
    workers=st.integers(1, 6),
)
def test_what_a_small_task_waits_does_not_depend_on_how_large_the_others_are(
    tenants, huge, small, workers
):
    def run(size) -> Any:
        farm = Farm(workers=workers)
        for tenant in range(tenants):
            for number in range(huge):
                farm.submit(f"huge{number}", size, f"tenant{tenant}")
        key = farm.submit("small", small, after_ms=6 * WORK_MS)
        farm.run(lambda one: key in one.ended_at_ms)
        return farm.ended_at_ms[key]

    assert run(600) <= run(150)


def test_the_door_refuses_what_is_too_much_and_says_when_to_try_again():
    admission = Admission(most_open=2, most_waiting=3)
    admission.saw_open([("a", "1"), ("b", "1"), ("b", "2")])
    admission.check_door("a")
    with pytest.raises(OverloadedError, match=r"tenant 'b' has 2 open tasks.*limits\.open") as told:
        admission.check_door("b")
    assert told.value.retry_after_ms
    admission.opened(("a", "1"))  # it was seen already
    admission.check_open("a")
    admission.opened(("a", "2"))
    with pytest.raises(OverloadedError):
        admission.check_open("a")
    admission.saw_open([])
    admission.check_open("a")
    admission.saw_waiting(2)
    admission.stored()
    with pytest.raises(OverloadedError, match=r"3 submissions wait.*limits\.submissions") as told:
        admission.check_door("a")
    assert told.value.retry_after_ms
    admission.check_open("a")  # what waits already comes in


def test_a_line_that_moves_is_not_stuck_and_one_that_does_not_is_after_a_while():
    shares = Shares(ShareLimits(lane_waiting=1))
    shares.take(Counts({GENERAL: 1}, {}), 1_000)
    in_line(shares, "t", "u", now_ms=1_000)
    assert shares.stuck(2_999) == []
    assert shares.stuck(3_000) == [GENERAL]
    assert list(shares.take(NOTHING, 3_001)) == [("default", "t")]
    assert shares.stuck(5_000) == []
    assert shares.stuck(5_001) == [GENERAL]
    shares.leave(("default", "u"))
    assert shares.stuck(9_000) == []
