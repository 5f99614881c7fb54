"""Fixtures of integration tests."""

import shutil
import subprocess
from pathlib import Path

import pytest

from atlas.bus import Bus
from tests.support.tasks import User

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def node_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples with NATS's client installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm on the PATH")
    folder = tmp_path_factory.mktemp("examples")
    for path in (EXAMPLES / "package.json", *EXAMPLES.glob("*.mjs")):
        shutil.copy(path, folder)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install NATS's client: {installed.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
async def user(bus: Bus) -> User:
    """Anyone with a NATS client."""
    return User(bus)
