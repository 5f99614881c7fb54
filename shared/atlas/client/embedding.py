"""Many texts to vectors: cut into requests whose answers fit into a message, joined again."""

from collections.abc import Mapping, Sequence

from atlas import subjects
from atlas.bus import Bus
from atlas.client.requests import body
from atlas.contracts.errors import ConflictError, NoResponderError, PayloadTooLargeError
from atlas.contracts.inference import EmbedRequest, EmbedResponse

_REQUEST_SHARE = 0.5
"""Of a message that the texts of a request may fill; JSON may write a character as several."""
_MOST_TEXTS = 2_048
"""Of a request, by the contract."""


async def embed(
    bus: Bus,
    tenant: str,
    texts: Sequence[str],
    fields: Mapping[str, object],
    *,
    headers: dict[str, str],
    timeout_s: float,
) -> EmbedResponse:
    """One vector per text, of one model, by as many requests as it takes.

    The first answer settles the model for the rest, and a refusal for its size how many texts a
    request may hold.
    """
    door = subjects.api(tenant, "embed")
    most_texts = min(max(len(texts), 1), _MOST_TEXTS)
    most_bytes = int(bus.max_payload_bytes * _REQUEST_SHARE)
    whole: EmbedResponse | None = None
    done = 0
    while whole is None or done < len(texts):
        batch = _first_batch(texts[done:], most_texts, most_bytes)
        pinned = {} if whole is None else {"model": fields.get("model") or whole.model}
        request, _ = body(EmbedRequest, {**fields, **pinned, "input": batch})
        try:
            answer = await bus.request(
                door, request, EmbedResponse, headers=headers, timeout_s=timeout_s
            )
        except PayloadTooLargeError as error:
            most_texts = _fewer(error, len(batch))
            continue
        except NoResponderError as error:
            raise NoResponderError(
                f"nobody answers on {door}: no router runs; start one with `atlas up`"
            ) from error
        whole = answer if whole is None else _joined(whole, answer)
        done += len(batch)
    return whole


def _fewer(error: PayloadTooLargeError, asked: int) -> int:
    """How many texts to send instead, when the router said and it helps."""
    most = (error.details or {}).get("max_inputs")
    if not isinstance(most, int) or not 0 < most < asked:
        raise error
    return most


def _joined(first: EmbedResponse, second: EmbedResponse) -> EmbedResponse:
    lengths = {len(first.embeddings[0]), len(second.embeddings[0])}
    if first.model != second.model or len(lengths) != 1:
        raise ConflictError(
            f"the texts were embedded by {first.provider}/{first.model} and then by "
            f"{second.provider}/{second.model}, whose vectors cannot be compared; name the model"
        )
    return second.model_copy(
        update={
            "embeddings": first.embeddings + second.embeddings,
            "usage": first.usage + second.usage,
            "cost": first.cost + second.cost,
        }
    )


def _first_batch(texts: Sequence[str], most_texts: int, most_bytes: int) -> list[str]:
    """As many texts from the beginning as a request takes; at least one."""
    size = 0
    for count, text in enumerate(texts[:most_texts]):
        size += len(text.encode())
        if count and size > most_bytes:
            return list(texts[:count])
    return list(texts[:most_texts])
