"""What the dashboards show of a bad minute: `python -m benchmarks.watched --save`.

Two routers, a controller and two workers do streams and tasks for two minutes, with mocks for
providers. One of these refuses its first calls, so its circuit opens; a worker is killed in the
middle. A real Prometheus (`prometheus` on the PATH) asks them every second. The picture is
drawn here from what it answers to the questions of Grafana's panels; Grafana itself has no part.
"""

import argparse
import asyncio
import contextlib
import math
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from atlas.client import Atlas
from atlas.contracts.errors import AtlasError
from atlas.embedded import NatsProcess, Services, free_port
from atlas.settings import Settings
from benchmarks.results import RESULTS, conditions
from deploy.observability.generate import BOARDS
from deploy.observability.panels import Panel

LASTS_S, KILLED_AT_S = 120, 70
STREAMS_A_SECOND, TASKS_A_SECOND = 4.0, 0.7
WINDOW = "10s"
PANELS = (
    ("atlas-streams", "Ended"),
    ("atlas-streams", "Time to first content"),
    ("atlas-streams", "Tokens"),
    ("atlas-providers", "Circuits"),
    ("atlas-providers", "Failed attempts"),
    ("atlas-providers", "Cost"),
    ("atlas-tasks", "Subtasks ended"),
    ("atlas-tasks", "Workers"),
    ("atlas-nats", "Messages"),
)
PRICE = {"input_usd_per_mtok": 3, "output_usd_per_mtok": 15}
CONFIGURATION = {
    "router": {"default_model": "quick/large", "circuit": {"cool_down_ms": 8000}},
    "worker": {"model": "quick/large", "concurrency": 4},
    "providers": {
        "quick": {
            "kind": "mock",
            "models": [{"name": "large", "price": PRICE}],
            "mock": {"first_token_ms": 150, "token_ms": 8},
        },
        "thorough": {
            "kind": "mock",
            "models": [{"name": "large", "price": PRICE}],
            "mock": {"first_token_ms": 600, "token_ms": 20},
        },
        "flaky": {
            "kind": "mock",
            "models": [{"name": "large", "price": PRICE}],
            "mock": {"first_token_ms": 150, "token_ms": 8, "fault": {"status": 500, "times": 7}},
        },
    },
    "groups": {"robust": {"strategy": "failover", "members": ["flaky/large", "thorough/large"]}},
}
MODELS = (None, None, "thorough/large", "robust", "robust")
PLAN: list[object] = [
    {"id": "look", "capability": "research", "instruction": "Look"},
    {"id": "count", "capability": "research", "instruction": "Count"},
    {"id": "write", "capability": "draft", "instruction": "Write", "depends_on": ["look", "count"]},
]


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[tuple[Services, list[dict[str, Any]]]]:
    """The services, and what Prometheus has to ask."""
    (folder / "atlas.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    nats = NatsProcess(folder / "nats")
    await nats.start()
    services = Services(nats.url, subprocess.DEVNULL)
    jobs = []
    try:
        for name, count in (("provider_router", 2), ("agent_controller", 1), ("agent_worker", 2)):
            ports = [free_port() for _ in range(count)]
            for port in ports:
                services.environment = {
                    "ATLAS_CONFIG": str(folder / "atlas.yaml"),
                    "ATLAS_MONITORING__PORT": str(port),
                }
                await services.start([name])
            targets = [f"127.0.0.1:{port}" for port in ports]
            jobs.append({"job_name": name, "static_configs": [{"targets": targets}]})
        yield services, jobs
    finally:
        await services.stop()
        await nats.stop()


@contextlib.contextmanager
def _prometheus(folder: Path, jobs: list[dict[str, Any]]) -> Any:
    binary = shutil.which("prometheus")
    if binary is None:
        sys.exit("watched: no prometheus on the PATH (Debian's package `prometheus`)")
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(  # noqa: S603 - the one that the user's PATH names
        [
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'metrics'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}/api/v1/query_range"
    finally:
        process.terminate()
        process.wait(30)


async def _load(atlas: Atlas, dice: random.Random) -> None:
    """Streams that come in a wave, and tasks; each ends by itself."""
    begun_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while (at_s := time.monotonic() - begun_s) < LASTS_S:
            group.create_task(_stream(atlas, dice.choice(MODELS)))
            if dice.random() < TASKS_A_SECOND / STREAMS_A_SECOND:
                group.create_task(_task(atlas))
            wave = 1 + 0.6 * math.sin(at_s / 12)
            await asyncio.sleep(dice.expovariate(STREAMS_A_SECOND * wave))


async def _stream(atlas: Atlas, model: str | None) -> None:
    with contextlib.suppress(AtlasError):  # that some fail is what is to be seen
        await atlas.generate("Tell me of a lake", model=model)


async def _task(atlas: Atlas) -> None:
    with contextlib.suppress(AtlasError):
        await (await atlas.submit("Three lakes", plan=PLAN)).result()


async def _kill_a_worker(services: Services) -> None:
    await asyncio.sleep(KILLED_AT_S)
    worker = next(one for one in services.running if one.name == "agent_worker")
    await services.kill(worker.pid)


def _panel(uid: str, title: str) -> Panel:
    (board,) = [one for one in BOARDS if one.uid == uid]
    return next(one for _, row in board.rows for one in row if one.title == title)


type Lines = list[tuple[str, list[float], list[float]]]
"""Of each series its name, the seconds since the beginning, and the values."""


async def _answers(url: str, panel: Panel, since_s: float) -> Lines:
    lines: Lines = []
    async with aiohttp.ClientSession() as session:
        for query in panel.queries:
            asked = re.sub(r"\$\w+", ".*", query.ask.replace("$__rate_interval", WINDOW))
            params = {"query": asked, "start": str(since_s), "end": str(time.time()), "step": "1"}
            async with session.get(url, params=params) as answer:
                answer.raise_for_status()
                found = (await answer.json())["data"]["result"]
            for one in found:
                values = [(float(at) - since_s, float(value)) for at, value in one["values"]]
                real = [(at, value) for at, value in values if math.isfinite(value)]
                name = _called(query.legend, one["metric"])
                lines.append((name, [at for at, _ in real], [value for _, value in real]))
    return lines


def _called(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), legend)


def _draw(drawn: list[tuple[str, Panel, Lines]], path: Path) -> None:
    """Small charts beside each other, as on a dashboard."""
    import matplotlib as mpl  # noqa: PLC0415 - only where `make bench` installed it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    mpl.rcParams |= {"svg.hashsalt": "atlas", "svg.fonttype": "none", "font.size": 7}
    figure, axes = plt.subplots(3, 3, figsize=(13, 8.2))
    for axis, (board, panel, lines) in zip(axes.flat, drawn, strict=True):
        for name, at_s, values in lines:
            axis.plot(at_s, values, label=name if any(values) else None, linewidth=1.2)
        axis.axvline(KILLED_AT_S, color="#adb5bd", linestyle=":", linewidth=1)
        unit = {"ops": "a second", "s": "seconds", "percentunit": "share", "currencyUSD": "USD/h"}
        axis.set_title(f"{board} · {panel.title}  ({unit.get(panel.unit, 'number')})", loc="left")
        axis.set_xlim(0, LASTS_S)
        highest = max((value for _, _, values in lines for value in values), default=0)
        axis.set_ylim(0, max(highest, panel.most or 0) * 1.35 or 1)  # with room for the legend
        axis.grid(visible=True, color="#e9ecef")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.legend(fontsize=6, frameon=False, ncols=2, loc="upper left")
    figure.suptitle(
        "Panels of the dashboards over two minutes; at the dotted line a worker is killed.\n"
        "Drawn by matplotlib from a real Prometheus' answers to the panels' questions, not a "
        "screenshot of Grafana",
        fontsize=9,
    )
    figure.supxlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


async def _run() -> list[tuple[str, Panel, Lines]]:
    titles = {one.uid: one.title.removeprefix("Atlas: ") for one in BOARDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _running(folder) as (services, jobs):
            with _prometheus(folder, jobs) as url:
                async with Atlas.connect(services.nats_url, settings=Settings()) as atlas:
                    since_s = time.time()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_kill_a_worker(services))
                        group.create_task(_load(atlas, random.Random(1)))
                panels = [(uid, _panel(uid, title)) for uid, title in PANELS]
                return [
                    (titles[uid], one, await _answers(url, one, since_s)) for uid, one in panels
                ]


def main() -> None:
    """Run it, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="draw benchmarks/results/watched.svg")
    said = parser.parse_args()
    print(conditions("python -m benchmarks.watched --save"))
    drawn = asyncio.run(_run())
    for board, panel, lines in drawn:
        for name, _, values in lines:
            shown = f"last {values[-1]:.3g}, most {max(values):.3g}" if values else "nothing"
            print(f"{board} · {panel.title} · {name}: {shown}")
    if said.save:
        RESULTS.mkdir(exist_ok=True)
        _draw(drawn, RESULTS / "watched.svg")


if __name__ == "__main__":
    main()
