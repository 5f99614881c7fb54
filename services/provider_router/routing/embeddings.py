"""Which embedding models there are, and which providers offer the one that is asked for. Pure.

Vectors of different models cannot be compared, so a request goes to one model and falls back only
to another provider of the same one. Figures are from the vendors' own model pages.
"""

from collections.abc import Mapping

from atlas.contracts.errors import ConfigurationError, InvalidRequestError, NotFoundError
from atlas.contracts.inference import EmbedRequest
from atlas.provider_settings import ProviderSettings
from atlas.spelling import nearest
from provider_router.routing.choosing import Candidate
from provider_router.routing.known_embeddings import KNOWN, KnownEmbedding, known_embedding
from provider_router.routing.prices import Pricing

HAVE_EMBEDDINGS = ("openai", "ollama", "mock")
"""Dialects with an endpoint for them."""

_OFFERED = {
    "openai": ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"),
    "mock": ("embedding",),
}
"""By dialect, what a provider has without being told; the first is its default."""


class EmbeddingCatalogue:
    """The embedding models of the configured providers.

    A provider offers the embedding models among its `models`, and where it names none those that
    every account of its vendor has. Any model may be named with its provider.
    """

    def __init__(self, providers: Mapping[str, ProviderSettings]) -> None:
        self._providers = providers
        self._offered = [
            _candidate(name, settings, model, "offers the model")
            for name, settings in providers.items()
            for model in _offered_by(settings)
        ]

    def candidates(self, request: EmbedRequest) -> list[Candidate]:
        """Providers of one model, in the order of the configuration; never empty.

        Raises:
            NotFoundError: Nobody offers the model; says what is near.
            InvalidRequestError: The provider has no embeddings, or the model no fewer dimensions.
            ConfigurationError: No model is named, and no provider offers any.
        """
        found = self._by_default() if request.model is None else self._named(request.model)
        known = known_embedding(found[0].model)
        if request.dimensions is not None and known is not None:
            _check_dimensions(known, request.dimensions)
        return found

    def _by_default(self) -> list[Candidate]:
        """The first offer; the mock's only where nothing else is configured."""
        is_mock_alone = all(one.kind == "mock" for one in self._providers.values())
        real = [one for one in self._offered if is_mock_alone or one.pricing.kind != "mock"]
        if not real:
            raise ConfigurationError(
                "no provider offers an embedding model: name one in the request, or add one to "
                "a provider's models"
            )
        return [one for one in real if one.model == real[0].model]

    def _named(self, name: str) -> list[Candidate]:
        provider, slash, model = name.partition("/")
        if slash and model and provider in self._providers:
            settings = self._providers[provider]
            if (kind := settings.kind) not in HAVE_EMBEDDINGS:
                raise InvalidRequestError(
                    f"model: provider {provider!r} is of kind {kind}, which has no embeddings; "
                    f"these kinds have: {', '.join(HAVE_EMBEDDINGS)}"
                )
            return [_candidate(provider, settings, model, "named")]
        found = [one for one in self._offered if one.model == name]
        if not found:
            names = [*(one.full_name for one in self._offered), *KNOWN]
            near = nearest(name, names)
            offered = ", ".join(one.full_name for one in self._offered)
            raise NotFoundError(
                f"model: no provider offers the embedding model {name!r}"
                + (f"; did you mean {near!r}?" if near else "")
                + f" Offered: {offered or 'none'}; any other may be named as provider/model",
                details={"model": name, "nearest": near},
            )
        return found


def _candidate(provider: str, settings: ProviderSettings, model: str, reason: str) -> Candidate:
    price = next((one.price for one in settings.models if one.name == model), None)
    pricing = Pricing(settings.kind, model, settings.base_url, price)
    return Candidate(provider, model, reason, pricing)


def _offered_by(settings: ProviderSettings) -> list[str]:
    if settings.kind not in HAVE_EMBEDDINGS:
        return []
    listed = [one.name for one in settings.models if known_embedding(one.name)]
    is_vendor = settings.kind == "mock" or settings.base_url is None
    return listed or (list(_OFFERED.get(settings.kind, ())) if is_vendor else [])


def _check_dimensions(known: KnownEmbedding, wanted: int) -> None:
    own, most = known.dimensions, known.most_dimensions
    if wanted == own or (most is not None and wanted <= most):
        return
    raise InvalidRequestError(
        f"dimensions: {known.name} gives {f'up to {most}' if most else f'{own} only'}, "
        f"not {wanted}; leave it out or choose another model"
    )
