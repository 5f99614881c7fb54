"""Spans, and the trace context in the headers of messages."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from atlas.contracts.errors import AtlasError
from atlas.telemetry import names

type Attribute = str | int | float | bool | list[str]

_TRACER = trace.get_tracer("atlas")


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, Attribute] | None = None,
    goes_on_from: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """A span that is current while the block runs.

    An error that leaves the block marks the span with the error's code or class, never with its
    text: that may hold content.

    Args:
        name: Without any id.
        kind: By the conventions.
        headers: They name its remote parent, if any.
        attributes: Known from the beginning, so that samplers see them.
        goes_on_from: Headers of whoever did this before and did not end it: the span links theirs.
    """
    with _TRACER.start_as_current_span(
        name,
        context=None if headers is None else propagate.extract(headers),
        kind=kind,
        attributes=dict(attributes or {}),
        links=_links(goes_on_from),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            mark_failed(error.code if isinstance(error, AtlasError) else type(error).__name__)
            raise


def sending(
    template: str,
    attributes: Mapping[str, Attribute],
    *,
    kind: SpanKind = SpanKind.PRODUCER,
) -> AbstractContextManager[Span]:
    """The span of a message that leaves, by the messaging conventions."""
    said = {**_messaging(template, "send"), **attributes}
    return span(names.send(template), kind=kind, attributes=said)


def processing(
    template: str,
    headers: Mapping[str, str] | None,
    attributes: Mapping[str, Attribute] | None = None,
    *,
    kind: SpanKind = SpanKind.CONSUMER,
    goes_on_from: Mapping[str, str] | None = None,
) -> AbstractContextManager[Span]:
    """The span of a message that is handled, by the messaging conventions."""
    return span(
        names.process(template),
        kind=kind,
        headers=headers or {},
        attributes={**_messaging(template, "process"), **(attributes or {})},
        goes_on_from=goes_on_from,
    )


def _messaging(template: str, operation: str) -> dict[str, Attribute]:
    return {
        names.MESSAGING_SYSTEM: "nats",
        names.MESSAGING_OPERATION: operation,
        names.MESSAGING_OPERATION_TYPE: operation,
        names.DESTINATION: template,
    }


def _links(headers: Mapping[str, str] | None) -> list[Link]:
    if not headers:
        return []
    before = trace.get_current_span(propagate.extract(headers, context.Context()))
    found = before.get_span_context()
    return [Link(found)] if found.is_valid else []


def mark_failed(code: str) -> None:
    """Mark the current span with an error's code, never with its text."""
    current = trace.get_current_span()
    current.set_attribute(names.ERROR_TYPE, code)
    current.set_status(Status(StatusCode.ERROR))


def inject(headers: dict[str, str]) -> None:
    """Write the current trace context into message headers; mostly there is none."""
    if context.get_current():
        propagate.inject(headers)


@contextmanager
def remote_parent(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Make the trace context in `headers` current, without a span of its own."""
    token = context.attach(propagate.extract(headers or {}))
    try:
        yield
    finally:
        context.detach(token)
