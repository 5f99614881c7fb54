"""What an attempt teaches about the model that answered: the routers hear it. Pure but for `tell`.

Only what is surely the model's fault is told: its answer, handed on as it was, is no JSON or breaks
the schema, or it is blank; or its provider refused the content. What a handler made of answers is
its own.
"""

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import AtlasError, ErrorCategory, ProviderContentFilterError
from atlas.contracts.inference import FinishReason, ModelResponse
from atlas.contracts.streams import AnswerFault, StreamFeedback
from atlas.worker.output import OutputMismatchError

_LONGEST_REASON = 1_024


class EmptyAnswerError(AtlasError):
    """A model answered nothing; another attempt may do better."""

    code = "empty_answer"
    category = ErrorCategory.VALIDATION
    retryable = True


def check_not_empty(given: object, last: ModelResponse | None) -> None:
    """Refuse a model's blank answer that is handed on as the output.

    Raises:
        EmptyAnswerError: It is one.
    """
    if last is not None and given == last.content and not last.content.strip():
        raise EmptyAnswerError(f"{last.model} answered nothing", provider=last.provider)


def fault_of(
    failure: AtlasError, given: object, last: ModelResponse | None
) -> tuple[AnswerFault, str] | None:
    """What of a failed attempt is the fault of its last answer, and in which stream."""
    if isinstance(failure, ProviderContentFilterError):
        stream_id = (failure.details or {}).get("stream_id")
        return (AnswerFault.REFUSED, stream_id) if isinstance(stream_id, str) else None
    if last is None or given != last.content:
        return None
    if isinstance(failure, EmptyAnswerError):
        return AnswerFault.EMPTY, last.stream_id
    if isinstance(failure, OutputMismatchError) and last.finish_reason is FinishReason.STOP:
        return AnswerFault.MALFORMED, last.stream_id
    return None


async def tell(bus: Bus, tenant: str, fault: tuple[AnswerFault, str], failure: AtlasError) -> None:
    """Tell the routers; nobody waits for an answer, and one that is lost is nothing."""
    feedback = StreamFeedback(
        stream_id=fault[1], fault=fault[0], reason=failure.message[:_LONGEST_REASON]
    )
    await bus.send(subjects.api(tenant, "stream.feedback"), feedback)
