"""The image and docker-compose.yml as an operator meets them: build, up, a task, a restart."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .composition import SERVICES, STORE_GB, Composition, running

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("engine"),
]


@pytest.fixture(scope="module")
def composition() -> Iterator[Composition]:
    """The whole composition, healthy, with the mock as its only provider."""
    with running() as made:
        yield made


@pytest.mark.parametrize("profile", ["cli", "observability", "ollama"])
def test_every_profile_of_the_composition_is_valid(profile: str) -> None:
    made = Composition("atlas-test-profile", dict(os.environ))
    services = set(made.compose("--profile", profile, "config", "--services").split())
    assert services > {"nats", *SERVICES}


@pytest.mark.parametrize("profile", ["cli", "observability", "ollama"])
def test_every_container_of_a_profile_is_contained_and_its_log_is_bounded(profile: str) -> None:
    made = Composition("atlas-test-profile", dict(os.environ))
    told = json.loads(made.compose("--profile", profile, "config", "--format", "json"))
    for name, service in told["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"] == {"driver": "local"}, name


def test_two_workers_stand_by(composition: Composition) -> None:
    assert len(composition.containers("agent-worker")) == 2


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_does_not_run_as_root(composition: Composition, service: str) -> None:
    assert composition.compose("exec", "-T", service, "id", "-u").strip() != "0"


def test_nats_is_open_to_this_machine_only(composition: Composition) -> None:
    assert composition.compose("port", "nats", "4222").startswith("127.0.0.1:")


def test_jetstream_keeps_no_more_than_the_variable_says(composition: Composition) -> None:
    asked = ("wget", "-q", "-O", "-", "http://127.0.0.1:8222/jsz")
    told = json.loads(composition.compose("exec", "-T", "nats", *asked))
    assert told["config"]["max_storage"] == STORE_GB * 2**30


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
    seed = composition.seed_of("default-publisher", tmp_path)
    own = {
        "NATS_URL": composition.nats_url,
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
    composition.up()
    assert composition.task("remembered")["state"] == "completed"


def test_a_task_submitted_before_every_service_was_killed_is_carried_to_its_end(
    composition: Composition,
) -> None:
    composition.atlas("task", "submit", "--id", "carried", "--goal", "Name three mountains.")
    composition.compose("kill", *SERVICES)
    composition.up()
    composition.atlas("task", "watch", "carried")
    assert composition.task("carried")["state"] == "completed"


def test_nothing_was_refused_to_any_user(composition: Composition) -> None:
    logged = composition.compose("logs", "--no-color", "nats").splitlines()
    assert [line for line in logged if " Violation - " in line] == []
