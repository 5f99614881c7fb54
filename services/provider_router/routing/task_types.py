r"""Which kind of task a request is, when it does not say so. Pure, and quick on any size.

The rules, in order of what they weigh:

1. The last user message counts; when it tells nothing ("and shorter, please"), the ones before it
   do, up to three back, each at 0.7 of the next. The system prompt counts at 0.6 beside them.
2. In a message, the *instruction* counts: its first paragraph (up to a colon when something
   follows) and its last one. Among the first four words a cue weighs double, in the rest of the
   first paragraph 1.3, in the last 1.2. Of a first paragraph beyond 300 characters only the first
   sentence may be an instruction (1.0), of a last one beyond 200 only the last sentence (0.8, or
   0.4 after an opening that is an instruction by its look). Everything
   between is *material*, pasted rather than asked, and weighs 0.3: an article full of code words
   that ends with "summarize this" is to be summarized. What an instruction quotes weighs nothing.
3. Cues are words and phrases (`task_cues`). The strongest of a task type counts in full, the
   second by half, the third by a quarter, and so on: many weak words do not outvote a clear one.
4. Form counts too: fenced or bare code and tracebacks (code 2.5), LaTeX, equations and sums
   (math 3), Markdown tables and CSV lines (data 2.5), JSON asked for by `response_format`
   (extraction 2.5 with a schema, 1.5 without), words in tools' names (at 0.4).
5. What reaches less than 2 is conversational. Of equals, the one named first in `TaskType` wins.

Only the first 1,000 and the last 1,000 characters of a text are looked at. Rules and weights were
set against the table of prompts in the tests; a request that knows better says `task_type`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from atlas.contracts.inference import (
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    ModelRequest,
    Role,
    TaskType,
    TextPart,
)
from provider_router.routing.task_cues import PHRASE_CUES, PIECE_CUES, WORD_CUES, Cue

_END_CHARACTERS = 1_000
_OPENING_CHARACTERS = 300
_CLOSING_CHARACTERS = 200
_COLON_WITHIN_CHARACTERS = 120
_LEAST_SCORE = 2.0
_MESSAGES_BACK = 4
_MESSAGES_SEEN = 64
_TOOLS_SEEN = 16

_FIRST_WORDS, _FIRST_FACTOR = 4, 2.0
_OPENING_FACTOR, _CLOSING_FACTOR, _MATERIAL_FACTOR = 1.3, 1.2, 0.3
_FIRST_SENTENCE_FACTOR = 1.0
_LAST_SENTENCE_FACTOR, _LAST_OF_MATERIAL_FACTOR = 0.8, 0.4
_SYSTEM_FACTOR, _EARLIER_FACTOR, _TOOL_FACTOR = 0.6, 0.7, 0.4

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_POLITE_WORDS: str = """
please pls can could would you me i want need hi hello hey kindly help just now ok so then
bitte kannst du mir könntest s'il te plaît peux tu por favor puedes per favore пожалуйста
to the a an i'd like
"""
_POLITE = frozenset(_POLITE_WORDS.split())
"""What may stand before the first word of an instruction."""
_QUOTED = re.compile(r"[\"“„«][^\"”“»\n]{1,200}[\"”“»]")
_COLON = re.compile(r":\s")
_SENTENCE_END = re.compile(r"[.!?。]\s")

_CODE = re.compile(
    r"^[ \t]*(?:def \w+\(|class \w+[(:{]|#include\b|import \w+$|from \w[\w.]* import|func \w+\("
    r"|(?:public|private|static) \w+|fn \w+\(|const \w+ =|let \w+ =|SELECT .+ FROM"
    r"|at \w[\w.]*\(|Traceback \(most recent)",
    re.MULTILINE,
)
_MATH = re.compile(
    r"\\(?:frac|int|sum|sqrt|lim|begin\{)|[∫∑√∂≤≥π²³]|[a-z]\^\d|\b\d*[xyz] ?[-+*/] ?\d"
    r"|\d[xyz]? ?[-+] ?\d*[xyz]? ?= ?\d|\d ?[*\u00d7÷^] ?\d|\d \+ \d|\d ?% of\b"
)
_MAY_BE_MATH = re.compile(r"[\d\\]|[^\x00-\x7f]")
_TABLE = re.compile(
    r"^ *\|[^|\n]+\|[^|\n]+\||^(?:[^,\n]{1,40},){2,20}[^,\n]{1,40}\n(?:[^,\n]{1,40},){2,20}"
    r"-?[\d.]+|^[^\t\n]+\t[^\t\n]+\t.*\d",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class DetectedTask:
    """What a request was taken for, and why."""

    task_type: TaskType
    why: str
    """The strongest cue, such as `'summarize' in the instruction`."""
    score: float


type _Scores = dict[TaskType, list[tuple[float, str]]]
"""The weights found for each task type, with their cues."""


def detect_task_type(request: ModelRequest) -> DetectedTask:
    """The task type of a request, by the rules above."""
    shared: _Scores = {}
    _add_format(shared, request)
    for text in _system_texts(request):
        _add_text(shared, text, _SYSTEM_FACTOR, "the system prompt")
    for tool in request.tools[:_TOOLS_SEEN]:
        _add_words(shared, tool.name.replace("_", " "), _TOOL_FACTOR, "a tool's name")
    factor, best = 1.0, _best(shared)
    for back, text in enumerate(_user_texts(request.messages)):
        scores = {task_type: list(found) for task_type, found in shared.items()}
        _add_text(scores, text, factor, "an earlier message" if back else "the instruction")
        found = _best(scores)
        if found is not None and (back == 0 or best is None):
            best = found
        if best is not None:
            break
        factor *= _EARLIER_FACTOR
    return best or DetectedTask(TaskType.CONVERSATIONAL, "nothing points elsewhere", 0.0)


def _best(scores: _Scores) -> DetectedTask | None:
    best: DetectedTask | None = None
    for task_type in TaskType:
        found = sorted(scores.get(task_type, ()), reverse=True)
        score = sum(weight / 2**place for place, (weight, _) in enumerate(found[:8]))
        if score >= _LEAST_SCORE and (best is None or score > best.score):
            best = DetectedTask(task_type, found[0][1], score)
    return best


def _add_format(scores: _Scores, request: ModelRequest) -> None:
    match request.response_format:
        case JsonSchemaFormat():
            weight = 2.5
        case JsonObjectFormat():
            weight = 1.5
        case _:
            return
    scores[TaskType.INFORMATION_EXTRACTION] = [(weight, "response_format asks for JSON")]


def _system_texts(request: ModelRequest) -> Iterator[str]:
    if request.system_prompt:
        yield request.system_prompt
    if request.messages[0].role is Role.SYSTEM:
        yield _text(request.messages[0])


def _user_texts(messages: list[Message]) -> Iterator[str]:
    """The texts of the last user messages, the last first."""
    found = 0
    for message in reversed(messages[-_MESSAGES_SEEN:]):
        if message.role is Role.USER:
            found += 1
            yield _text(message)
        if found == _MESSAGES_BACK:
            return


def _text(message: Message) -> str:
    """The message's text; of many parts, the first and the last."""
    if isinstance(message.content, str):
        return message.content
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    return "\n\n".join(texts if len(texts) <= 2 else (texts[0], texts[-1]))  # noqa: PLR2004 - both ends


def _add_text(scores: _Scores, text: str, factor: float, place: str) -> None:
    """Add what a whole message tells."""
    if len(text) > 2 * _END_CHARACTERS:
        text = f"{text[:_END_CHARACTERS]}\n\n{text[-_END_CHARACTERS:]}"
    for task_type, weight, form in _forms(text):
        scores.setdefault(task_type, []).append((weight * factor, f"{form} in {place}"))
    for piece in _divide(_without_code(text)):
        name = "the material" if piece.factor == _MATERIAL_FACTOR else place
        _add_words(scores, piece.text, factor * piece.factor, name, first=piece.first_factor)


def _forms(text: str) -> Iterator[tuple[TaskType, float, str]]:
    """What the look of a text tells. Cheap tests come first: these patterns are the dear part."""
    has_lines = "\n" in text
    if "```" in text or "C++" in text or "C#" in text or _CODE.search(text):
        yield TaskType.CODE_GENERATION, 2.5, "code"
    if _MAY_BE_MATH.search(text) and _MATH.search(text):
        yield TaskType.MATH_PROBLEM_SOLVING, 3.0, "mathematical notation"
    if has_lines and ("|" in text or "," in text or "\t" in text) and _TABLE.search(text):
        yield TaskType.DATA_ANALYSIS, 2.5, "a table"


def _without_code(text: str) -> str:
    """The text outside of code fences."""
    return "\n\n".join(text.split("```")[::2]) if "```" in text else text


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a message, and what a cue in it weighs."""

    text: str
    factor: float
    first_factor: float = 1.0
    """Beyond that, for the first few words."""


def _divide(text: str) -> Iterator[_Piece]:
    """Opening, material and closing of a message."""
    opening, _, rest = text.strip().partition("\n\n")
    factor, first_factor = _OPENING_FACTOR, _FIRST_FACTOR / _OPENING_FACTOR
    colon = _COLON.search(opening, 0, _COLON_WITHIN_CHARACTERS)
    if colon is not None:
        rest = f"{opening[colon.end() :]}\n\n{rest}"
        opening = opening[: colon.start()]
    elif len(opening) > _OPENING_CHARACTERS:
        factor, first_factor = _FIRST_SENTENCE_FACTOR, 1.0
        end = _SENTENCE_END.search(opening, 0, _OPENING_CHARACTERS)
        cut = end.end() if end else _OPENING_CHARACTERS
        opening, rest = opening[:cut], f"{opening[cut:]}\n\n{rest}"
    yield _Piece(opening, factor, first_factor)
    is_asked = factor == _OPENING_FACTOR
    material, gap, closing = rest.strip().rpartition("\n\n")
    if not gap:
        material, _, closing = closing.rpartition("\n")
    factor = _CLOSING_FACTOR
    if len(closing) > _CLOSING_CHARACTERS:
        factor = _LAST_OF_MATERIAL_FACTOR if is_asked else _LAST_SENTENCE_FACTOR
        ends = [end.end() for end in _SENTENCE_END.finditer(closing)]
        cut = max(ends[-1] if ends else 0, len(closing) - _CLOSING_CHARACTERS)
        material, closing = f"{material}\n{closing[:cut]}", closing[cut:]
    yield _Piece(material, _MATERIAL_FACTOR)
    yield _Piece(closing, factor)


def _add_words(
    scores: _Scores, text: str, factor: float, place: str, *, first: float = 1.0
) -> None:
    """Add the cues among the words of a text, each once, where it comes first."""
    if not text:
        return
    lower = text.lower()
    if factor > _MATERIAL_FACTOR:
        lower = _QUOTED.sub(" ", lower)
    words = _WORD.findall(lower)
    begin = next((at for at, word in enumerate(words) if word not in _POLITE), 0)
    for at, cue, told in _found(words):
        emphasis = first if at < begin + _FIRST_WORDS else 1.0
        for task_type, weight in told:
            scores.setdefault(task_type, []).append(
                (weight * factor * emphasis, f"'{cue}' in {place}")
            )
    if not lower.isascii():
        for piece, told in PIECE_CUES.items():
            if piece in lower:
                for task_type, weight in told:
                    scores.setdefault(task_type, []).append(
                        (weight * factor, f"'{piece}' in {place}")
                    )


def _found(words: list[str]) -> Iterator[tuple[int, str, tuple[Cue, ...]]]:
    """The cues among the words and where they stand; sets find them without a loop over words."""
    for word in WORD_CUES.keys() & set(words):
        yield words.index(word), word, WORD_CUES[word]
    pairs = list(pairwise(words))
    for pair in PHRASE_CUES.keys() & set(pairs):
        at = pairs.index(pair)
        for phrase, told in PHRASE_CUES[pair]:
            if tuple(words[at : at + len(phrase)]) == phrase:
                yield at, " ".join(phrase), told
