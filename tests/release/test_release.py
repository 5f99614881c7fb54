"""The wheel, the source archive and the bill of materials that `make release` left in `dist`."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from atlas.embedded import find_nats_server

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
RELEASED = ROOT / "build" / "released"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OF_THE_CALLER = (
    "ATLAS_",
    "NATS_",
    "OPENAI_",
    "ANTHROPIC_",
    "OLLAMA_",
    "OTEL_",
    "PYTHON",
    "VIRTUAL",
)

SAYS_NOTHING = {"protobuf"}
"""Whose wheels name no licence; this one's is the three-clause BSD licence, by its repository."""

pytestmark = [pytest.mark.release, pytest.mark.timeout(300)]


def only(pattern: str) -> Path:
    found = list(DIST.glob(pattern))
    assert len(found) == 1, f"dist holds {len(found)} of {pattern}; run `make release`"
    return found[0]


def ran(*command: str, cwd: Path, **variables: str) -> str:
    """Run a program of the released environment, with nothing of this checkout in reach."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(OF_THE_CALLER)
    }
    done = subprocess.run(
        [RELEASED / "bin" / command[0], *command[1:]],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_version_stands_in_one_place(tmp_path: Path):
    assert VERSION in only("*.whl").name
    assert VERSION in only("*.tar.gz").name
    assert (
        ran("atlas", "version", "--json", cwd=tmp_path) == json.dumps({"version": VERSION}) + "\n"
    )


def test_who_builds_it_again_gets_the_same_bytes(tmp_path: Path):
    built_at = subprocess.run(
        ["git", "log", "-1", "--format=%ct"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", tmp_path],
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": built_at},
        check=True,
    )
    again = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    first = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (only("*.whl"), only("*.tar.gz"))
    }
    assert again == first


def test_the_wheel_holds_every_module_and_nothing_else():
    with zipfile.ZipFile(only("*.whl")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    packages = {"shared/atlas": "atlas"}
    packages |= {f"services/{one.name}": one.name for one in (ROOT / "services").iterdir()}
    expected = {
        f"{name}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, name in packages.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected


def test_the_source_archive_holds_what_is_needed_to_build_and_to_test():
    with tarfile.open(only("*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "Makefile", "LICENSE", "requirements/dev.txt"} <= names
    assert not [name for name in names if name.startswith((".venv", "dist", "build"))]


def test_the_bill_of_materials_names_every_locked_package_with_its_licence():
    bill = json.loads(only("*.cdx.json").read_text())
    assert bill["metadata"]["component"]["name"] == "atlas-llm"
    listed = {normal(one["name"]): one for one in bill["components"]}
    locked = re.findall(
        r"^([A-Za-z0-9._-]+)==(\S+)(.*)$",
        (ROOT / "requirements/base.txt").read_text(),
        re.MULTILINE,
    )
    for name, version, rest in locked:
        if "; " in rest and normal(name) not in listed:
            continue  # for another platform
        assert listed[normal(name)]["version"] == version
    without = {name for name, one in listed.items() if not one.get("licenses")}
    assert without <= SAYS_NOTHING


def test_a_task_runs_with_what_is_installed(tmp_path: Path):
    """On a machine that has the wheel, its locked dependencies, and a NATS server on its PATH."""
    shown = ran(
        "atlas",
        *("task", "run", "--standalone", "--goal", "Compare three lakes", "--json"),
        cwd=tmp_path,
        PATH=f"{find_nats_server().parent}:/usr/bin:/bin",
    )
    assert json.loads(shown.splitlines()[-1])["type"] == "task.completed"
