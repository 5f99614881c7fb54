"""Whether an answer that broke off is continued by the next attempt (contract A3, "Fallback").

Continuing on another provider can corrupt tool calls and personas, so it happens only where the
request asks for it (`fallback.on_failure: continue`), and never where the content does not allow it
or the provider takes no begun answer; then the answer begins anew.
"""

from collections.abc import Iterable, Mapping

import structlog

from atlas.contracts.errors import AtlasError, ErrorCategory, ErrorInfo
from atlas.contracts.inference import ModelRequest
from atlas.contracts.streams import NextStep
from atlas.reading import Reading
from provider_router.providers.base import Adapter
from provider_router.routing.choosing import Candidate, Plan
from provider_router.streaming.attempt import Attempt
from provider_router.streaming.begun import Continuation, Said, said_by
from provider_router.streaming.encoding import Content
from provider_router.streaming.write_errors import HistoryLostError

log = structlog.get_logger("atlas.continuing")


class Continuing:
    """Keeps what a stream says, and decides whether its next attempt goes on from there."""

    def __init__(
        self, request: ModelRequest, adapters: Mapping[str, Adapter], said: Said | None
    ) -> None:
        self._request = request
        self._adapters = adapters
        self._said = said or Said()
        self.is_asked = request.fallback.on_failure == "continue"
        """Where it is not, nothing has to be kept."""
        self._refusing: set[str] = set()
        self._is_on = said is not None

    def add(self, contents: Iterable[Content]) -> None:
        """More was said."""
        self._said.add(contents)

    def continuation(self) -> Continuation | None:
        """What the next attempt goes on from; None when it begins anew."""
        return Continuation(self._request, self._said.text) if self._is_on else None

    def suits(self, candidate: Candidate) -> bool:
        """Whether the next attempt may be made there."""
        return not self._is_on or self._why_not(candidate) is None

    def decide(self, error: ErrorInfo, failed: Attempt, candidate: Candidate) -> NextStep:
        """What becomes of what was said, when `candidate` is asked next; it counts from now on."""
        if refuses_continuation(error, failed):
            self._refusing.add(failed.candidate.full_name)
        why = self._why_not_after(error, candidate)
        self._is_on = why is None
        if why is not None:
            self._said.restart()
            if self.is_asked:
                log.info("not_continued", candidate=candidate.full_name, reason=why)
        return "continue" if self._is_on else "restart"

    def _why_not_after(self, error: ErrorInfo, candidate: Candidate) -> str | None:
        if not self.is_asked:
            return "nobody asked for it"
        if error.code == HistoryLostError.code:
            return "history lacks a part of it"
        return self._why_not(candidate)

    def _why_not(self, candidate: Candidate) -> str | None:
        if candidate.full_name in self._refusing:
            return "the provider refused a begun answer before"
        return why_not_continue(self._said, self._request, candidate, self._adapters)


def why_not_continue(
    said: Said, request: ModelRequest, candidate: Candidate, adapters: Mapping[str, Adapter]
) -> str | None:
    """Why a candidate cannot go on from what was said; None when it can."""
    adapter = adapters[candidate.provider]
    return said.why_not(request) or adapter.why_no_prefill(candidate.model, request)


def step_of_adoption(
    reading: Reading,
    request: ModelRequest,
    plan: Plan | AtlasError,
    adapters: Mapping[str, Adapter],
) -> NextStep | None:
    """What becomes of the words of a router that died; None when the stream ends with them."""
    policy = request.fallback.on_failure
    if policy == "fail" and reading.has_content:
        return None
    if policy == "continue" and isinstance(plan, Plan):
        candidate, said = plan.candidates[0], said_by(reading.content)
        why = why_not_continue(said, request, candidate, adapters)
        if why is None:
            return "continue"
        log.info("not_continued", candidate=candidate.full_name, reason=why)
    return "restart"


def refuses_continuation(error: ErrorInfo, failed: Attempt) -> bool:
    """Whether an attempt failed because its provider takes no begun answer, as far as it tells."""
    return failed.continuation is not None and error.category is ErrorCategory.VALIDATION
