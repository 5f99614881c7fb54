"""Which failures are the fault of the model that answered."""

import pytest

from atlas.contracts.errors import AtlasError, BudgetExceededError, ProviderContentFilterError
from atlas.contracts.inference import Cost, FinishReason, ModelResponse, StreamMetrics, Usage
from atlas.contracts.streams import AnswerFault
from atlas.worker.faults import EmptyAnswerError, check_not_empty, fault_of
from atlas.worker.output import OutputMismatchError

MISMATCH, EMPTY = OutputMismatchError("no JSON"), EmptyAnswerError("nothing")
REFUSED = ProviderContentFilterError("no", details={"stream_id": "s9"})


def answer(content: str, finish: FinishReason = FinishReason.STOP) -> ModelResponse:
    return ModelResponse(
        stream_id="s1",
        content=content,
        model="a/one",
        provider="a",
        finish_reason=finish,
        usage=Usage(),
        cost=Cost(),
        metrics=StreamMetrics(duration_ms=1, paused_ms=0, chunks=1, attempts=1),
    )


@pytest.mark.parametrize(
    ("failure", "given", "last", "fault"),
    [
        (MISMATCH, "x", answer("x"), (AnswerFault.MALFORMED, "s1")),
        (EMPTY, " ", answer(" "), (AnswerFault.EMPTY, "s1")),
        (REFUSED, None, None, (AnswerFault.REFUSED, "s9")),
        (ProviderContentFilterError("no"), None, None, None),
        (MISMATCH, "X", answer("x"), None),
        (MISMATCH, {"x": 1}, answer("x"), None),
        (MISMATCH, "x", None, None),
        (MISMATCH, "x", answer("x", FinishReason.LENGTH), None),
        (BudgetExceededError("spent"), "x", answer("x"), None),
    ],
    ids=[
        "the model's own words break the schema",
        "the model said nothing",
        "its provider refused",
        "refused without an answer",
        "the handler changed the words",
        "the handler made a value of its own",
        "no model was asked",
        "the answer was cut off",
        "the budget is spent",
    ],
)
def test_only_what_is_surely_the_models_fault_is_told(failure, given, last, fault):
    assert fault_of(failure, given, last) == fault


@pytest.mark.parametrize(
    ("given", "last"), [("", None), ("x", answer("x")), ("", answer("x")), (None, answer(""))]
)
def test_an_output_that_is_no_empty_answer_passes(given, last):
    check_not_empty(given, last)


def test_an_empty_answer_that_is_handed_on_fails_and_may_be_tried_again():
    with pytest.raises(AtlasError, match="a/one answered nothing") as caught:
        check_not_empty(" \n", answer(" \n"))
    assert caught.value.retryable
