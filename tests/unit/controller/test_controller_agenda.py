"""When which task is looked at again."""

from agent_controller.scheduling.agenda import Agenda

A, B = ("default", "a"), ("default", "b")


def test_what_is_due_first_comes_first_and_leaves():
    agenda = Agenda()
    agenda.reset(A, 20)
    agenda.reset(B, 10)
    assert agenda.next_at_ms() == 10
    assert agenda.pop_due(30, 10) == [B, A]
    assert agenda.next_at_ms() is None


def test_a_time_that_was_reset_or_dropped_does_not_come():
    agenda = Agenda()
    agenda.reset(A, 10)
    agenda.reset(A, 50)
    agenda.reset(B, 10)
    agenda.drop(B)
    assert agenda.pop_due(20, 10) == []
    assert agenda.pop_due(50, 10) == [A]
    assert len(agenda) == 0


def test_no_more_are_taken_than_there_is_room_for():
    agenda = Agenda()
    agenda.reset(A, 1)
    agenda.reset(B, 2)
    assert agenda.pop_due(9, 1) == [A]
    assert B in agenda
    assert agenda.pop_due(9, 0) == []
