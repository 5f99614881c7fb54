"""What spans and metrics may tell of a stream: bounded, whatever users send."""

import json

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from atlas.contracts.inference import Message, ModelRequest, Role
from atlas.provider_settings import ModelSettings, ProviderSettings
from atlas.reading import Reading
from atlas.telemetry import names
from provider_router.routing.catalogue import Catalogue
from provider_router.routing.prices import Pricing
from provider_router.streaming import observing
from provider_router.streaming.ledger import AttemptUsage, Ledger
from provider_router.streaming.spoken import spoken

HOUSE = ProviderSettings(
    kind="openai", base_url="http://gpu:8000/v1", models=[ModelSettings(name="small")]
)


def _request(**said: object) -> ModelRequest:
    return ModelRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}], **said})


def test_a_model_that_a_user_made_up_is_counted_as_any_other():
    catalogue = Catalogue({"house": HOUSE})
    made_up = catalogue.choice(_request(model="house/made-up")).able[0]
    assert made_up.full_name == "house/made-up"  # its provider may know it
    labels = observing._labels("house", Pricing("openai", "made-up"), catalogue.knows)
    assert labels[names.REQUEST_MODEL] == labels[names.RESPONSE_MODEL] == "_OTHER"
    known = observing._labels("house", Pricing("openai", "small"), catalogue.knows)
    assert known[names.REQUEST_MODEL] == "small"


def test_the_span_of_a_stream_that_was_handed_over_says_so_and_is_no_failure():
    span = TracerProvider().get_tracer("test").start_span("chat small")
    used = AttemptUsage(Pricing("openai", "small"), 9, has_response=True, provider="house")
    observing.annotate(span, None, Ledger(attempts=[used]), used)
    assert isinstance(span, ReadableSpan)
    assert span.status.is_unset
    assert span.attributes is not None
    assert span.attributes[names.OUTCOME] == "handed_over"
    assert span.attributes[names.INPUT_TOKENS] == 9


def test_what_was_said_is_cut_from_its_beginning_and_files_are_only_named():
    old = Message(role=Role.USER, content="o" * 30_000)
    new = Message.model_validate(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "n" * 30_000},
                {"type": "image", "data": "c2VjcmV0", "media_type": "image/png"},
            ],
        }
    )
    request = _request(system_prompt="Be brief").model_copy(update={"messages": [old, new]})
    told = spoken(request, Reading())
    first, last = json.loads(told[names.INPUT_MESSAGES])
    assert last == {
        "role": "user",
        "parts": [{"type": "text", "content": "n" * 30_000}, {"type": "image"}],
    }
    assert first["parts"][0]["content"] == "o" * 2_576 + "… (27424 more)"
    assert json.loads(told[names.SYSTEM_INSTRUCTIONS]) == [{"type": "text", "content": "Be brief"}]


def test_messages_without_end_do_not_make_an_attribute_without_end():
    request = _request(messages=[{"role": "user", "content": "again"}] * 50_000)
    told = spoken(request, Reading())[names.INPUT_MESSAGES]
    assert len(told) < 100_000
    assert json.loads(told)[-1]["parts"][0]["content"] == "again"
