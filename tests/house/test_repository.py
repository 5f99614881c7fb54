"""What must not be committed, and what documents promise."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import rules

TEXTS = rules.text_files()
HERE = "tests/house/"
MAKEFILE = (rules.ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

REGISTRY = re.compile(
    r"(pypi\.org|pythonhosted\.org|registry\.npmjs\.org|--(extra-)?index-url|--find-links)"
)
SECRET = re.compile(
    r"sk-ant-[A-Za-z0-9_-]{20,}|sk-(proj-)?[A-Za-z0-9]{32,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|-----BEGIN USER NKEY SEED|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}"
)
LOCAL_PATH = re.compile(r"(?<![\w.~$}/-])/(work|root|home/(?!atlas\b)\w+|Users/\w+)/")


def _found(pattern: re.Pattern[str], texts: dict[str, str]) -> Iterator[str]:
    for name, text in texts.items():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name}:{line}: {match[0]}"


def _elsewhere() -> dict[str, str]:
    return {name: text for name, text in TEXTS.items() if not name.startswith(HERE)}


def test_no_package_registry_is_named() -> None:
    assert list(_found(REGISTRY, _elsewhere())) == []


def test_no_path_of_somebodys_machine_is_named() -> None:
    assert list(_found(LOCAL_PATH, _elsewhere())) == []


def test_no_secret_is_committed() -> None:
    assert list(_found(SECRET, _elsewhere())) == []


def test_no_file_for_secrets_is_committed() -> None:
    suspicious = {".env", ".creds", ".nk", ".pem", ".key"}
    assert [name for name in TEXTS if Path(name).suffix in suspicious or ".env" in name] == []


def test_no_lock_file_that_names_hosts_is_committed() -> None:
    hosts_inside = {"uv.lock", "poetry.lock", "package-lock.json"}
    assert [name for name in TEXTS if Path(name).name in hosts_inside] == []


@pytest.mark.parametrize("name", ["requirements/base.txt", "requirements/dev.txt"])
def test_every_locked_requirement_has_its_version_and_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", TEXTS[name].split("\n", 2)[2])
    loose = [
        block.splitlines()[0]
        for block in blocks
        if "==" not in block.splitlines()[0] or "--hash=sha256:" not in block
    ]
    assert loose == []


def test_what_runs_in_production_is_tested_at_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9.-]+==[^ ]+)", TEXTS[name], re.MULTILINE))

    assert pins("requirements/base.txt") <= pins("requirements/dev.txt")


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".md")])
def test_a_document_names_only_make_targets_that_exist(name: str) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", TEXTS[name]))
    named |= set(re.findall(r"^(?:\$ )?make ([a-z-]+)", TEXTS[name], re.MULTILINE))
    assert named <= TARGETS


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".md")])
def test_a_document_links_only_to_files_that_exist(name: str) -> None:
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", TEXTS[name])
    folder = (rules.ROOT / name).parent
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".md")])
def test_a_document_names_only_modules_that_exist(name: str) -> None:
    named = re.findall(r"`([\w/]+\.py)`", TEXTS[name])
    assert [one for one in named if not any(f"/{path}".endswith(f"/{one}") for path in TEXTS)] == []


def test_the_map_of_the_house_names_every_module_of_the_library() -> None:
    library = rules.ROOT / "shared" / "atlas"
    inside = [path.relative_to(library) for path in rules.python_files("shared/atlas")]
    parts = {one.name if len(one.parts) == 1 else f"{one.parts[0]}/" for one in inside}
    drawn = TEXTS["ARCHITECTURE.md"].split("\nshared/atlas/")[1].split("\nservices/")[0]
    assert set(re.findall(r"[a-z_]+(?:\.py|/)", drawn)) == parts - {"__init__.py"}


def test_every_make_target_is_explained_by_plain_make() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert TARGETS - explained == {"help"}


def test_the_list_of_examples_names_every_file_of_theirs_and_no_other() -> None:
    folder = rules.ROOT / "examples"
    listed = set(re.findall(r"\]\(([\w.]+)\)", (folder / "README.md").read_text()))
    committed = {Path(name).name for name in TEXTS if name.startswith("examples/")}
    assert listed == committed - {"README.md"}
