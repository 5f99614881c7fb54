"""Writes Grafana's dashboards and Prometheus' alert rules: `make dashboards`.

Panels stand in `boards/`, rules in `alerts.py`; the names of metrics come from the one table. The
table of alerts in docs/operate.md is written too.
"""

import json
import re
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.observability.alerts import ALERTS
from deploy.observability.boards.nats import NATS
from deploy.observability.boards.providers import PROVIDERS_BOARD
from deploy.observability.boards.streams import STREAMS
from deploy.observability.boards.tasks import TASKS
from deploy.observability.panels import Board

HERE = Path(__file__).parent
BOARDS = (STREAMS, PROVIDERS_BOARD, TASKS, NATS)
DASHBOARDS = HERE / "grafana" / "dashboards"
RULES = HERE / "prometheus" / "alerts.yml"
OPERATE = HERE.parents[1] / "docs" / "operate.md"
_TABLE = re.compile(r"(?<=\n\n)\| alert \|.*?(?=\n\n|\n\Z)", re.DOTALL)


def dashboard(board: Board) -> str:
    """A dashboard as Grafana reads it."""
    return json.dumps(board.build().build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def rules() -> str:
    """The alerts as Prometheus reads them."""
    groups = [{"name": "atlas", "rules": [one.rule() for one in ALERTS]}]
    text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=100, allow_unicode=True)
    return (
        "# Written from deploy/observability/alerts.py by `make dashboards`; change it there.\n"
        + (text)
    )


def table() -> str:
    """The alerts as people read them."""
    rows = [
        f"| `{one.name}` | {one.severity} | `{one.ask}` for {one.lasts} | {one.runbook} |"
        for one in ALERTS
    ]
    return "\n".join(["| alert | severity | when | what to do |", "|---|---|---|---|", *rows])


def files() -> dict[Path, str]:
    """Every file that is written, with its content."""
    page = _TABLE.sub(lambda _: table(), OPERATE.read_text(), count=1)
    boards = {DASHBOARDS / f"{one.uid}.json": dashboard(one) for one in BOARDS}
    return {**boards, RULES: rules(), OPERATE: page}


def main() -> None:
    """Write them."""
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
