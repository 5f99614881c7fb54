"""`atlas events`, and who answers: what happens, and what to tell of it beforehand."""

import json
from contextlib import aclosing

from atlas.cli.figures import clock
from atlas.cli.output import Output
from atlas.cli.session import DONE, connected
from atlas.client import Atlas
from atlas.contracts.catalogue import ProvidersReply
from atlas.contracts.errors import NoResponderError, RequestTimeoutError
from atlas.contracts.events import Event

ONLY_MOCK = "no ANTHROPIC_API_KEY / OPENAI_API_KEY / OLLAMA_HOST: the mock provider answers"
NO_REAL_MODEL = (
    "no provider but the mock has a model, so it answers: name one, such as "
    "ATLAS_ROUTER__DEFAULT_MODEL=ollama/llama3.2 for the router"
)
NO_ROUTER = "no router answers yet: the work is kept and begins when one runs (`atlas up`)"

_HEARTBEATS = {"service.health", "service.metrics"}


async def tell_who_answers(atlas: Atlas, output: Output) -> None:
    """Say on stderr when only the mock answers, or nobody yet."""
    try:
        reply = await atlas.providers()
    except (NoResponderError, RequestTimeoutError):
        output.note(NO_ROUTER)
        return
    tell_of_the_mock(reply, output)


def tell_of_the_mock(reply: ProvidersReply, output: Output) -> None:
    """Say on stderr when only the mock answers."""
    mocks = {one.provider for one in reply.providers if one.kind == "mock"}
    if len(mocks) == len(reply.providers):
        output.note(ONLY_MOCK)
    elif all(one.provider in mocks for one in reply.models):
        output.note(NO_REAL_MODEL)


async def events(source: str, type_: str, *, everything: bool, as_json: bool) -> int:
    """Show what the services tell until Ctrl-C; heartbeats only when asked for."""
    output = Output(as_json=as_json)
    wants_all = everything or type_ in _HEARTBEATS
    async with connected() as atlas, aclosing(atlas.events(source, type_)) as heard:
        async for event in heard:
            if wants_all or event.type not in _HEARTBEATS:
                output.show(event, _event(event))
    return DONE


def _event(event: Event) -> str:
    data = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in event.data.items()
    )
    return f"{clock(event.at_ms)} {event.source} {event.type} {data}".rstrip()
