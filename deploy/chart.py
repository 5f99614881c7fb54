"""The chart rendered and checked without Helm, Kubernetes or a cluster; `make` runs it.

Runs in an environment of its own (`make deploy/.tools/.ready`), whose packages carry Helm's own
code and the schemas: `chart.py manifests` writes plain manifests, the other commands read a job as
JSON and answer in JSON, for the tests in `tests/deploy`. The NATS chart stands in as an empty one.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import yaml
from pydantic import BaseModel, ValidationError

CHART = Path(__file__).parent / "helm" / "atlas"
HEADER = "# Rendered from deploy/helm/atlas by `make manifests`; change it there.\n"
_WARNING = 2
_MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}

type Job = dict[str, Any]


@contextmanager
def _chart() -> Iterator[Path]:
    """A copy of the chart that has its dependency: an empty chart of the same name."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "atlas"
        shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        needed = yaml.safe_load((copy / "Chart.yaml").read_text())["dependencies"]
        for one in needed:
            stub = copy / "charts" / one["name"]
            (stub / "templates").mkdir(parents=True)
            version = one["version"].lstrip("^~>=")
            stands_for = {"apiVersion": "v2", "name": one["name"], "version": version}
            (stub / "Chart.yaml").write_text(yaml.safe_dump(stands_for))
        yield copy


def _said(error: helm.HelmError) -> str:
    """What Helm says, without the folder of the copy."""
    return str(error).replace(tempfile.gettempdir(), "")


def lint(job: Job) -> Job:
    """What `helm lint --strict` has to say: warnings and errors."""
    with _chart() as chart:
        report = helm.lint(chart, job["values"], strict=True)
    return {"problems": [one["error"] for one in report["messages"] if one["severity"] >= _WARNING]}


def render(job: Job) -> Job:
    """The files of `helm template`, or why the chart refuses."""
    try:
        with _chart() as chart, helm.Chart.load(chart) as loaded:
            loaded.validate_schema(loaded.merge_values(job["values"]))
            files = loaded.render(job["values"], name=job["release"], namespace=job["namespace"])
    except helm.HelmError as error:
        return {"refused": _said(error)}
    return {"files": {path.removeprefix("atlas/templates/"): text for path, text in files.items()}}


def validate(job: Job) -> Job:
    """What is wrong with manifests, at each version of Kubernetes; unknown fields are refused."""
    found = []
    for manifest in job["manifests"]:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if module := _MODELS.get(manifest["apiVersion"]):
            model: type[BaseModel] = getattr(import_module(module), manifest["kind"])
            try:
                model.model_validate(manifest, extra="forbid")
            except ValidationError as error:
                found += [f"{name}: {one['loc']}: {one['msg']}" for one in error.errors()]
            continue
        for version in job["versions"]:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                found.append(f"{name} at {version}: {where}: {error.message}")
    return {"problems": found}


def plain(files: dict[str, str]) -> dict[str, str]:
    """The files of plain manifests: what is left without Helm's hooks and notes."""
    return {
        path: HEADER + text.strip().removeprefix("---").lstrip() + "\n"
        for path, text in files.items()
        if path.endswith(".yaml") and "/" not in path and text.strip()
    }


def manifests(values: Path, folder: Path) -> None:
    """Write plain manifests; what was rendered there before goes."""
    rendered = render(
        {"values": yaml.safe_load(values.read_text()), "release": "atlas", "namespace": "atlas"}
    )
    if "refused" in rendered:
        raise SystemExit(f"{values}: {rendered['refused']}")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        if old.read_text().startswith(HEADER):
            old.unlink()
    for path, text in plain(rendered["files"]).items():
        (folder / path).write_text(text)


def main() -> None:
    """`manifests VALUES FOLDER`, or a job's name with the job on standard input."""
    match sys.argv[1:]:
        case ["manifests", values, folder]:
            manifests(Path(values), Path(folder))
        case [("lint" | "render" | "validate") as name]:
            job = {"lint": lint, "render": render, "validate": validate}[name]
            json.dump(job(json.load(sys.stdin)), sys.stdout)
        case _:
            raise SystemExit("chart.py manifests VALUES FOLDER | lint | render | validate")


if __name__ == "__main__":
    main()
