"""All provider accounts of this router, and who hears of a changed circuit."""

from collections.abc import Mapping

from provider_router.routing.answers import Answers
from provider_router.routing.provider_accounts import Account, AccountConfig, Changed


class Board:
    """The accounts of all configured providers."""

    def __init__(self, configs: Mapping[str, AccountConfig]) -> None:
        self._listeners: list[Changed] = []
        self._accounts: dict[str, Account] = {}
        self.answers = Answers()
        """What was said of their answers."""
        self.configure(configs)

    def listen(self, listener: Changed) -> None:
        """Hear of every changed circuit; must not block."""
        self._listeners.append(listener)

    def configure(self, configs: Mapping[str, AccountConfig]) -> None:
        """Go on under a changed configuration; what is learnt of an account stays."""
        for name, config in configs.items():
            if name in self._accounts:
                self._accounts[name].configure(config)
            else:
                self._accounts[name] = Account(name, config, self._changed)

    def of(self, provider: str) -> Account:
        """The account of a provider."""
        return self._accounts[provider]

    def get(self, provider: str) -> Account | None:
        """The account of a provider that may not be configured here."""
        return self._accounts.get(provider)

    def _changed(self, account: Account, *, is_heard: bool) -> None:
        for listener in self._listeners:
            listener(account, is_heard=is_heard)
