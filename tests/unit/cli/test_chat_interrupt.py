"""Ctrl-C at any moment: what runs in the loop's thread is cancelled, and seen to its end."""

import asyncio
import threading

import pytest

from atlas.cli import chat
from atlas.cli.output import Output


@pytest.fixture
def conversation():
    with chat._background() as loop:
        yield chat._Conversation(loop, Output(as_json=True), chat.Wanted())


def interrupted_after(monkeypatch: pytest.MonkeyPatch, began: threading.Event | None) -> None:
    """Ctrl-C comes before the main thread knows the future of what it has started."""
    start = asyncio.run_coroutine_threadsafe

    def interrupted(*args):
        start(*args)
        if began is not None:
            assert began.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)


def test_what_runs_before_its_future_is_known_is_cancelled_and_cleans_up(conversation, monkeypatch):
    began, cleaned_up = threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned_up.set()

    interrupted_after(monkeypatch, began)
    with pytest.raises(KeyboardInterrupt):
        conversation._call(work())
    assert cleaned_up.is_set()


def test_what_has_not_begun_never_does(conversation, monkeypatch):
    held, has_run = threading.Event(), threading.Event()

    async def work() -> None:
        has_run.set()

    loop = conversation._loop
    loop.call_soon_threadsafe(held.wait, 0.2)
    interrupted_after(monkeypatch, None)
    with pytest.raises(KeyboardInterrupt):
        conversation._call(work())
    done = threading.Event()
    loop.call_soon_threadsafe(done.set)
    assert done.wait(10)
    assert not has_run.is_set()
