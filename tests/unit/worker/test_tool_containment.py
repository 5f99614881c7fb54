"""Whatever a tool does, its call ends with something that a model can read."""

import asyncio
import contextlib
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from tests.support.waiting import eventually

from atlas.contracts.errors import InvalidRequestError
from atlas.worker import ToolContext
from atlas.worker.calling import Caller, CallResult
from atlas.worker.function_tools import FunctionTool
from atlas.worker.progress import LatestProgress
from atlas.worker.results import beginning, text_of
from atlas.worker.threads import Threads
from atlas.worker.toolbox import Toolbox
from atlas.worker.tools import ToolResultError
from atlas.worker.worker import WorkerApp

MOST_BYTES = 10_000


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
async def caller():
    made = Caller(Threads(2), 5.0, MOST_BYTES)
    yield made
    await made.close()


def tool(function: Any, **more: Any) -> FunctionTool:
    return FunctionTool(function, description="x", **more)


async def call(caller: Caller, function: Any, within_s: float | None = None) -> CallResult:
    context = ToolContext("default", "t", "s", "k", lambda _: None)
    return await caller.call(tool(function), "{}", context, within_s=within_s)


async def test_text_is_read_as_it_is_and_values_as_json(caller):
    assert await call(caller, lambda_of("a")) == CallResult("a")
    assert await call(caller, lambda_of({"a": [1, None, "ä"]})) == CallResult(
        '{"a": [1, null, "ä"]}'
    )
    assert await call(caller, lambda_of(None)) == CallResult("null")


def lambda_of(value: Any) -> Any:
    def give() -> Any:
        return value

    return give


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\xff", "gave bytes"),
        ({"a": float("nan")}, "a dict that is no JSON"),
        (float("inf"), "a float that is no JSON"),
        ({"a": b"\xff"}, "a dict that is no JSON"),
        (object(), "a object that is no JSON"),
        ("x" * (MOST_BYTES + 1), "more than 10,000 bytes"),
        ("ä" * (MOST_BYTES // 2 + 1), "more than 10,000 bytes"),
        (["x"] * MOST_BYTES, "more than 10,000 bytes"),
    ],
)
async def test_rubbish_and_too_much_are_a_short_error(caller, value, says):
    result = await call(caller, lambda_of(value))
    assert result.error == "tool_result"
    assert says in result.text


def test_what_utf_8_cannot_say_is_replaced():
    assert text_of("a\ud800b", 100) == "a?b"


def test_a_value_within_itself_is_no_json():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ToolResultError, match="no JSON"):
        text_of(loop, 100)


def test_a_beginning_ends_with_a_whole_character():
    assert beginning("äöü", 3) == "ä"


def exits() -> None:
    sys.exit(3)


async def exits_inside() -> None:
    sys.exit(3)


def raises() -> None:
    raise ValueError("no such street")


def stops() -> None:
    raise StopIteration


async def cancels_itself() -> None:
    raise asyncio.CancelledError


async def refuses() -> None:
    raise InvalidRequestError("give a street")


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (raises, "tool_failed", "ValueError: no such street"),
        (exits, "tool_failed", "RuntimeError: SystemExit: 3"),
        (exits_inside, "tool_failed", "SystemExit: 3"),
        (stops, "tool_failed", "RuntimeError: StopIteration: "),
        (cancels_itself, "tool_failed", "the tool cancelled itself"),
        (refuses, "invalid_request", "give a street"),
    ],
)
async def test_what_a_tool_raises_the_model_reads(caller, function, error, text):
    assert await call(caller, function) == CallResult(text, error)


@pytest.mark.parametrize("captured", [False, True])
async def test_the_log_holds_what_a_tool_said_only_where_content_is_captured(
    caller, monkeypatch, captured
):
    if captured:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    with structlog.testing.capture_logs() as logs:
        await call(caller, raises)
    (line,) = [one for one in logs if one["event"] == "tool_raised"]
    assert line["error"] == "ValueError"
    assert ("exc_info" in line) is captured
    if not captured:
        assert line["frames"][-1].endswith("in raises")
        assert "no such street" not in str(line)


async def test_a_function_that_hangs_is_given_up_and_others_go_on(released):
    caller = Caller(Threads(2), 0.1, MOST_BYTES)

    def hang() -> None:
        released.wait(30)

    result = await call(caller, hang)
    assert (result.error, result.text) == (
        "tool_timeout",
        "no answer within 0.1 s, so the call was given up",
    )
    assert (await call(caller, lambda_of("on"))).text == "on"


async def test_no_more_functions_hang_than_there_are_threads(released):
    threads = Threads(2)
    caller = Caller(threads, 0.1, MOST_BYTES)
    began: list[int] = []

    def hang() -> str:
        began.append(1)
        released.wait(30)
        return "late"

    results = await asyncio.gather(*(call(caller, hang) for _ in range(5)))
    assert {one.error for one in results} == {"tool_timeout"}
    assert len(began) == 2
    assert told(threads) == (2, 1)

    async def on() -> dict[str, int]:
        return {"n": 1}

    assert (await call(caller, on)).text == '{"n": 1}'  # needs none of them
    released.set()
    async with asyncio.timeout(10):
        while (await call(caller, lambda_of("again"))).error:
            pass
    await eventually(lambda: not threads.left_behind)
    assert told(threads) == (None, 0)


def told(threads: Threads) -> tuple[object, int]:
    """What a worker tells of calls that hang: their number, and how many troubles."""
    desk: Any = SimpleNamespace(running=0, concurrency=1, load={}, done=0)
    context: Any = SimpleNamespace(instance="w")
    app = WorkerApp(context, desk, {}, Toolbox.of([], {}), threads)
    return app.health().get("hung_tools"), len(app.troubles())


async def test_a_coroutine_that_will_not_be_cancelled_holds_nobody_up():
    caller = Caller(Threads(1), 0.1, MOST_BYTES)
    end = asyncio.Event()

    async def stubborn() -> str:
        while not end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await end.wait()
        return "late"

    began = time.monotonic()
    assert (await call(caller, stubborn)).error == "tool_timeout"
    await caller.close()
    assert time.monotonic() - began < 4
    end.set()
    await asyncio.sleep(0)


async def test_whoever_calls_may_be_cancelled_and_the_tool_with_it(caller):
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    doing = asyncio.create_task(call(caller, wait))
    await entered.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    async with asyncio.timeout(5):
        await left.wait()


async def test_the_time_that_is_left_bounds_a_call_too(caller):
    async def wait() -> None:
        await asyncio.Event().wait()

    assert (await call(caller, wait, within_s=0.05)).error == "tool_timeout"


async def test_of_words_in_quick_succession_the_last_is_told():
    told: list[Any] = []
    spoke = asyncio.Event()

    async def tell(what: Any) -> None:
        told.append(what)
        spoke.set()

    progress = LatestProgress("dig", tell)
    telling = asyncio.create_task(progress.run())

    def speak() -> None:
        for n in range(1000):
            progress.put({"n": n})

    await asyncio.to_thread(speak)
    async with asyncio.timeout(5):
        while not told or told[-1]["progress"] != {"n": 999}:
            spoke.clear()
            await spoke.wait()
    telling.cancel()
    assert len(told) < 10
    assert told[-1] == {"tool": "dig", "progress": {"n": 999}}
    with pytest.raises(InvalidRequestError, match="give JSON values"):
        progress.put({"x": object()})
