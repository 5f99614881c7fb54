"""Every public model of the contract, found by looking."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import atlas.contracts
from atlas.contracts.base import Contract, Unknown, UserInput


def contract_modules() -> list[ModuleType]:
    """The modules of `atlas.contracts`."""
    return [
        importlib.import_module(f"{atlas.contracts.__name__}.{module.name}")
        for module in pkgutil.iter_modules(atlas.contracts.__path__)
    ]


def public_models() -> dict[str, type[Contract]]:
    """Every public model by name; no bases, and not what stands for unknown ones."""
    return {
        name: member
        for module in contract_modules()
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Contract)
        and member not in (Contract, UserInput)
        and not issubclass(member, Unknown)
        and member.__module__ == module.__name__
        and not name.startswith("_")
    }
