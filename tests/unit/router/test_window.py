"""Who waits for room in the publish window, and in which order they get it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from atlas.bus import Bus
from provider_router.streaming.window import PublishWindow

BOUND = 32


class Server:
    """A bus whose server answers when the test says so."""

    def __init__(self) -> None:
        self.nats = SimpleNamespace(new_inbox=lambda: "inbox")
        self.sent: list[str] = []
        self.asked: list[int] = []
        self._answered: Any = None

    async def subscribe(self, _subject: str, handler: Any) -> None:
        self._answered = handler

    def on_disconnect(self, _callback: object) -> None:
        """Nothing breaks here."""

    async def publish(self, subject: str, _data: bytes, *, reply: str = "") -> None:
        self.sent.append(subject)
        if reply:
            self.asked.append(int(reply.rpartition(".")[2]))

    async def answer(self, *, error: int | None = None) -> None:
        """Answer the oldest question."""
        said = {"seq": 1} if error is None else {"error": {"err_code": error, "description": "no"}}
        message = SimpleNamespace(
            subject=f"inbox.{self.asked.pop(0)}", data=json.dumps(said).encode()
        )
        await self._answered(cast("Msg", message))


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def window(server: Server) -> PublishWindow:
    made = PublishWindow(cast("Bus", server), BOUND)
    await made.open()
    for number in range(BOUND):
        await made.publish(f"first {number}", b"")
    return made


async def _wait_in_turn(window: PublishWindow, *names: str) -> list[asyncio.Task[int]]:
    tasks = []
    for name in names:
        tasks.append(asyncio.create_task(window.publish(name, b"")))
        await asyncio.sleep(0)
    return tasks


async def test_room_is_given_in_the_order_of_coming(server: Server, window: PublishWindow) -> None:
    waiting = await _wait_in_turn(window, *"abcdefgh")
    assert len(server.sent) == BOUND
    while not all(task.done() for task in waiting):
        await server.answer()
        await asyncio.sleep(0)
        waiting += await _wait_in_turn(window, "late") if len(waiting) < len("abcdefghi") else []
    assert server.sent[BOUND:] == [*"abcdefgh", "late"]


async def test_no_more_are_let_in_than_there_is_room_for(
    server: Server, window: PublishWindow
) -> None:
    waiting = await _wait_in_turn(window, *"abcdefgh")
    while not all(task.done() for task in waiting):
        assert window.sent - window.passed <= BOUND
        await server.answer()
        await asyncio.sleep(0)


async def test_who_is_called_and_leaves_gives_the_room_to_the_next(
    server: Server, window: PublishWindow
) -> None:
    first, second = await _wait_in_turn(window, "first", "second")
    await server.answer()
    first.cancel()
    await asyncio.wait({first, second}, timeout=5)
    assert (first.cancelled(), second.done()) == (True, True)
    assert server.sent[BOUND:] == ["second"]


async def test_who_leaves_while_waiting_holds_nobody_up(
    server: Server, window: PublishWindow
) -> None:
    first, second = await _wait_in_turn(window, "first", "second")
    first.cancel()
    await asyncio.wait({first})
    await server.answer()
    await asyncio.wait({second}, timeout=5)
    assert server.sent[BOUND:] == ["second"]


async def test_a_refusal_lets_one_ask_again(server: Server, window: PublishWindow) -> None:
    waiting = await _wait_in_turn(window, *"ab")
    while len(server.asked) > 1:
        server.asked.pop()  # their answers come late
    await server.answer(error=10077)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert window.refusals == 1
    assert server.sent[BOUND:] == ["a"]
    assert server.asked == [BOUND + 1]
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
