"""What routers know of providers, and whom they would ask."""

from atlas import subjects
from atlas.bus import Bus
from atlas.client.requests import Prompt, body, messages_of
from atlas.contracts.catalogue import Explanation, ProvidersReply, ProvidersRequest
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import ModelRequest

_ANSWER_S = 5.0


async def providers(
    bus: Bus, tenant: str, request: ProvidersRequest | None = None
) -> ProvidersReply:
    """As `Atlas.providers` says."""
    return await bus.request(
        subjects.api(tenant, "providers"),
        request or ProvidersRequest(),
        ProvidersReply,
        timeout_s=_ANSWER_S,
    )


async def explanation(bus: Bus, tenant: str, prompt: Prompt, **fields: object) -> Explanation:
    """As `Atlas.explain` says."""
    request, _ = body(ModelRequest, {"messages": messages_of(prompt), **fields})
    reply = await providers(bus, tenant, ProvidersRequest(explain=request))
    if reply.explanation is None:
        raise InvalidRequestError("this router explains nothing; it is older than the client")
    return reply.explanation
