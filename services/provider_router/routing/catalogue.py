"""Which models there are, and in which order they are tried for a request. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from atlas.contracts.errors import ConfigurationError, InvalidRequestError, NotFoundError
from atlas.contracts.inference import Level, ModelCapability, ModelInfo, ModelRequest
from atlas.settings import ProviderSettings
from atlas.spelling import nearest
from provider_router.routing.models import WELL_KNOWN, KnownModel, unknown_model
from provider_router.routing.prices import usd_per_mtok


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a provider that may answer, and why it stands where it does."""

    provider: str
    kind: str
    model: str
    reason: str

    @property
    def full_name(self) -> str:
        """`provider/name`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class _Entry:
    provider: str
    kind: str
    model: KnownModel

    def candidate(self, reason: str) -> Candidate:
        return Candidate(self.provider, self.kind, self.model.name, reason)

    def lacks(self, needs: Mapping[ModelCapability, Level]) -> list[str]:
        have = self.model.capabilities
        return [
            f"{capability.value} {level.value} (has {have.get(capability, Level.NONE).value})"
            for capability, level in needs.items()
            if have.get(capability, Level.NONE).rank < level.rank
        ]


class Catalogue:
    """The models of the configured providers."""

    def __init__(
        self, providers: Mapping[str, ProviderSettings], default_model: str | None
    ) -> None:
        self._providers = providers
        self._entries = [
            _Entry(name, settings.kind, model)
            for name, settings in providers.items()
            for model in _models_of(settings)
        ]
        self._default = default_model
        if default_model is not None:
            self._learn(self._named(default_model))  # a wrong one is refused at start
        real = [entry for entry in self._entries if entry.kind != "mock"]
        self._automatic = real or self._entries

    @property
    def kinds(self) -> dict[str, str]:
        """The dialect of each provider."""
        return {name: settings.kind for name, settings in self._providers.items()}

    @property
    def default_model(self) -> str:
        """What answers a request that names neither model nor requirements."""
        return self._by_default()[0].full_name

    def candidates(self, request: ModelRequest) -> list[Candidate]:
        """The models to try, the best first; never empty.

        Raises:
            NotFoundError: The named model or provider is unknown; says what is near.
            InvalidRequestError: No model meets the requirements; says what the nearest lacks.
        """
        if request.model is not None:
            return [self._named(request.model)]
        if request.requirements is not None:
            return self._meeting(request.requirements.needs())
        return self._by_default()

    def models(self) -> list[ModelInfo]:
        """Every known model, as `api.providers` shows it."""
        shown = []
        for entry in self._entries:
            price = usd_per_mtok(entry.kind, entry.model.name)
            shown.append(
                ModelInfo(
                    model=f"{entry.provider}/{entry.model.name}",
                    provider=entry.provider,
                    capabilities=entry.model.capabilities,
                    context_tokens=entry.model.context_tokens,
                    input_usd_per_mtok=price[0] if price else None,
                    output_usd_per_mtok=price[1] if price else None,
                )
            )
        return shown

    def _named(self, name: str) -> Candidate:
        provider, slash, model = name.partition("/")
        if slash and provider in self._providers and model:
            return Candidate(provider, self._providers[provider].kind, model, "named")
        for entry in self._entries:
            if entry.model.name == name:
                return entry.candidate("named")
        known = [f"{entry.provider}/{entry.model.name}" for entry in self._entries]
        names = [*known, *(entry.model.name for entry in self._entries)]
        near = nearest(name, names)
        raise NotFoundError(
            f"model: unknown model {name!r}"
            + (f"; did you mean {near!r}?" if near else ".")
            + f" Configured providers: {', '.join(self._providers)}; "
            "`atlas providers` lists their models",
            details={"model": name, "nearest": near},
        )

    def _learn(self, named: Candidate) -> None:
        """Take a model that only its name under a provider tells of into the catalogue."""
        if all(
            (one.provider, one.model.name) != (named.provider, named.model) for one in self._entries
        ):
            self._entries.append(
                _Entry(named.provider, named.kind, _model_of(named.kind, named.model))
            )

    def _by_default(self) -> list[Candidate]:
        first: list[Candidate] = []
        if self._default is not None:
            first = [self._named(self._default)]
        seen = {candidate.provider for candidate in first}
        for entry in self._automatic:
            if entry.provider not in seen:
                seen.add(entry.provider)
                first.append(entry.candidate("default" if not first else "fallback"))
        if not first:
            raise ConfigurationError(
                "no model to answer by default: name one in the request, or set "
                "router.default_model or a provider's models"
            )
        return first

    def _meeting(self, needs: Mapping[ModelCapability, Level]) -> list[Candidate]:
        able = [entry for entry in self._automatic if not entry.lacks(needs)]
        if able:
            return [entry.candidate("meets the requirements") for entry in able]
        if not self._automatic:
            raise ConfigurationError("no provider has a model; set a provider's models")
        closest = min(self._automatic, key=lambda entry: len(entry.lacks(needs)))
        raise InvalidRequestError(
            "requirements: no configured model meets them; the nearest, "
            f"{closest.provider}/{closest.model.name}, lacks {', '.join(closest.lacks(needs))}"
        )


def _models_of(settings: ProviderSettings) -> list[KnownModel]:
    if not settings.models:
        return list(WELL_KNOWN[settings.kind])
    return [_model_of(settings.kind, name) for name in settings.models]


def _model_of(kind: str, name: str) -> KnownModel:
    known = (model for model in WELL_KNOWN[kind] if model.name == name)
    return next(known, None) or unknown_model(name)
