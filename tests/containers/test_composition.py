"""The image and docker-compose.yml as an operator meets them: build, up, a task, a restart."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("provider-router", "agent-controller", "agent-worker")
OF_THE_CALLER = ("ATLAS_", "NATS_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "COMPOSE_")

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Composition:
    """A running composition of the test's own."""

    project: str
    environment: dict[str, str]

    def compose(self, *command: str, timeout_s: float = 300) -> str:
        """Run `docker compose`; gives what it printed, and fails with all it said."""
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, "--ansi", "never", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"docker compose {command}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def atlas(self, *command: str) -> str:
        """Run the command line in its container; gives what it printed."""
        return self.compose("run", "--rm", "--no-TTY", "cli", *command)

    def task(self, task_id: str) -> dict[str, object]:
        """A task as it stands."""
        status = json.loads(self.atlas("task", "show", task_id, "--json"))
        assert isinstance(status, dict)
        return status

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers."""
        return self.compose("ps", "--quiet", service).split()


def _needs_engine() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker command on the PATH")
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if asked.returncode != 0:
            pytest.skip(f"`{' '.join(command)}` fails: {asked.stderr.strip()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


@pytest.fixture(scope="module")
def composition() -> Iterator[Composition]:
    """The whole composition, healthy, with the mock as its only provider."""
    _needs_engine()
    own = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_CALLER)}
    project = f"atlas-test-{secrets.token_hex(4)}"
    made = Composition(project, own | {"NATS_PORT": str(_free_port()), "ATLAS_IMAGE_TAG": "test"})
    try:
        made.compose("build", timeout_s=600)
        made.compose("up", "--detach", "--wait")
        yield made
    except AssertionError:
        print(_logs(made))  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        made.compose("--profile", "cli", "down", "--volumes", "--timeout", "5")


def _logs(made: Composition) -> str:
    return made.compose("logs", "--no-color", "--tail", "40")


@pytest.mark.parametrize("profile", ["cli", "observability", "ollama"])
def test_every_profile_of_the_composition_is_valid(profile: str) -> None:
    _needs_engine()
    made = Composition("atlas-test-profile", dict(os.environ))
    services = set(made.compose("--profile", profile, "config", "--services").split())
    assert services > {"nats", *SERVICES}


def test_two_workers_stand_by(composition: Composition) -> None:
    assert len(composition.containers("agent-worker")) == 2


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_does_not_run_as_root(composition: Composition, service: str) -> None:
    assert composition.compose("exec", "-T", service, "id", "-u").strip() != "0"


def test_nats_is_open_to_this_machine_only(composition: Composition) -> None:
    assert composition.compose("port", "nats", "4222").startswith("127.0.0.1:")


def test_nobody_connects_without_a_user(composition: Composition) -> None:
    port = int(composition.environment["NATS_PORT"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
        stranger.sendall(b'CONNECT {"verbose": false}\r\nPING\r\n')
        said = stranger.makefile("rb")
        assert b'"auth_required":true' in said.readline()
        assert b"Authorization Violation" in said.readline()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_holds_no_seed_but_its_own(composition: Composition, service: str) -> None:
    found = composition.compose("exec", "-T", service, "find", "/access", "-name", "user.nk")
    own = {"provider-router": "provider_router", "agent-controller": "agent_controller"}
    assert found.split() == [f"/access/users/{own.get(service, 'agent_worker')}/user.nk"]


def test_seeds_are_kept_when_users_are_made_again(composition: Composition) -> None:
    made = composition.compose("run", "--rm", "--no-TTY", "access")
    assert made == ""


def test_a_tenants_user_watches_and_submits(composition: Composition, tmp_path: Path) -> None:
    composition.compose("cp", "access:/access/users/default-publisher", str(tmp_path))
    seed = tmp_path / "default-publisher" / "user.nk"
    own = {
        "NATS_URL": f"nats://127.0.0.1:{composition.environment['NATS_PORT']}",
        "ATLAS_NATS__NKEY_SEED_FILE": str(seed),
        "ATLAS_NATS__INBOX_PREFIX": "_INBOX.default.default-publisher",
    }
    goal = ("--goal", "Name three seas.")
    done = subprocess.run(
        [sys.executable, "-m", "atlas.cli", "task", "run", "--id", "seas", *goal],
        env=composition.environment | own,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert composition.task("seas")["state"] == "completed"


def test_a_task_runs_to_its_end_through_the_command_line(composition: Composition) -> None:
    goal = ("--goal", "Say what this project promises.", "--input", "README.md")
    composition.atlas("task", "run", "--id", "promises", *goal)
    assert composition.task("promises")["state"] == "completed"


def test_a_completed_task_holds_its_answer(composition: Composition) -> None:
    composition.atlas("task", "run", "--id", "answered", "--goal", "Name three lakes.")
    assert composition.task("answered")["output"]


def test_a_task_is_remembered_when_every_container_was_killed(composition: Composition) -> None:
    composition.atlas("task", "run", "--id", "remembered", "--goal", "Name three rivers.")
    composition.compose("kill")
    composition.compose("up", "--detach", "--wait")
    assert composition.task("remembered")["state"] == "completed"


def test_a_task_submitted_before_every_service_was_killed_is_carried_to_its_end(
    composition: Composition,
) -> None:
    composition.atlas("task", "submit", "--id", "carried", "--goal", "Name three mountains.")
    composition.compose("kill", *SERVICES)
    composition.compose("up", "--detach", "--wait")
    composition.atlas("task", "watch", "carried")
    assert composition.task("carried")["state"] == "completed"


def test_nothing_was_refused_to_any_user(composition: Composition) -> None:
    logged = composition.compose("logs", "--no-color", "nats").splitlines()
    assert [line for line in logged if " Violation - " in line] == []
