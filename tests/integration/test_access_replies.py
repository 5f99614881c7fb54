"""A reply subject that is no inbox: whoever answered there would write in a service's name."""

import pytest
import pytest_asyncio

from atlas import subjects
from atlas.contracts.catalogue import ProvidersReply, ProvidersRequest
from atlas.provider_settings import MockSettings, ModelSettings, ProviderSettings
from tests.support.router import TENANT, Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREIGN = (
    subjects.task_write("other", "x1"),
    subjects.stream_write("other", "x1"),
    subjects.work("other", "code", "high"),
    subjects.bucket_key(subjects.OPEN_TASKS, "other.x1"),
    "elsewhere",
    "_INBOXES.x",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack_(tmp_path_factory: pytest.TempPathFactory):
    slow = ProviderSettings(
        kind="mock",
        models=[ModelSettings(name="slow")],
        mock=MockSettings(token_ms=50, tokens=10_000),
    )
    async with stack(tmp_path_factory.mktemp("replies"), {"slow": slow}) as running:
        yield running


async def _answered(stack_: Stack, subject: str, body: bytes, reply: str) -> bool:
    """Whether something came to a reply subject, once the router answers whoever asks later."""
    heard = await stack_.bus.open(reply)
    await stack_.bus.flush()
    await stack_.bus.publish(subject, body, reply=reply)
    if subject.endswith(".control"):  # its answer may take the time that an owner has to give it
        await stack_.bus.ask(subject, body, timeout_s=5)
    door = subjects.api(TENANT, "providers")
    await stack_.bus.request(door, ProvidersRequest(), ProvidersReply)
    await stack_.bus.flush()
    count = heard.pending_msgs
    await heard.unsubscribe()
    return count > 0


@pytest.mark.parametrize("reply", FOREIGN)
@pytest.mark.parametrize(
    ("subject", "body"),
    [
        (subjects.api(TENANT, "providers"), b"{}"),
        (subjects.api(TENANT, "stream.history"), b'{"stream_id": "s1"}'),
        (subjects.api(TENANT, "embed"), b'{"inputs": ["x"]}'),
        (subjects.stream_control(TENANT, "s1"), b'{"action": "pause"}'),
    ],
)
async def test_a_router_answers_into_inboxes_only(
    stack_: Stack, subject: str, body: bytes, reply: str
) -> None:
    assert not await _answered(stack_, subject, body, reply)


@pytest.mark.parametrize("reply", FOREIGN)
async def test_the_owner_of_a_stream_answers_into_inboxes_only(stack_: Stack, reply: str) -> None:
    async with stack_.atlas.stream("Go on.", model="slow/slow", cancel_on_exit=True) as stream:
        await anext(aiter(stream))
        subject = subjects.stream_control(TENANT, stream.stream_id)
        assert not await _answered(stack_, subject, b'{"action": "pause"}', reply)


async def test_an_inbox_of_ones_own_is_answered(stack_: Stack) -> None:
    reply = subjects.inbox("acme", "publisher") + ".x"
    assert await _answered(stack_, subjects.api(TENANT, "providers"), b"{}", reply)
