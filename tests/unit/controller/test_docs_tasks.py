"""What docs/tasks.md says of entries and controls is so."""

import re
from typing import Any

import pytest
from tests.support.documents import DOCS, reader_of
from tests.unit.controller.test_task_control_table import ACTIONS, SILENT, TASK_TABLE

from atlas.contracts.base import types_of
from atlas.contracts.task_events import KnownTaskEvent

PAGE = (DOCS / "tasks.md").read_text()
CONTROLS = {
    state: tuple(cells.split(" | "))
    for state, cells in re.findall(r"^\| ([a-z ]+) \| (.*) \|$", PAGE, re.MULTILINE)
    if state in TASK_TABLE
}
WORDS = {SILENT: "no change", "refused": "refused"}
READ: dict[str, Any] = {}
exec(reader_of("tasks.md").partition("async def follow")[0], READ)


def test_the_reader_has_thirty_lines():
    assert len(reader_of("tasks.md").splitlines()) == 30


@pytest.mark.parametrize("state", TASK_TABLE)
def test_a_control_does_in_each_state_what_the_table_says(state):
    assert len(CONTROLS[state]) == len(ACTIONS)
    assert CONTROLS[state] == tuple(WORDS.get(one, f"`{one}`") for one in TASK_TABLE[state])


def test_every_entry_of_a_log_stands_in_the_table():
    rows = re.findall(r"^\| (`[a-z]+\.[a-z_]+`(?:, `[a-z]+\.[a-z_]+`)*) \|", PAGE, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert told == types_of(KnownTaskEvent)


def test_the_reader_takes_each_entry_once_and_sees_a_gap(capsys):
    log: list[dict[str, object]] = []
    entries = [{"version": n, "type": "task.paused"} for n in (1, 2, 2, 1, 3)]
    assert all(READ["take"](log, one) for one in entries)
    assert not READ["take"](log, {"version": 5, "type": "task.resumed"})
    assert [one["version"] for one in log] == [1, 2, 3]
    assert capsys.readouterr().out.count("\n") == 3
