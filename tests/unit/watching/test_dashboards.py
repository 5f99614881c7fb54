"""The dashboards, rules and the composition of those who watch, as files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.observability import generate
from deploy.observability.alerts import ALERTS
from deploy.observability.panels import METRICS

ROOT = generate.HERE.parents[1]
DASHBOARDS = sorted(generate.DASHBOARDS.glob("*.json"))
PROVISIONED = generate.HERE / "grafana" / "provisioning"
COMPOSE = [generate.HERE / "compose.yml", ROOT / "deploy" / "ollama" / "compose.yml"]
GRID = 24


def _yaml(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text())
    return read


def test_what_is_checked_in_is_what_make_dashboards_writes():
    for path, content in generate.files().items():
        assert path.read_text() == content, f"{path.name}: run `make dashboards`"
    assert {path.stem for path in DASHBOARDS} == {one.uid for one in generate.BOARDS}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda one: one.stem)
def test_grafanas_own_types_read_a_dashboard_and_lose_nothing_of_it(path: Path):
    written = json.loads(path.read_text())
    read = Dashboard.from_json(written)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == written


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda one: one.stem)
def test_panels_fill_their_rows_and_cover_no_other(path: Path):
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
            for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    columns = {x for x, _ in taken}
    assert columns == set(range(GRID))
    assert len(taken) == GRID * len({y for _, y in taken})


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda one: one.stem)
def test_a_panel_says_what_it_shows_in_which_unit_and_whom_it_asks(path: Path):
    provisioned = {
        one["uid"]: one["type"]
        for one in _yaml(PROVISIONED / "datasources" / "atlas.yml")["datasources"]
    }
    for panel in json.loads(path.read_text())["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            source = target["datasource"]
            assert provisioned[source["uid"]] == source["type"]
    assert provisioned[str(METRICS.uid)] == METRICS.type_val


@pytest.mark.parametrize("board", generate.BOARDS, ids=lambda one: one.uid)
def test_a_question_uses_the_variables_of_its_dashboard_and_every_variable_is_used(board):
    asked = " ".join(query.ask for _, row in board.rows for one in row for query in one.queries)
    used = set(re.findall(r"\$(\w+)", asked)) - {"__rate_interval"}
    assert used == {one.name for one in board.variables}


def test_an_alert_has_a_name_of_its_own_and_says_what_to_do():
    names = [one.name for one in ALERTS]
    assert len(names) == len(set(names))
    for one in ALERTS:
        assert len(one.runbook.split()) > 8, one.name
        assert one.says.endswith(".")
        assert one.runbook.endswith(".")


def test_commands_and_settings_that_a_runbook_names_exist():
    said = " ".join(one.runbook for one in ALERTS)
    commands = set(re.findall(r"`atlas (\w+)", said))
    help_ = "\n".join(path.read_text() for path in (ROOT / "shared/atlas/cli").rglob("*.py"))
    assert commands == {"admin", "doctor", "providers", "task", "top"}
    assert [one for one in commands if f'"{one}"' not in help_ and f"def {one}" not in help_] == []
    settings = "\n".join(path.read_text() for path in (ROOT / "shared/atlas").glob("*settings.py"))
    named = re.findall(r"`(?:router|worker|topology|budgets)\.(\w+)`", said)
    assert named
    assert [one for one in named if not re.search(rf"^    {one}:", settings, re.MULTILINE)] == []


@pytest.mark.parametrize("path", COMPOSE, ids=lambda one: one.parent.name)
def test_a_watcher_is_bounded_hardened_and_open_to_this_machine_only(path: Path):
    composition = _yaml(path)
    for name, service in composition["services"].items():
        assert service["profiles"] == [path.parent.name]
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), f"{name} is not pinned"
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["mem_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            here = (path.parent / source).exists() and volume.endswith(":ro")
            assert here or source in composition["volumes"]


def test_the_composition_includes_those_who_watch_and_the_services_can_be_asked():
    composition = _yaml(ROOT / "docker-compose.yml")
    assert [ROOT / one for one in composition["include"]] == COMPOSE
    environment = composition["x-atlas"]["environment"]
    scraped = _yaml(generate.HERE / "prometheus" / "prometheus.yml")["scrape_configs"]
    found = {
        config["names"][0]: config["port"]
        for one in scraped
        for config in one.get("dns_sd_configs", [])
    }
    assert set(found) == {"provider-router", "agent-controller", "agent-worker"}
    assert set(found) < set(composition["services"])
    assert {str(port) for port in found.values()} == {environment["ATLAS_MONITORING__PORT"]}
