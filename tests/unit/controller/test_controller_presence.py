"""Who is there and who is gone."""

from agent_controller.presence import Roll, _names

W1, W2 = ("default", "w1"), ("default", "w2")


def test_a_worker_that_falls_silent_is_gone_once():
    roll = Roll()
    roll.hear(W1, "ready", 1_000)
    roll.hear(W2, "ready", 5_000)
    assert roll.silent(6_000) == []
    assert roll.silent(6_001) == [(W1, 1_000)]
    assert roll.silent(6_002) == []


def test_a_worker_that_drains_tells_it_itself():
    roll = Roll()
    roll.hear(W1, "ready", 1_000)
    roll.hear(W1, "draining", 2_000)
    assert roll.silent(60_000) == []


def test_what_workers_can_do_is_known_as_long_as_they_are_there():
    roll = Roll()
    roll.hear(("default", "a"), "ready", 0, frozenset({"draft", "translate"}))
    roll.hear(("acme", "b"), "ready", 4_000, frozenset({"draft", "headline"}))
    assert roll.capabilities == {"draft", "translate", "headline"}
    roll.silent(6_000)
    assert roll.capabilities == {"draft", "headline"}
    roll.hear(("acme", "b"), "draining", 6_100)
    assert roll.capabilities == set()


def test_what_a_model_is_asked_to_plan_with_stays_short():
    roll = Roll()
    for worker in range(3):
        can = frozenset(f"c{worker}-{number}" for number in range(90))
        roll.hear(("default", str(worker)), "ready", 0, can)
    assert len(roll.capabilities) == 100
    assert _names(["fine", "not fine", 7, *["more"] * 200]) == {"fine", "more"}
    assert _names("translate") == _names(None) == frozenset()
