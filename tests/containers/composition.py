"""A composition of a test's own, under a project name of its own, and what Docker has of it."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas.embedded import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("provider-router", "agent-controller", "agent-worker")
STORE_GB = 7
"""Another bound of JetStream than the one by default."""
_OF_THE_CALLER = ("ATLAS_", "NATS_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "COMPOSE_")


@dataclass(frozen=True, slots=True)
class Composition:
    """A project of Compose, and the environment that it is read with."""

    project: str
    environment: dict[str, str]

    @classmethod
    def own(cls) -> "Composition":
        """A project that nobody else has, on a free port, with the mock as its only provider."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_CALLER)
        }
        own = {
            "NATS_PORT": str(free_port()),
            "NATS_MAX_FILE_STORE": f"{STORE_GB}GB",
            "ATLAS_IMAGE_TAG": "test",
        }
        return cls(f"atlas-test-{secrets.token_hex(4)}", kept | own)

    @property
    def nats_url(self) -> str:
        """Where this machine finds its NATS."""
        return f"nats://127.0.0.1:{self.environment['NATS_PORT']}"

    def docker(self, *command: str, timeout_s: float = 300) -> str:
        """Run `docker`; gives what it printed, and fails with all it said."""
        done = subprocess.run(
            ["docker", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"docker {command}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def compose(self, *command: str, timeout_s: float = 300) -> str:
        """Run `docker compose` on this project."""
        project = ("--project-name", self.project, "--ansi", "never")
        return self.docker("compose", *project, *command, timeout_s=timeout_s)

    def up(self, *options: str) -> None:
        """Start what does not run, and wait until everything is healthy."""
        self.compose("up", "--detach", "--wait", *options)

    def atlas(self, *command: str) -> str:
        """Run the command line in its container; gives what it printed."""
        return self.compose("run", "--rm", "--no-TTY", "cli", *command)

    def task(self, task_id: str) -> dict[str, object]:
        """A task as it stands."""
        status = json.loads(self.atlas("task", "show", task_id, "--json"))
        assert isinstance(status, dict)
        return status

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers that run."""
        return self.compose("ps", "--quiet", service).split()

    def seed_of(self, user: str, folder: Path) -> Path:
        """The seed of a user, brought from its volume into a folder of this machine."""
        self.compose("cp", f"access:/access/users/{user}", str(folder))
        return folder / user / "user.nk"

    def left(self) -> dict[str, list[str]]:
        """What Docker has of it, by kind; nothing of a kind that it has nothing of."""
        label = f"label=com.docker.compose.project={self.project}"
        listed = {
            "containers": self.docker("ps", "--all", "--quiet", "--filter", label),
            "networks": self.docker("network", "ls", "--quiet", "--filter", label),
            "volumes": self.docker("volume", "ls", "--quiet", "--filter", label),
        }
        return {kind: told.split() for kind, told in listed.items() if told}


@contextmanager
def running(*options: str) -> Iterator[Composition]:
    """The whole composition, built and healthy; `options` are those of `docker compose up`."""
    made = Composition.own()
    try:
        made.compose("build", timeout_s=600)
        made.up(*options)
        yield made
    except AssertionError:
        print(made.compose("logs", "--no-color", "--tail", "40"))  # noqa: T201 - shown by pytest
        raise
    finally:
        made.compose("--profile", "cli", "down", "--volumes", "--timeout", "5")
