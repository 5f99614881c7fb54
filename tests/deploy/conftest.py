"""The chart as it renders, by Helm's own code in an environment of its own."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = DEPLOY / ".tools" / "bin" / "python"
VALUE_SETS = ("minimal", "production", "keda")

type Manifest = dict[str, Any]
type Values = dict[str, Any]


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """What is in this folder is run by `make test-deploy` only, which installs what it needs."""
    reason = "Helm's code is not installed; `make test-deploy` installs and uses it"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.deploy)
            if not TOOLS.exists():
                item.add_marker(pytest.mark.skip(reason=reason))


def job(name: str, **given: object) -> dict[str, Any]:
    """What `deploy/chart.py` answers."""
    done = subprocess.run(
        [TOOLS, DEPLOY / "chart.py", name],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@cache
def values_of(name: str) -> Values:
    """One of the sets of values that the repository has as examples."""
    values = yaml.safe_load((DEPLOY / "helm" / "values" / f"{name}.yaml").read_text())
    assert isinstance(values, dict)
    return values


@dataclass(frozen=True, slots=True)
class Release:
    """What a set of values renders to."""

    files: dict[str, str]
    manifests: list[Manifest]

    def of(self, kind: str) -> dict[str, Manifest]:
        """The manifests of a kind by their names."""
        found = [one for one in self.manifests if one["kind"] == kind]
        return {one["metadata"]["name"]: one for one in found}

    def pods(self) -> dict[str, Manifest]:
        """Every pod that runs, with its metadata: of Deployments, and the test's."""
        templates = {name: one["spec"]["template"] for name, one in self.of("Deployment").items()}
        return {**templates, **self.of("Pod")}

    def config(self) -> Values:
        """The atlas.yaml that services read."""
        (one,) = self.of("ConfigMap").values()
        config = yaml.safe_load(one["data"]["atlas.yaml"])
        assert isinstance(config, dict)
        return config


def container(pod: Manifest) -> Manifest:
    """The one container of a pod."""
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(pod: Manifest) -> dict[str, str]:
    """The variables of a pod that stand in the manifest."""
    return {one["name"]: one["value"] for one in container(pod)["env"] if "value" in one}


def render(values: Values, *, release: str = "atlas", namespace: str = "atlas") -> Release:
    """Render the chart, which must not refuse."""
    answer = job("render", values=values, release=release, namespace=namespace)
    assert "refused" not in answer, answer
    files = answer["files"]
    manifests = [
        one
        for path, text in files.items()
        if path.endswith(".yaml")
        for one in yaml.safe_load_all(text)
        if one is not None
    ]
    return Release(files, manifests)


def refusal(values: Values) -> str:
    """Why the chart refuses values; it must."""
    answer = job("render", values=values, release="atlas", namespace="atlas")
    assert "refused" in answer, "the chart took what it should refuse"
    return str(answer["refused"])


@cache
def _rendered(name: str) -> Release:
    return render(values_of(name))


@pytest.fixture(params=VALUE_SETS)
def example(request: pytest.FixtureRequest) -> Release:
    """Each of the three sets of values, rendered."""
    return _rendered(request.param)


@pytest.fixture
def minimal() -> Release:
    """The defaults, but for the address of NATS."""
    return _rendered("minimal")


@pytest.fixture
def production() -> Release:
    """NATS from the release, keys, credentials, telemetry, two pools."""
    return _rendered("production")


@pytest.fixture
def keda() -> Release:
    """Everything scaled by KEDA."""
    return _rendered("keda")
