"""What a user of Atlas imports.

For example:

    from atlas.client import Atlas

async with Atlas.connect() as atlas:
    async with atlas.stream("Why is the sky blue?") as stream:
        async for text in stream:
            print(text, end="")

`atlas.client.streams` says what becomes of text when a provider fails in the middle.
"""

from atlas.client.connection import Atlas
from atlas.client.streams import Piece, Stream
from atlas.client.tasks import Task

__all__ = ["Atlas", "Piece", "Stream", "Task"]
