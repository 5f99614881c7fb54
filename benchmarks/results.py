"""What a benchmark leaves in `benchmarks/results/`: its tables with the machine, and a picture."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from atlas.embedded import find_nats_server

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("aiohttp", "nats-py", "openai", "pydantic", "uvloop")


def conditions(command: str) -> str:
    """Machine, versions and command of a run."""
    asked = [str(find_nats_server()), "--version"]
    server = subprocess.run(asked, capture_output=True, check=True, text=True)  # noqa: S603 - ours
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores ({platform.machine()}), shared with "
        f"other work; Python {sys.version.split()[0]}; {server.stdout.strip()}; {versions}\n\n"
        f"`{command}`"
    )


def save(name: str, text: str) -> None:
    """Write a report to `results/<name>.md`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def draw(name: str, title: str, panels: Mapping[str, Sequence[tuple[str, float]]]) -> None:
    """Draw bars to `results/<name>.svg`: of each panel (its label with the unit) one bar a row."""
    import matplotlib as mpl  # noqa: PLC0415 - only where `make bench` installed it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    mpl.rcParams |= {"svg.hashsalt": "atlas", "font.family": "sans-serif"}
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 3.2))
    for axis, (label, rows) in zip(axes, panels.items(), strict=True):
        names, values = zip(*reversed(rows), strict=True)
        colours = ["#2a6f97" if one.startswith("Atlas") else "#adb5bd" for one in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt=_shown, padding=3, fontsize=8)
        axis.set_title(label, fontsize=9)
        axis.set_xlim(0, max(values) * 1.22)
        axis.tick_params(labelsize=8)
        axis.xaxis.set_visible(False)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
