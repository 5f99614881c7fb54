"""What stands in a log: that something failed, where and why, and nothing that users wrote."""

import io
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
