"""`python -m agent_worker`, and the console script `atlas-agent-worker`."""

from agent_worker.main import compose
from atlas.process import run
from atlas.worker.worker import NAME, QUEUE


def main() -> None:
    """Run an agent worker until SIGTERM."""
    run(NAME, QUEUE, compose)


if __name__ == "__main__":
    main()
