"""The mapping of a task's subtasks: as a dict that is copied for every change, only cheaper."""

from hypothesis import given
from hypothesis import strategies as st

from agent_controller.tasks.records import Records, SubtaskRecord

ids = st.integers(0, 200).map(lambda number: f"s{number}")
steps = st.lists(
    st.one_of(
        st.lists(st.tuples(ids, st.integers(1, 9)), min_size=1, max_size=40),
        st.sampled_from(["iterate", "get"]),
    ),
    max_size=30,
)


def record(id_: str, attempt: int) -> SubtaskRecord:
    return SubtaskRecord(id_, "draft", attempt=attempt)


@given(st.lists(ids, unique=True), steps)
def test_it_is_a_dict_that_was_copied_and_changed_and_its_past_stays_as_it_was(first, changes):
    model = {id_: record(id_, 0) for id_ in first}
    records = Records(dict(model))
    past = [(records, dict(model))]
    for change in changes:
        if change == "iterate":
            assert list(records.values()) == list(model.values())
        elif change == "get":
            assert all(records[id_] is model[id_] for id_ in model)
            assert records.get("none") is None
        else:
            changed = [record(id_, attempt) for id_, attempt in change]
            model = {**model, **{one.subtask_id: one for one in changed}}
            records = records.with_changed(changed)
            past.append((records, dict(model)))
    for then, expected in past:
        assert list(then.items()) == list(expected.items())
        assert list(then) == list(expected)
        assert len(then) == len(expected)
        assert then == expected
