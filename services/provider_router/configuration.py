"""The router's configuration as it stands now: taken up as a whole, or refused as a whole.

A stream keeps the configuration it began under. Adapters that a new one does not use any more are
closed when the last stream that may need them has ended.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from atlas.contracts.errors import AtlasError, ConfigurationError
from atlas.provider_settings import BreakerSettings, LimitSettings, ProviderSettings
from atlas.settings import Settings, api_key, config_path, load_settings, unserved_models
from provider_router.providers.base import Adapter
from provider_router.providers.registry import make_adapter
from provider_router.routing.board import Board
from provider_router.routing.catalogue import Catalogue
from provider_router.routing.choosing import Chooser
from provider_router.routing.embeddings import EmbeddingCatalogue
from provider_router.routing.prices import Pricing, load_list
from provider_router.routing.provider_accounts import AccountConfig, fingerprint

_LOOK_S = 2.0
"""How often the files are looked at."""

log = structlog.get_logger("atlas.configuration")


@dataclass(frozen=True, slots=True)
class _Account:
    """One provider as configured, and what speaks to it."""

    settings: ProviderSettings
    fingerprint: str
    adapter: Adapter


@dataclass(slots=True, eq=False)
class Routing:
    """One configuration, ready to be used."""

    settings: Settings
    catalogue: Catalogue
    chooser: Chooser
    embeddings: EmbeddingCatalogue
    accounts: Mapping[str, _Account]
    users: int = 0

    @property
    def adapters(self) -> dict[str, Adapter]:
        """What speaks to each provider."""
        return {name: one.adapter for name, one in self.accounts.items()}

    @property
    def timeouts_s(self) -> dict[str, float]:
        """How long a whole attempt may take, by provider."""
        return {name: one.settings.attempt_timeout_ms / 1000 for name, one in self.accounts.items()}


class Configuration:
    """Holds the current `Routing`, and the older ones that streams still use."""

    def __init__(self, settings: Settings) -> None:
        """Take up the first configuration.

        Raises:
            AtlasError: It names what there is not, or a key cannot be read.
        """
        self._closing: set[asyncio.Task[None]] = set()
        self._older: list[Routing] = []
        self.problem: str | None = None
        """Why the configuration that was given last is not the one in use."""
        accounts = _accounts(settings, {})
        self.board = Board(_configs(accounts, settings.router.circuit))
        self.current = self._routing(settings, accounts)

    def pricing(self, provider: str, model: str) -> Pricing:
        """How the tokens of a provider's model are paid now."""
        return self.current.catalogue.pricing(provider, model)

    @contextlib.contextmanager
    def lease(self) -> Iterator[Routing]:
        """The current configuration, kept usable while the block runs."""
        routing = self.current
        routing.users += 1
        try:
            yield routing
        finally:
            routing.users -= 1
            self._retire()

    def take(self, settings: Settings) -> None:
        """Go over to another configuration; what is learnt of the accounts stays.

        Raises:
            AtlasError: It cannot be used; the one in use stays.
        """
        accounts = _accounts(settings, self.current.accounts)
        routing = self._routing(settings, accounts)
        self._older.append(self.current)
        self.board.configure(_configs(accounts, settings.router.circuit))
        self.current = routing
        self._retire()

    async def warm(self) -> None:
        """Open a connection to each provider, and the price list, while the router works."""
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(load_list))
            for account in self.current.accounts.values():
                group.create_task(account.adapter.warm())

    async def close(self) -> None:
        """Close every adapter."""
        await asyncio.gather(*self._closing)
        for adapter in _adapters([self.current, *self._older]):
            await adapter.close()

    def _routing(self, settings: Settings, accounts: Mapping[str, _Account]) -> Routing:
        if problems := unserved_models(settings):
            raise ConfigurationError("\n".join(problems))
        catalogue = Catalogue(settings.providers, settings.groups, settings.router)
        embeddings = EmbeddingCatalogue(settings.providers)
        return Routing(settings, catalogue, Chooser(self.board), embeddings, accounts)

    def _retire(self) -> None:
        """Close what no configuration in use needs."""
        idle = [one for one in self._older if not one.users]
        if not idle:
            return
        self._older = [one for one in self._older if one.users]
        needed = _adapters([self.current, *self._older])
        for adapter in _adapters(idle) - needed:
            task = asyncio.create_task(adapter.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class Reloading:
    """Looks at the files of a configuration, and takes up what changed."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._asked = asyncio.Event()
        self._seen = self._look()

    def ask(self) -> None:
        """Read the configuration anew, whether or not a file seems changed (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Take up changes until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()
            seen = self._look()
            if not self._asked.is_set() and seen == self._seen:
                continue
            self._asked.clear()
            self._seen = seen
            self.reload()

    def reload(self) -> None:
        """Read the configuration, and take it up or keep the old one."""
        configuration = self._configuration
        try:
            settings = load_settings()
            configuration.take(settings)
        except AtlasError as error:
            configuration.problem = error.message
            log.error("configuration_refused", problems=error.message, next="the old one stays")  # noqa: TRY400 - the message says it all
            return
        configuration.problem = None
        log.info("configuration_taken", providers=list(settings.providers))

    def _look(self) -> dict[Path, tuple[int, int] | None]:
        files = [config_path()]
        files += [
            one.api_key_file
            for one in self._configuration.current.settings.providers.values()
            if one.api_key_file is not None
        ]
        return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _accounts(settings: Settings, known: Mapping[str, _Account]) -> dict[str, _Account]:
    """Every provider with its adapter; one whose configuration is the same keeps its own."""
    accounts = {}
    for name, provider in settings.providers.items():
        key = api_key(provider)
        mark = fingerprint(
            provider.kind, provider.base_url, key.get_secret_value() if key is not None else None
        )
        same = known.get(name)
        if same is not None and (same.settings, same.fingerprint) == (provider, mark):
            accounts[name] = same
        else:
            accounts[name] = _Account(provider, mark, make_adapter(name, provider))
    return accounts


def _configs(
    accounts: Mapping[str, _Account], breaker: BreakerSettings
) -> dict[str, AccountConfig]:
    return {
        name: AccountConfig(one.fingerprint, _limits(one.settings), breaker)
        for name, one in accounts.items()
    }


def _limits(provider: ProviderSettings) -> LimitSettings:
    """Its limits, and no more attempts at a time than it has connections.

    A request that waited for a connection in the pool would look like a provider that is silent.
    """
    most = provider.limits.max_concurrency
    if provider.kind == "mock" or (most is not None and most <= provider.max_connections):
        return provider.limits
    return provider.limits.model_copy(update={"max_concurrency": provider.max_connections})


def _adapters(routings: list[Routing]) -> set[Adapter]:
    return {account.adapter for one in routings for account in one.accounts.values()}
