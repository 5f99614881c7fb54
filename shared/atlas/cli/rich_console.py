"""Rich's console, which writes nothing to a terminal that came from outside and acts on it.

Rich takes some controls out of text, but passes escapes on. Its own are no part of a text: they
are made of styles when everything is drawn, and stand in segments marked as controls.
"""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from atlas.cli.terminal import harmless


class SafeConsole(Console):
    """A console whose texts are `harmless`."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is drawn, piece by piece."""
        for segment in super().render(renderable, options):
            if segment.control or (text := harmless(segment.text)) == segment.text:
                yield segment
            else:
                yield Segment(text, segment.style)
