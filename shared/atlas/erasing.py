"""What is stored, removed again: subjects, and single messages, of JetStream streams."""

import json

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import StoreRefusedError

_ASK_S = 15.0


async def purge(bus: Bus, stream: str, subject: str, *, keep: int = 0) -> int:
    """Remove what is stored of a subject, but for the last `keep`; gives how many went.

    Raises:
        StoreRefusedError: JetStream refuses.
        RequestTimeoutError: No answer; it may be done or not, and can be repeated.
    """
    what: JsonObject = {"filter": subject} | ({"keep": keep} if keep else {})
    return int(str(await _manage(bus, subjects.jetstream("STREAM.PURGE", stream), what, "purged")))


async def remove(bus: Bus, stream: str, seq: int) -> bool:
    """Remove one message; says whether it was there. Raises as `purge` does."""
    data = json.dumps({"seq": seq}).encode()
    answer = json.loads(
        (await bus.ask(subjects.jetstream("STREAM.MSG.DELETE", stream), data, None, _ASK_S)).data
    )
    return bool(answer.get("success"))


async def _manage(bus: Bus, subject: str, what: JsonObject, field: str) -> object:
    answer = json.loads((await bus.ask(subject, json.dumps(what).encode(), None, _ASK_S)).data)
    if (error := answer.get("error")) is not None:
        raise StoreRefusedError(f"{subject}: {error.get('description', error)}")
    return answer[field]
