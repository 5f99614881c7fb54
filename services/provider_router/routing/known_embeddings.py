"""Embedding models that Atlas knows by name. Figures are from the vendors' own model pages."""

from dataclasses import dataclass

_OPENAI_BATCH, _USUAL_BATCH = 2_048, 64


@dataclass(frozen=True, slots=True)
class KnownEmbedding:
    """An embedding model by the provider's own name."""

    name: str
    dimensions: int | None = None
    """Of its vectors unless others are asked for; None: not known."""
    context_tokens: int | None = None
    most_dimensions: int | None = None
    """Up to so many may be asked for; None: its own number only."""
    batch_texts: int = _USUAL_BATCH
    """How many texts a request may hold."""


_KNOWN = (
    KnownEmbedding("text-embedding-3-small", 1_536, 8_191, 1_536, _OPENAI_BATCH),
    KnownEmbedding("text-embedding-3-large", 3_072, 8_191, 3_072, _OPENAI_BATCH),
    KnownEmbedding("text-embedding-ada-002", 1_536, 8_191, batch_texts=_OPENAI_BATCH),
    KnownEmbedding("mistral-embed", 1_024, 8_192),
    KnownEmbedding("codestral-embed", 1_536, 8_192, 1_536),
    KnownEmbedding("gemini-embedding-001", 3_072, 2_048, 3_072),
    KnownEmbedding("nomic-embed-text", 768, 2_048),
    KnownEmbedding("mxbai-embed-large", 1_024, 512),
    KnownEmbedding("bge-m3", 1_024, 8_192),
    KnownEmbedding("all-minilm", 384, 256),
    KnownEmbedding("snowflake-arctic-embed", 1_024, 512),
    KnownEmbedding("snowflake-arctic-embed2", 1_024, 8_192, 1_024),
    KnownEmbedding("embeddinggemma", 768, 2_048, 768),
    KnownEmbedding("qwen3-embedding", 4_096, 40_960, 4_096),
    KnownEmbedding("BAAI/bge-large-en-v1.5", 1_024, 512),
    KnownEmbedding("BAAI/bge-m3", 1_024, 8_192),
    KnownEmbedding("intfloat/multilingual-e5-large-instruct", 1_024, 512),
    KnownEmbedding("embedding", 256, None, 4_096),
)
KNOWN = {one.name: one for one in _KNOWN}


def known_embedding(name: str) -> KnownEmbedding | None:
    """What is known of an embedding model; Ollama's tags (`bge-m3:latest`) are looked through."""
    return KNOWN.get(name) or KNOWN.get(name.removesuffix(":latest"))
