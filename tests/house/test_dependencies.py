"""What is imported is declared, what is declared is imported, and a version is said once."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import yaml

from . import rules

PROJECT = tomllib.loads((rules.ROOT / "pyproject.toml").read_text())["project"]
OWN = {"atlas", "provider_router", "agent_controller", "agent_worker"}
COMES_WITH = {"pydantic-core": "pydantic", "mcp-types": "mcp"}
"""What is imported under its own name but belongs to a declared package."""


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~;! ]", one, maxsplit=1)[0].lower() for one in requirements}


def _imported() -> set[str]:
    """The distributions that the library and the services import."""
    distributions = packages_distributions()
    modules = {
        name.partition(".")[0]
        for path in rules.python_files("shared", "services")
        for name in rules.imported_modules(path)
    }
    foreign = modules - OWN - set(sys.stdlib_module_names)
    return {
        COMES_WITH.get(found, found)
        for name in foreign
        if name != "opentelemetry"  # a namespace that many distributions share
        for one in distributions.get(name, [f"{name} (not installed)"])[:1]
        for found in [one.lower().replace("_", "-")]
    }


def test_every_package_that_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    optional = _names([*extras["embedded"], *extras["mcp"]])
    assert _imported() <= _names(PROJECT["dependencies"]) | optional


def test_every_package_that_is_declared_is_imported() -> None:
    declared = {
        one for one in _names(PROJECT["dependencies"]) if not one.startswith("opentelemetry-")
    }
    assert declared <= _imported()


def test_the_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((rules.ROOT / "deploy/helm/atlas/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (PROJECT["version"], PROJECT["version"])
