"""Large values in the object store `ATLAS_OBJECTS`."""

import json

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError as ObjectMissingError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import NotFoundError, StoreRefusedError


class Objects:
    """Puts and gets JSON values that do not fit a message."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, name: str, value: object) -> str:
        """Keep a value under a name; gives the name.

        Raises:
            StoreRefusedError: It could not be stored; worth another try.
        """
        data = json.dumps(value, ensure_ascii=False).encode()
        try:
            store = await self._bus.jetstream.object_store(subjects.OBJECTS)
            await store.put(name, data)
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise StoreRefusedError(f"object {name!r} was not stored: {error}") from error
        return name

    async def get(self, name: str) -> object:
        """The value of a name.

        Raises:
            NotFoundError: There is none; it may have expired.
            StoreRefusedError: It could not be read; worth another try.
        """
        try:
            store = await self._bus.jetstream.object_store(subjects.OBJECTS)
            data = (await store.get(name)).data
        except ObjectMissingError as error:
            raise NotFoundError(f"there is no object {name!r} in {subjects.OBJECTS}") from error
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise StoreRefusedError(f"object {name!r} was not read: {error}") from error
        return json.loads(data or b"null")
