"""Readable sentences about a prompt, the same ones for the same seed: pure."""

import re
from random import Random

_SENTENCES = (
    "At its core, {a} is best understood through {b}.",
    "Consider how {a} changes once {b} enters the picture.",
    "A practical way to approach {a} is to begin with {b} and work outwards.",
    "Most people notice {a} first, yet {b} is what decides the outcome.",
    "There are three things worth knowing about {a}, and the second of them is {b}.",
    "In short, {a} depends on {b} more than it may seem.",
    "For example, a small change in {a} shows up quickly in {b}.",
    "It helps to look at {a} from the side of {b}.",
    "The difficulty with {a} is rarely {b} alone.",
    "Over time, {a} and {b} tend to settle into a balance.",
    "What matters here is not only {a} but the way it meets {b}.",
    "One should measure {a} before drawing conclusions about {b}.",
    "Compared with {b}, the role of {a} is easy to explain.",
    "This is why {a} deserves attention before {b} does.",
)
_THOUGHTS = (
    "The question is about {a}, so {b} has to come first.",
    "Let me see what {a} implies for {b}.",
    "It would be wrong to ignore {b} when speaking of {a}.",
    "So the answer should name {a} and then turn to {b}.",
    "First I should check whether {a} and {b} belong together.",
)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        about also and any are because been but can could describe does explain for from give have
        here how into its just like list make more most not now please say should some tell than
        that the their them then there these they this those use using very want was were what
        when where which who why will with would write you your
        """,
    )
)
_FALLBACK = ("the subject", "the details", "the context", "the evidence", "the example")
_LONGEST_WORD = 40
_MOST_WORDS = 24
_WORD = re.compile(r"[^\W\d_][\w'-]{2,}")
_TOKEN = re.compile(r"\s*\S+")


def keywords(prompt: str) -> list[str]:
    """The telling words of a prompt, in their order, without repetition; some when it has none."""
    found = dict.fromkeys(
        word
        for word in _WORD.findall(prompt)
        if word.lower() not in _COMMON and len(word) <= _LONGEST_WORD
    )
    words = list(found)[:_MOST_WORDS]
    return words if len(words) > 1 else [*words, *_FALLBACK]


def prose(rng: Random, words: list[str], tokens: int) -> str:
    """Sentences about `words`, whole ones, of about `tokens` tokens."""
    return _join(rng, _SENTENCES, words, tokens)


def thoughts(rng: Random, words: list[str], tokens: int) -> str:
    """What a model might think before it answers, of about `tokens` tokens."""
    return _join(rng, _THOUGHTS, words, tokens)


def tokens_of(text: str) -> list[str]:
    """The text in pieces of one word each, which together are the text."""
    found = _TOKEN.findall(text)
    rest = text[sum(map(len, found)) :]
    return [*found, rest] if rest else found


def pieces_of(text: str, rng: Random) -> list[str]:
    """The text in pieces of a few characters, as models write JSON."""
    pieces = []
    start = 0
    while start < len(text):
        size = rng.randint(2, 7)
        pieces.append(text[start : start + size])
        start += size
    return pieces


def _join(rng: Random, templates: tuple[str, ...], words: list[str], tokens: int) -> str:
    sentences: list[str] = []
    count = 0
    previous = ""
    while count < tokens:
        template = rng.choice([one for one in templates if one != previous])
        previous = template
        first, second = rng.sample(words, 2)
        sentence = template.format(a=first, b=second)
        sentences.append(sentence[0].upper() + sentence[1:])
        count += len(sentence.split())
    return " ".join(sentences)
