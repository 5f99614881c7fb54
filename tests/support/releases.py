"""What each release says on the wire, kept for every later one to be compared with.

`make snapshot` writes that of a commit, at a release: the shape of every message, and of what
services keep for themselves, as JSON Schema; an example of each message as it is written; the
subjects; the JetStream assets; and the commit itself, from which `make release-check` builds that
release again and runs it beside the new one.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

type Json = dict[str, object]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "fixtures" / "releases"
_TIME_S = 120
_TELLS_NOTHING = {"$defs", "$id", "$schema", "description", "examples", "title"}
_VALUES = {"const", "default", "enum"}


@dataclass(frozen=True, slots=True)
class Release:
    """The contract of one version."""

    version: str
    commit: str
    subjects: dict[str, str]
    """What is sent where."""
    examples: dict[str, Json]
    definitions: dict[str, Json]
    """The shape of each message, of what services keep for themselves, and of what these are made
    of; references are `#/$defs/NAME`."""
    assets: dict[str, Json]
    """What is checked of each JetStream stream and consumer, with the settings' defaults."""

    def write(self) -> Path:
        """Write it where later versions find it."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.version}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path

    def says_the_same_as(self, other: "Release") -> bool:
        """Whether only the commits differ."""
        return {**asdict(self), "commit": ""} == {**asdict(other), "commit": ""}


def recorded() -> list[Release]:
    """Every release that is kept, the oldest first."""
    found = [Release(**json.loads(path.read_text())) for path in FOLDER.glob("*.json")]
    return sorted(found, key=lambda one: Version(one.version))


def said() -> Any:
    """What the code in reach says: of this checkout, or of the tree of another commit.

    Its own text runs there, so it needs nothing of this module.
    """
    import json  # noqa: PLC0415
    from dataclasses import asdict, is_dataclass  # noqa: PLC0415
    from enum import Enum  # noqa: PLC0415

    from atlas.backup import SavedStream  # noqa: PLC0415
    from atlas.settings import TopologySettings  # noqa: PLC0415
    from atlas.topology import Topology  # noqa: PLC0415
    from atlas.worker.journal import Entry  # noqa: PLC0415
    from docs.contract_subjects import internal_subjects, public_subjects  # noqa: PLC0415
    from docs.contract_tables import schemas  # noqa: PLC0415
    from provider_router.accounting.reservations import Reservation  # noqa: PLC0415
    from provider_router.routing.circuit_record import CircuitRecord  # noqa: PLC0415
    from tests.unit.contracts.examples import EXAMPLES  # noqa: PLC0415

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value.value if isinstance(value, Enum) else value

    topology = Topology(TopologySettings())
    fields = ("filter_subject", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending")
    checked = [(one.name, one.config, one.compared) for one in topology.expected()]
    consumers = [(f"{on} > {one.durable_name}", one, fields) for on, one in topology.consumers()]
    assets = {
        name: {
            field: plain(value)
            for field in compared
            if (value := getattr(config, field)) is not None
        }
        for name, config, compared in [*checked, *consumers]
    }
    records: dict[str, Any] = {
        "CircuitRecord": CircuitRecord,
        "JournalEntry": Entry,
        "Reservation": Reservation,
        "SavedStream": SavedStream,
    }
    kept = {name: record.model_json_schema() for name, record in records.items()}
    return {
        "schemas": {**schemas(), **kept},
        "examples": {name: json.loads(one.to_json()) for name, one in EXAMPLES.items()},
        "subjects": {row[0]: row[2] for row in [*public_subjects(), *internal_subjects()]},
        "assets": assets,
    }


_SCRIPT = (
    f"import json\nfrom typing import Any\n{inspect.getsource(said)}\nprint(json.dumps(said()))"
)


def flat(schemas: dict[str, Json]) -> dict[str, Json]:
    """The schemas as definitions, each once, without what is said to people."""
    found: dict[str, Json] = {}
    for name, schema in schemas.items():
        within = schema.get("$defs", {})
        assert isinstance(within, dict)
        found |= {**within, name: schema}
    return {name: _bare(found[name]) for name in sorted(found)}


def _bare(schema: Json) -> Json:
    kept: Json = {}
    for word, value in schema.items():
        if word in _TELLS_NOTHING:
            continue
        if word == "properties":
            assert isinstance(value, dict)
            kept[word] = {name: _bare(one) for name, one in value.items()}
        elif word in _VALUES:
            kept[word] = value
        elif isinstance(value, dict):
            kept[word] = _bare(value)
        elif isinstance(value, list):
            kept[word] = [_bare(one) if isinstance(one, dict) else one for one in value]
        else:
            kept[word] = value
    return kept


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, check=True, timeout=_TIME_S
    ).stdout


def export(commit: str, folder: Path) -> None:
    """Write a commit's files into a folder.

    Raises:
        subprocess.CalledProcessError: This clone does not have the commit.
    """
    archive = _git("archive", commit)
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True, timeout=_TIME_S)


def of_commit(name: str) -> Release:
    """What a commit says, as its own code tells it."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        export(name, tree)
        paths = os.pathsep.join([str(tree / "shared"), str(tree / "services")])
        told = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            check=True,
            timeout=_TIME_S,
        ).stdout
        version = _version(tree)
    found = json.loads(told)
    return Release(
        version=version,
        commit=_git("rev-parse", f"{name}^{{commit}}").decode().strip(),
        subjects=found["subjects"],
        examples=found["examples"],
        definitions=flat(found["schemas"]),
        assets=found["assets"],
    )


def export_older(folder: Path) -> None:
    """Write the files of the release before this version; of this one, while it is the first."""
    version = Version(_version(ROOT))
    older = [one for one in recorded() if Version(one.version) < version] or recorded()
    folder.mkdir(parents=True)
    try:
        export(older[-1].commit, folder)
    except subprocess.CalledProcessError:
        sys.exit(
            f"release: this clone lacks {older[-1].commit}, of which {older[-1].version} was made; "
            f"fetch it, or record that release again: make snapshot COMMIT=v{older[-1].version}"
        )


def _version(tree: Path) -> str:
    return str(tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"])


def main() -> None:
    """Record a commit, say whether its record is up to date, or export the release before."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("commit", nargs="?", default="HEAD")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--export-older", type=Path, metavar="FOLDER")
    asked = parser.parse_args()
    if asked.export_older is not None:
        export_older(asked.export_older)
        return
    release = of_commit(asked.commit)
    if not asked.check:
        sys.stdout.write(f"snapshot: wrote {release.write().relative_to(ROOT)}\n")
    elif not any(release.says_the_same_as(one) for one in recorded()):
        sys.exit(
            f"release: tests/fixtures/releases/{release.version}.json is not what this commit "
            "says; run `make snapshot`, commit it, then again"
        )


if __name__ == "__main__":
    main()
