"""Files that become a task."""

from dataclasses import fields

import pytest
from typer.testing import CliRunner

from agent_controller.planning import patterns
from atlas.cli.options import PATTERNS
from atlas.cli.submission import (
    MAX_INPUT_BYTES,
    Submission,
    read_inputs,
    read_options,
    read_plan,
)
from atlas.cli.task_app import app
from atlas.contracts.errors import InvalidRequestError


def test_a_file_becomes_text_under_its_name(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("grüße")
    assert read_inputs((path,)) == {"notes.md": "grüße"}
    assert read_inputs(()) is None


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    paths = (tmp_path / "a.txt", tmp_path / "sub" / "a.txt")
    for path in paths:
        path.write_text("x")
    with pytest.raises(InvalidRequestError, match="rename one"):
        read_inputs(paths)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a\x00b"])
def test_a_binary_file_is_refused_with_what_to_do(tmp_path, data):
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    with pytest.raises(InvalidRequestError, match="pdftotext"):
        read_inputs((path,))


def test_inputs_that_are_too_large_together_are_refused(tmp_path):
    paths = []
    for name in ("a", "b"):
        path = tmp_path / name
        path.write_text("x" * (MAX_INPUT_BYTES // 2 + 1))
        paths.append(path)
    with pytest.raises(InvalidRequestError, match="split the task"):
        read_inputs(tuple(paths))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"nothing\.txt: No such file"):
        read_inputs((tmp_path / "nothing.txt",))


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": "a", "capability": "c", "instruction": "i"}]',
        "- {id: a, capability: c, instruction: i}",
        "plan:\n- id: a\n  capability: c\n  instruction: i\n",
    ],
)
def test_a_plan_is_json_or_yaml(tmp_path, text):
    path = tmp_path / "plan"
    path.write_text(text)
    assert read_plan(path) == [{"id": "a", "capability": "c", "instruction": "i"}]


@pytest.mark.parametrize("text", ["a: [", "just text", "{id: a}"])
def test_what_is_no_plan_is_refused(tmp_path, text):
    path = tmp_path / "plan"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match="--plan"):
        read_plan(path)


def test_the_patterns_of_the_command_line_are_those_that_the_controller_brings():
    assert set(PATTERNS) == {"auto", "route", *patterns.PATTERNS}


@pytest.mark.parametrize("pattern", [None, *PATTERNS, "debate-2", "swarm"])
def test_a_pattern_that_is_known_or_may_be_known_to_the_controllers_is_taken(pattern):
    Submission(goal="g", pattern=pattern).check({"debate-2"})


@pytest.mark.parametrize(("pattern", "near"), [("debat", "debate"), ("paralel", "parallel")])
def test_a_misspelt_pattern_is_refused_with_the_nearest_one(pattern, near):
    with pytest.raises(InvalidRequestError) as refusal:
        Submission(goal="g", pattern=pattern).check()
    assert refusal.value.message == f"--pattern {pattern}: did you mean {near!r}?"


@pytest.mark.parametrize("goal", ["", "  ", "\n\t"])
def test_a_blank_goal_is_refused(goal):
    with pytest.raises(InvalidRequestError, match="--goal: it is blank"):
        Submission(goal=goal).check()


def test_options_of_a_pattern_are_read_as_yaml():
    assert read_options(("rounds=3", "stages=[translate, shorten]", "over=a=b")) == {
        "rounds": 3,
        "stages": ["translate", "shorten"],
        "over": "a=b",
    }
    assert read_options(()) is None


@pytest.mark.parametrize("options", [("rounds",), ("=3",), ("a=1", "a=2"), ("a=[",)])
def test_an_option_that_cannot_be_read_is_refused_before_anything_is_sent(options):
    with pytest.raises(InvalidRequestError, match=r"--option "):
        Submission(goal="g", options=options).check()


@pytest.mark.parametrize("command", ["run", "submit"])
def test_every_option_of_the_commands_reaches_the_submission(monkeypatch, command: str):
    given: list[Submission] = []

    async def take(submission: Submission, **_: object) -> int:
        given.append(submission)
        return 0

    monkeypatch.setattr(f"atlas.cli.tasks.{command}", take)
    numbers = ("quorum", "max_parallel", "max_replans", "approval_expires_ms", "max_tokens")
    words = ("pattern", "on_failure", "priority", "approval")
    expected: dict[str, object] = {name: place for place, name in enumerate(numbers, start=1)}
    expected |= {name: f"x{name}" for name in words}
    expected |= {"goal": "g", "max_usd": 0.5, "task_id": "t1"}
    options = {"task_id": "id"}
    arguments = [
        f"--{options.get(name, name.replace('_', '-'))}={value}" for name, value in expected.items()
    ]
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == 0, result.output
    (submission,) = given
    assert {name: getattr(submission, name) for name in expected} == expected
    rest = {one.name for one in fields(Submission)} - expected.keys()
    assert rest == {"inputs", "options", "plan"}  # tested where they are read
