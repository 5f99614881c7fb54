"""What stands in a log: that something failed, where and why, and nothing that users wrote."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from atlas import logs


class Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture(params=[Terminal, io.StringIO])
def stderr(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[io.StringIO]:
    stream: io.StringIO = request.param()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("info")
    yield stream
    structlog.reset_defaults()


def _fail(prompt: str) -> None:
    if prompt:
        raise ValueError("it broke")


def test_a_traceback_says_where_and_why_without_the_values_that_were_at_hand(
    stderr: io.StringIO,
) -> None:
    try:
        _fail("a secret " + "prompt")
    except ValueError:
        structlog.get_logger("test").exception("failed_inside")
    told = stderr.getvalue()
    assert "failed_inside" in told
    assert "ValueError: it broke" in told
    assert "_fail" in told
    assert "a secret prompt" not in told


def test_a_warning_of_a_library_is_a_line_of_json_like_any_other(monkeypatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr(logging.root, "handlers", [])
    logs.configure("info")
    logging.getLogger("nats.aio").warning("it is %s", "late")
    logging.getLogger("nats.aio").info("nobody wants to know")
    (line,) = stderr.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp")
    assert told == {"event": "it is late", "logger": "nats.aio", "level": "warning"}
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
