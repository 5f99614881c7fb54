"""What every test with containers needs."""

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with Compose; where there is none the test is skipped."""
    if shutil.which("docker") is None:
        pytest.skip("no docker command on the PATH")
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if asked.returncode != 0:
            pytest.skip(f"`{' '.join(command)}` fails: {asked.stderr.strip()}")
