"""Every error that vendors are known to tell, over real HTTP: what it is taken for, what follows.

The table is in vendor_errors.py.
"""

import random
from collections import Counter

import pytest
from tests.support.provider_server import Reply, serving

from atlas.contracts.errors import ProviderError
from provider_router.providers.classification import blame
from provider_router.routing.choosing import Candidate
from provider_router.routing.prices import Pricing
from provider_router.routing.retry import next_attempt

from .collected import read
from .vendor_errors import CASES, Case, Next

FIRST = Candidate("a", "m", "", Pricing("openai", "m"))
SECOND = Candidate("b", "m", "", Pricing("openai", "m"))
_MINUTE_MS = 60_000


async def raised_by(case: Case, adapters) -> ProviderError:
    """The error with which the adapter's stream ends."""
    reply = Reply(case.body, case.status, {"Content-Type": "application/json", **case.headers})
    async with serving(reply) as server:
        adapter = adapters(case.kind, server.url, api=case.api)
        with pytest.raises(ProviderError) as raised:
            await read(adapter)
        assert len(server.requests) == 1, "an adapter never retries"
    return raised.value


def follows(error: ProviderError) -> Next:
    """What the router does after this error as the first of two candidates, and as the only one."""
    info = error.to_info()

    def after(candidates: list[Candidate]) -> object:
        decided = next_attempt(
            info, candidates, FIRST, attempt=1, max_attempts=3, jitter=random.Random(1)
        )
        return decided and decided.candidate

    match after([FIRST, SECOND]), after([FIRST]):
        case Candidate() as other, Candidate():
            assert other == SECOND
            return "retry"
        case Candidate() as other, None:
            assert other == SECOND
            return "another"
        case None, None:
            return "give up"
    raise AssertionError("without another candidate no more is tried than with one")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_an_error_is_taken_for_what_it_is(case: Case, adapters):
    error = await raised_by(case, adapters)
    info, verdict = error.to_info(), case.verdict
    assert type(error) is verdict.error
    assert (info.category, info.retryable) == (verdict.category, verdict.is_retryable)
    assert info.retry_after_ms == case.retry_after_ms
    assert blame(info.category) == verdict.blame
    asks_too_long = (case.retry_after_ms or 0) > _MINUTE_MS
    assert follows(error) == ("another" if asks_too_long else verdict.next)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_an_error_names_its_provider_and_its_status(case: Case, adapters):
    error = await raised_by(case, adapters)
    assert error.provider == "acme"
    assert error.message.startswith("acme")
    if case.status != 200:
        assert error.http_status == case.status
        assert f"answered {case.status}" in error.message


@pytest.mark.parametrize("case", [one for one in CASES if one.headers], ids=lambda case: case.id)
async def test_the_headers_of_a_refusal_reach_the_router(case: Case, adapters):
    error = await raised_by(case, adapters)
    assert {name.lower(): value for name, value in case.headers.items()}.items() <= dict(
        error.headers
    ).items()


def test_the_table_tells_every_case_apart():
    twice = [
        name for name, count in Counter((one.id, one.body) for one in CASES).items() if count > 1
    ]
    assert twice == []
