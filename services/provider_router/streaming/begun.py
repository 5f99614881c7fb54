"""An answer that has begun: what was said, and how another attempt goes on from there. Pure."""

from collections.abc import Iterable

from atlas.contracts.inference import Message, ModelRequest, NamedTool, Role, TextFormat
from atlas.contracts.streams import ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from provider_router.providers.base import Reasoning, Text, ToolCall
from provider_router.routing.estimates import estimated_tokens
from provider_router.streaming.encoding import Content


class Said:
    """What a stream has said so far, as far as another attempt has to know it."""

    def __init__(self, contents: Iterable[Content] = ()) -> None:
        self._texts: list[str] = []
        self._obstacle: str | None = None
        self.add(contents)

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def add(self, contents: Iterable[Content]) -> None:
        """More was said."""
        for content in contents:
            match content:
                case Text(text):
                    self._texts.append(text)
                case Reasoning():
                    if self._texts:
                        self._obstacle = "it thought again after it had begun to answer"
                case ToolCall():
                    self._obstacle = "it had begun to call a tool"

    def restart(self) -> None:
        """All of it is void."""
        self._texts, self._obstacle = [], None

    def why_not(self, request: ModelRequest) -> str | None:
        """Why no model can go on from here; None when one that takes begun answers can."""
        text, most, choice = self.text, request.max_tokens, request.tool_choice
        obstacles = (
            (self._obstacle is not None, self._obstacle),
            (not text.strip(), "it had said nothing yet"),
            (
                not isinstance(request.response_format, TextFormat | None),
                "an answer by response_format is written in one piece",
            ),
            (
                choice == "required" or isinstance(choice, NamedTool),
                "the answer must be a tool call",
            ),
            (
                request.messages[-1].role is Role.ASSISTANT,
                "the request itself ends with words of the assistant",
            ),
            (
                most is not None and estimated_tokens(len(text)) >= most,
                "max_tokens is used up",
            ),
        )
        return next((why for is_so, why in obstacles if is_so), None)


class Continuation:
    """A begun answer on its way to another attempt.

    Whitespace at its end is not sent: some providers refuse it, and models begin their tokens with
    it. What the attempt then begins with is joined to it without doubling it.
    """

    def __init__(self, request: ModelRequest, text: str) -> None:
        sent = text.rstrip()
        begun = Message(role=Role.ASSISTANT, content=sent)
        changes: dict[str, object] = {"messages": [*request.messages, begun]}
        if request.max_tokens is not None:
            changes["max_tokens"] = max(1, request.max_tokens - estimated_tokens(len(text)))
        self.request = request.model_copy(update=changes)
        """The request that asks for the rest."""
        self.tokens = estimated_tokens(len(sent))
        """What it sends more than the first one."""
        self._seam = text[len(sent) :]

    def joined(self, contents: list[Content]) -> list[Content]:
        """Content of the attempt, without the whitespace that is there already."""
        if not self._seam:
            return contents
        kept: list[Content] = []
        for content in contents:
            if self._seam and isinstance(content, Text):
                text = self._beyond_seam(content.text)
                if text:
                    kept.append(Text(text))
            else:
                kept.append(content)
        return kept

    def _beyond_seam(self, text: str) -> str:
        size = 0
        while size < min(len(text), len(self._seam)) and text[size] == self._seam[size]:
            size += 1
        self._seam = self._seam[size:] if size == len(text) else ""
        return text[size:]


def said_by(events: Iterable[StreamEvent]) -> Said:
    """What the content events of a stream come to."""
    said = Said()
    for event in events:
        match event:
            case TextDelta():
                said.add([Text(event.text)])
            case ReasoningDelta():
                said.add([Reasoning(event.text)])
            case ToolCallDelta():
                said.add([ToolCall(event.index, event.id, event.name, event.arguments)])
            case _:
                pass
    return said
