"""What a user of Atlas imports.

For example:

    from atlas.client import Atlas

async with Atlas.connect() as atlas:
    async with atlas.stream("Why is the sky blue?") as stream:
        async for text in stream:
            print(text, end="")

`atlas.client.streams` says which ways of reading there are, `atlas.client.pieces` what becomes of
text when a provider fails in the middle.
"""

from atlas.client.connection import Atlas
from atlas.client.pieces import Piece
from atlas.client.streams import Stream
from atlas.client.tasks import Task

__all__ = ["Atlas", "Piece", "Stream", "Task"]
