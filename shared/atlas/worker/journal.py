"""What tools answered, kept until the attempt is over and beyond: a repeated delivery reads it.

The streams of an attempt are found again by their ids, and so are the calls that they asked for:
what was answered before a crash is not called again. It stands in the object store, like what is
too long for the model to read at once.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from atlas.contracts.base import Contract
from atlas.contracts.errors import NotFoundError
from atlas.objects import Objects


class Entry(Contract):
    """What the model reads of one call."""

    text: str
    error: str | None = None
    whole: str | None = None
    """The object that holds all of a long answer."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The answers to the calls of one attempt."""

    objects: Objects
    tenant: str

    async def read(self, call: str) -> Entry | None:
        """What was kept of a call.

        Raises:
            StoreRefusedError: NATS is away.
        """
        try:
            return Entry.model_validate(await self.objects.get(f"{self.tenant}.{call}"))
        except (NotFoundError, ValidationError):
            return None

    async def keep(self, call: str, entry: Entry) -> None:
        """Keep it.

        Raises:
            StoreRefusedError: NATS is away.
        """
        await self.objects.put(f"{self.tenant}.{call}", entry.model_dump(exclude_none=True))

    async def keep_whole(self, call: str, text: str) -> str:
        """Keep a long answer; gives the name of its object.

        Raises:
            StoreRefusedError: NATS is away.
        """
        return await self.objects.put(f"{self.tenant}.{call}.whole", text)

    async def whole(self, name: str) -> str:
        """A long answer.

        Raises:
            NotFoundError: It is gone.
            StoreRefusedError: NATS is away.
        """
        return str(await self.objects.get(name))
