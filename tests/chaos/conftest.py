"""What a run of chaos may be told: which seeds, how many streams, and how many tasks."""

import pytest

FEW_STREAMS, FEW_TASKS = 30, 25
"""A run among all other tests; `make chaos` asks for more."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seeds", default="1", help="Plans of faults to carry out: '1 2 3'.")
    parser.addoption("--chaos-streams", type=int, default=FEW_STREAMS, help="Streams in each.")
    parser.addoption("--chaos-tasks", type=int, default=FEW_TASKS, help="Tasks in each.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where the options are unknown (`pytest tests` reads this file too late), their defaults."""
    option = metafunc.config.getoption
    if "seed" in metafunc.fixturenames:
        asked = str(option("--chaos-seeds", "1"))
        try:
            seeds = [int(one) for one in asked.replace(",", " ").split()]
        except ValueError:
            raise pytest.UsageError(f"--chaos-seeds: {asked!r} is no list of numbers") from None
        metafunc.parametrize("seed", seeds, ids=lambda seed: f"seed {seed}")
    if "streams" in metafunc.fixturenames:
        streams = option("--chaos-streams", FEW_STREAMS)
        metafunc.parametrize("streams", [streams], ids=lambda count: f"{count} streams")
    if "tasks" in metafunc.fixturenames:
        tasks = option("--chaos-tasks", FEW_TASKS)
        metafunc.parametrize("tasks", [tasks], ids=lambda count: f"{count} tasks")
