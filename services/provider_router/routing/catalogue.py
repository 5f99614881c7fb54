"""Which models there are, and which of them may answer a request. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from atlas.contracts.catalogue import GroupInfo, ModelInfo, Strategy
from atlas.contracts.errors import ConfigurationError, InvalidRequestError, NotFoundError
from atlas.contracts.inference import ModelRequest
from atlas.provider_settings import GroupSettings, ModelSettings, ProviderSettings
from atlas.settings import RouterSettings
from atlas.spelling import nearest
from provider_router.routing.known_embeddings import known_embedding
from provider_router.routing.models import WELL_KNOWN, KnownModel, unknown_model
from provider_router.routing.needs import Needs, needs_of
from provider_router.routing.prices import Pricing


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a configured provider."""

    provider: str
    kind: str
    known: KnownModel
    pricing: Pricing
    weight: float | None = None
    """In its group."""

    @property
    def name(self) -> str:
        """The provider's own name of it."""
        return self.known.name

    @property
    def full_name(self) -> str:
        """`provider/name`."""
        return f"{self.provider}/{self.known.name}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The models that may answer a request, in the order of the configuration, and the others."""

    able: tuple[Model, ...]
    needs: Needs
    strategy: Strategy | None = None
    """None: one model was named."""
    group: str | None = None
    unfit: tuple[tuple[Model, list[str]], ...] = ()
    first: str | None = None
    """The full name of a model that goes before all others: the default."""
    hedge_after_ms: int | None = None
    cost_weight: float | None = None


class Catalogue:
    """The models of the configured providers, and the groups over them."""

    def __init__(
        self,
        providers: Mapping[str, ProviderSettings],
        groups: Mapping[str, GroupSettings] | None = None,
        router: RouterSettings | None = None,
    ) -> None:
        self._providers = providers
        self._router = router or RouterSettings()
        self._models = {
            model.full_name: model
            for name, settings in providers.items()
            for model in _models_of(name, settings)
        }
        names = {model.name: model.full_name for model in self._models.values()}
        if twofold := next((name for name in groups or {} if name in names), None):
            raise _ambiguous(twofold, names[twofold])
        self._groups: dict[str, tuple[GroupSettings, list[Model]]] = {}
        for name, group in (groups or {}).items():
            self._groups[name] = group, self._members(group)
        default = self._router.default_model
        if default is not None and default not in self._groups:
            self._learn(self._named(default))  # a wrong one is refused at start
        models = list(self._models.values())
        self._automatic: list[Model] = [one for one in models if one.kind != "mock"] or models

    @property
    def default_model(self) -> str:
        """What a request that names nothing is asked for first: a model's or a group's name."""
        if self._router.default_model is not None:
            return self._router.default_model
        if not self._automatic:
            raise _nothing_to_answer()
        return self._automatic[0].full_name

    def choice(self, request: ModelRequest, *, explains: bool = False) -> Choice:
        """The models that may answer a request; never none.

        Args:
            request: The request.
            explains: Whether somebody wants to know the task type, also where it decides nothing.

        Raises:
            NotFoundError: The named model or provider is unknown; says what is near.
            InvalidRequestError: No model meets the requirements, none of the named group, or not
                the named one; says what the nearest lacks.
        """
        needs = needs_of(request, detects=explains or self._goes_by_task(request.model))
        if request.model is not None:
            return self._chosen(request.model, needs, is_demanding=request.requirements is not None)
        if request.requirements is None and (default := self._router.default_model) is not None:
            chosen = self._chosen(default, needs)
            if chosen.group is not None:
                return chosen
            return self._among(self._automatic, needs, first=chosen.able[0])
        return self._among(self._automatic, needs)

    def _goes_by_task(self, name: str | None) -> bool:
        """Whether the task type decides who answers a request for that name, or for none."""
        chosen = name or self._router.default_model
        if chosen is not None and chosen in self._groups:
            return self._groups[chosen][0].strategy is Strategy.TASK_AWARE
        return name is None and self._router.strategy is Strategy.TASK_AWARE

    def pricing(self, provider: str, model: str) -> Pricing:
        """How tokens are paid of a model that may be gone from the configuration by now."""
        if (known := self._models.get(f"{provider}/{model}")) is not None:
            return known.pricing
        settings = self._providers.get(provider)
        if settings is None:
            return Pricing(provider, model)
        return Pricing(settings.kind, model, settings.base_url)

    def knows(self, provider: str, model: str) -> bool:
        """Whether the configuration names the model, or a vendor is known to have it."""
        return f"{provider}/{model}" in self._models

    def models(self) -> list[ModelInfo]:
        """Every known model, as `api.providers` shows it."""
        shown = []
        for one in self._models.values():
            price = one.pricing.usd_per_mtok()
            shown.append(
                ModelInfo(
                    model=one.full_name,
                    provider=one.provider,
                    capabilities=one.known.capabilities,
                    context_tokens=one.known.context_tokens,
                    input_usd_per_mtok=price[0] if price else None,
                    output_usd_per_mtok=price[1] if price else None,
                )
            )
        return shown

    def groups(self) -> list[GroupInfo]:
        """Every group, as `api.providers` shows it."""
        return [
            GroupInfo(
                group=name,
                strategy=group.strategy,
                members=[member.full_name for member in members],
            )
            for name, (group, members) in self._groups.items()
        ]

    def _chosen(self, name: str, needs: Needs, *, is_demanding: bool = False) -> Choice:
        """The able members of the group, or the one model, of that name.

        One model is asked as it is, unless the request says what it must have (`is_demanding`):
        of a name that only its provider knows, Atlas knows too little to refuse it unasked.
        """
        if name in self._groups:
            group, members = self._groups[name]
            choice = self._among(members, needs, strategy=group.strategy, group=name)
            return replace(
                choice, hedge_after_ms=group.hedge_after_ms, cost_weight=group.cost_weight
            )
        model = self._named(name)
        if is_demanding and (lacks := needs.lacks(model.known)):
            raise _unmet(f"{model.full_name} lacks {', '.join(lacks)}", [(model, lacks)])
        return Choice((model,), needs)

    def _among(
        self,
        models: Sequence[Model],
        needs: Needs,
        *,
        first: Model | None = None,
        strategy: Strategy | None = None,
        group: str | None = None,
    ) -> Choice:
        others = [one for one in models if first is None or one.full_name != first.full_name]
        everyone = [*([first] if first else []), *others]
        if not everyone:
            raise _nothing_to_answer()
        lacking = [(one, needs.lacks(one.known)) for one in everyone]
        able = tuple(one for one, lacks in lacking if not lacks)
        if not able:
            raise _nobody(lacking, group)
        return Choice(
            able,
            needs,
            strategy or self._router.strategy,
            group,
            tuple((one, lacks) for one, lacks in lacking if lacks),
            first=first.full_name if first and first in able else None,
        )

    def _members(self, group: GroupSettings) -> list[Model]:
        members = [self._learn(self._named(one.model)) for one in group.members]
        return [
            replace(model, weight=one.weight)
            for model, one in zip(members, group.members, strict=True)
        ]

    def _learn(self, named: Model) -> Model:
        """Take a model that only its name under a provider tells of into the catalogue."""
        return self._models.setdefault(named.full_name, named)

    def _named(self, name: str) -> Model:
        provider, slash, model = name.partition("/")
        if slash and provider in self._providers and model:
            known = self._models.get(name)
            return known or _model_of(
                provider, self._providers[provider], ModelSettings(name=model)
            )
        for one in self._models.values():
            if one.name == name:
                return one
        names = [*self._models, *self._groups, *(one.name for one in self._models.values())]
        near = nearest(name, names)
        raise NotFoundError(
            f"model: unknown model {name!r}"
            + (f"; did you mean {near!r}?" if near else ".")
            + f" Configured providers: {', '.join(self._providers)}; "
            "`atlas providers` lists their models",
            details={"model": name, "nearest": near},
        )


def _nothing_to_answer() -> ConfigurationError:
    return ConfigurationError(
        "no model to answer by default: name one in the request, or set "
        "router.default_model or a provider's models"
    )


def _ambiguous(group: str, model: str) -> ConfigurationError:
    return ConfigurationError(
        f"groups.{group}: {model} may be named {group!r} too, so it would mean two things; "
        "give the group another name"
    )


def _nobody(lacking: list[tuple[Model, list[str]]], group: str | None) -> InvalidRequestError:
    closest, lacks = min(lacking, key=lambda one: len(one[1]))
    who = f"no member of group {group!r}" if group else "no configured model"
    nearest_one = f"the nearest, {closest.full_name}, lacks {', '.join(lacks)}"
    return _unmet(f"{who} meets them; {nearest_one}", lacking)


def _unmet(what: str, lacking: list[tuple[Model, list[str]]]) -> InvalidRequestError:
    return InvalidRequestError(
        f"requirements: {what}",
        details={
            "unfit": [{"model": one.full_name, "lacks": list(lacks)} for one, lacks in lacking]
        },
    )


def _models_of(name: str, settings: ProviderSettings) -> list[Model]:
    declared = [one for one in settings.models if not known_embedding(one.name)]
    is_vendor = settings.base_url is None or name == settings.kind
    if not settings.models and is_vendor:  # another server has other models
        declared = [ModelSettings(name=known.name) for known in WELL_KNOWN[settings.kind]]
    return [_model_of(name, settings, one) for one in declared]


def _model_of(provider: str, settings: ProviderSettings, declared: ModelSettings) -> Model:
    """What is known of a model, under what the file says of it."""
    known = next(
        (one for one in WELL_KNOWN[settings.kind] if one.name == declared.name),
        unknown_model(declared.name),
    )
    known = replace(
        known,
        capabilities=known.capabilities | declared.capabilities,
        context_tokens=declared.context_tokens or known.context_tokens,
    )
    pricing = Pricing(settings.kind, declared.name, settings.base_url, declared.price)
    return Model(provider, settings.kind, known, pricing)
