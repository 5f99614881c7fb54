"""Logs of every release still fold, to what they came to then, and can be gone on with."""

import json
from pathlib import Path

import pytest
from tests.support.task_logs import LOGS, folded
from tests.unit.controller.task_world import LIMITS, PLANNER

from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import effects, wake_at_ms
from agent_controller.tasks.entries import read_entry
from agent_controller.tasks.fold import fold
from agent_controller.tasks.view import TaskView
from atlas.contracts.base import types_of
from atlas.contracts.task_events import TASK_EVENT, KnownTaskEvent, UnknownTaskEvent

FILES = sorted(LOGS.glob("*/*.jsonl"))
VERSIONS = sorted({path.parent for path in FILES})


def named(path: Path) -> str:
    return str(path.relative_to(LOGS))


def stored(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_log_comes_to_what_it_came_to_when_it_was_written(path: Path):
    golden = json.loads(path.with_suffix(".view.json").read_text())
    now = folded(stored(path))
    assert {name: now.get(name) for name in golden} == golden


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_log_can_be_gone_on_with_wherever_it_was_left(path: Path):
    """An upgrade comes in the middle: what is decided then may be appended."""
    view = TaskView("default", "recorded")
    for data in stored(path):
        entry = read_entry(data)
        assert not isinstance(entry, UnknownTaskEvent)
        view = fold(view, [entry])
        at_ms = view.updated_at_ms
        effects(view, at_ms, LIMITS, PLANNER)
        wake_at_ms(view, at_ms, LIMITS)
        onward = decide(view, at_ms, LIMITS, PLANNER)
        read = [read_entry(TASK_EVENT.dump_json(one, exclude_none=True)) for one in onward]
        assert fold(view, read).version == view.version + len(onward)
    assert view.end is not None


@pytest.mark.parametrize("folder", VERSIONS, ids=named)
def test_the_logs_of_a_release_have_every_type_that_it_has(folder: Path):
    told = {json.loads(one)["type"] for path in folder.glob("*.jsonl") for one in stored(path)}
    known = types_of(KnownTaskEvent)
    assert told <= known, "a type that was taken away cannot be folded any more"
    if folder == VERSIONS[-1]:
        alone = {"task.deleted"}  # what it says took the rest of its log
        assert told == known - alone, "record the logs of this version: make task-logs"
