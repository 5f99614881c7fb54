"""What `@worker.handles` takes, and what a handler may give."""

import subprocess
import sys
from typing import Any

import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.worker import OutputMismatchError, Worker
from atlas.worker.output import read_output


async def handler(_subtask, _ctx) -> Any:
    return "x"


def test_the_function_stays_what_it_was():
    assert Worker().handles("translate")(handler) is handler


@pytest.mark.parametrize("name", ["", "with space", "a.b", "*", "x" * 65])
def test_a_capability_that_cannot_stand_in_a_subject_is_refused(name):
    with pytest.raises(ConfigurationError, match="is no capability"):
        Worker().handles(name)


def test_a_capability_has_one_handler():
    worker = Worker()
    worker.handles("translate")(handler)
    with pytest.raises(ConfigurationError, match="'translate' has a handler already"):
        worker.handles("translate")


def test_a_plain_function_is_refused():
    with pytest.raises(ConfigurationError, match="no `async def`"):
        Worker().handles("translate")(lambda _subtask, _ctx: None)  # type: ignore[type-var]


def test_a_function_that_takes_no_context_is_refused():
    async def alone(_subtask) -> Any:
        return "x"

    with pytest.raises(ConfigurationError, match="too many positional arguments"):
        Worker().handles("translate")(alone)  # type: ignore[type-var]


@pytest.mark.parametrize("level", ["none", "best", 3])
def test_a_level_that_there_is_not_is_refused(level):
    with pytest.raises(
        ConfigurationError, match=r"level of 'translate' .* basic, moderate, strong"
    ):
        Worker().handles("translate", level=level)


@pytest.mark.parametrize("said", ["", "  ", "two\nlines", "\x1b[31m", "x" * 201])
def test_a_description_that_is_no_line_is_refused(said):
    with pytest.raises(ConfigurationError, match=r"description of 'translate' .* one line"):
        Worker().handles("translate", description=said)


def test_a_worker_with_no_hand_is_refused():
    with pytest.raises(ConfigurationError, match="concurrency is 0"):
        Worker(concurrency=0)


def test_a_worker_without_handlers_says_so_and_ends_with_2(nats_server):
    ended = subprocess.run(
        [sys.executable, "-c", "from atlas.worker import Worker; Worker().run()"],
        env={"NATS_URL": nats_server.url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "there is nothing that this worker can do" in ended.stderr


def test_no_tool_takes_the_name_of_atlas_own():
    with pytest.raises(ConfigurationError, match="'read_result' is the name of Atlas's own tool"):
        Worker().tool(name="read_result", description="x")(lambda: "x")


@pytest.mark.parametrize("given", [0, False, [], {"a": [1, 2.5, None]}, ""])
def test_json_values_are_outputs_as_they_are(given):
    assert read_output(given, None) == given


def test_what_json_reads_back_is_the_output():
    assert read_output((1, 2), {"type": "array"}) == [1, 2]


@pytest.mark.parametrize("given", [None, object(), {1, 2}, float("nan")])
def test_nothing_and_what_is_no_json_are_refused(given):
    with pytest.raises(OutputMismatchError, match="return text or a JSON value"):
        read_output(given, None)


def test_a_value_that_breaks_the_schema_is_refused_like_a_text_that_does():
    with pytest.raises(OutputMismatchError, match=r"\$: 1 is not of type 'string'"):
        read_output(1, {"type": "string"})
