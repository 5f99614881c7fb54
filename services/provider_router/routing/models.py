"""Models that Atlas knows by name: what they are good at and how much they take.

Levels are our reading of the vendors' own model pages; `atlas.yaml` names further models.
"""

from dataclasses import dataclass

from atlas.contracts.inference import Level, ModelCapability

_GENERAL = (
    ModelCapability.REASONING,
    ModelCapability.LOGIC,
    ModelCapability.MATH,
    ModelCapability.ANALYSIS,
    ModelCapability.CODE,
    ModelCapability.CREATIVE,
    ModelCapability.SUMMARIZATION,
    ModelCapability.EXTRACTION,
    ModelCapability.FORMATTING,
    ModelCapability.TOOL_USE,
    ModelCapability.JSON_OUTPUT,
    ModelCapability.SCIENCE,
    ModelCapability.FINANCE,
    ModelCapability.LEGAL,
    ModelCapability.MEDICAL,
    ModelCapability.TECHNICAL,
    ModelCapability.MULTILINGUAL,
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model by the provider's own name."""

    name: str
    capabilities: dict[ModelCapability, Level]
    context_tokens: int | None = None

    def level(self, capability: ModelCapability) -> Level:
        """How well it does something."""
        return self.capabilities.get(capability, Level.NONE)


def _model(name: str, general: Level, context_tokens: int | None, **special: Level) -> KnownModel:
    levels = dict.fromkeys(_GENERAL, general) | {ModelCapability.STREAMING: Level.STRONG}
    levels |= {ModelCapability(key): level for key, level in special.items()}
    return KnownModel(name, levels, context_tokens)


_STRONG, _MODERATE, _BEST = Level.STRONG, Level.MODERATE, Level.EXCEPTIONAL

WELL_KNOWN: dict[str, tuple[KnownModel, ...]] = {
    "anthropic": (
        _model("claude-sonnet-4-5", _STRONG, 200_000, code=_BEST, vision=_STRONG),
        _model("claude-opus-4-5", _BEST, 200_000, premium=_BEST, vision=_STRONG),
        _model("claude-haiku-4-5", _MODERATE, 200_000, efficient=_BEST, inexpensive=_STRONG),
    ),
    "openai": (
        _model("gpt-5", _STRONG, 400_000, reasoning=_BEST, math=_BEST, vision=_STRONG),
        _model("gpt-5-mini", _STRONG, 400_000, inexpensive=_STRONG, efficient=_STRONG),
        _model("gpt-4o", _STRONG, 128_000, vision=_STRONG),
        _model("gpt-4o-mini", _MODERATE, 128_000, inexpensive=_BEST, efficient=_BEST),
    ),
    "ollama": (),
    "mock": (
        _model("standard", _STRONG, 128_000, inexpensive=_BEST, efficient=_BEST, vision=_STRONG),
        _model("fast", _STRONG, 128_000, inexpensive=_BEST, efficient=_BEST, vision=_STRONG),
    ),
}
"""By dialect; the first of each is its provider's default."""


def unknown_model(name: str) -> KnownModel:
    """A model that only the configuration names: taken for moderate in everything."""
    return _model(name, _MODERATE, None)
