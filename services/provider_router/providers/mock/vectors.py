"""Vectors for texts, the same ones for the same seed; near for texts that share words: pure."""

import hashlib
import math
from collections.abc import Iterator

DIMENSIONS = 256
_GRAM = 3
"""Characters; words that share a stem share most of these."""
_WORD_WEIGHT = 2.0


def vector_of(text: str, *, seed: int, dimensions: int = DIMENSIONS) -> list[float]:
    """A unit vector: the text's words and character trigrams, hashed into signed places."""
    vector = [0.0] * dimensions
    key = seed.to_bytes(16, "little", signed=True)
    for feature, weight in _features(text):
        digest = hashlib.blake2b(feature.encode(), digest_size=8, key=key).digest()
        number = int.from_bytes(digest, "little")
        vector[(number >> 1) % dimensions] += weight if number & 1 else -weight
    length = math.sqrt(math.sumprod(vector, vector))
    if length == 0.0:  # what it was made of cancelled out
        vector[0] = length = 1.0
    return [value / length for value in vector]


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = text.casefold().split()
    for word in words or [""]:
        yield f"word {word}", _WORD_WEIGHT
        marked = f"^{word}$"
        for start in range(max(1, len(marked) - _GRAM + 1)):
            yield marked[start : start + _GRAM], 1.0
