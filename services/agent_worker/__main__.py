"""`python -m agent_worker`, and the console script `atlas-agent-worker`."""

from agent_worker.main import NAME, QUEUE, compose
from atlas.service import run


def main() -> None:
    """Run an agent worker until SIGTERM."""
    run(NAME, QUEUE, compose)


if __name__ == "__main__":
    main()
