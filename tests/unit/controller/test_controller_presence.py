"""Who is there and who is gone."""

from agent_controller.presence import Roll

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
