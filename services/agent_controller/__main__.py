"""`python -m agent_controller`, and the console script `atlas-agent-controller`."""

from agent_controller.main import NAME, QUEUE, compose
from atlas.process import run


def main() -> None:
    """Run an agent controller until SIGTERM."""
    run(NAME, QUEUE, compose)


if __name__ == "__main__":
    main()
