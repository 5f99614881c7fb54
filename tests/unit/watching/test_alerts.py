"""Each alert is raised by what it is for, and by nothing else: `promtool` plays the series."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.observability import generate
from deploy.observability.alerts import ALERTS

BUDGET = '{atlas_tenant="acme",atlas_budget_period="day",atlas_budget_unit="usd"}'
WELL = {
    'atlas_streams_running{job="provider_router",instance="r"}': "3",
    'atlas_tasks_held{job="agent_controller",instance="c"}': "2",
    'atlas_worker_running{job="agent_worker",instance="w"}': "1",
    'atlas_worker_concurrency{job="agent_worker",instance="w"}': "8",
    'atlas_nats_connected{job="provider_router",instance="r"}': "1",
    'atlas_nats_reconnects_total{job="provider_router",instance="r"}': "1",
    'atlas_event_loop_lateness_seconds{job="provider_router",instance="r"}': "0.01",
    'atlas_queue_depth{atlas_queue="requests",atlas_lane="batch",instance="r"}': "7",
    'atlas_queue_in_progress{atlas_queue="requests",atlas_lane="batch",instance="r"}': "2",
    'atlas_jetstream_messages{atlas_jetstream_stream="dead",instance="c"}': "0",
    'atlas_jetstream_size_bytes{atlas_jetstream_stream="submits",instance="c"}': "10",
    'atlas_jetstream_limit_bytes{atlas_jetstream_stream="submits",instance="c"}': "100",
    'atlas_jetstream_size_bytes{atlas_jetstream_stream="events",instance="c"}': "100",
    'atlas_jetstream_limit_bytes{atlas_jetstream_stream="events",instance="c"}': "100",
    'atlas_streams_ended_total{atlas_outcome="completed",instance="r"}': "0+10",
    'atlas_streams_ended_total{atlas_outcome="failed",instance="r"}': "0",
    'atlas_task_duration_seconds_count{atlas_outcome="completed",instance="c"}': "0+10",
    'atlas_task_duration_seconds_count{atlas_outcome="failed",instance="c"}': "0",
    'gen_ai_client_operation_time_to_first_chunk_seconds_bucket{le="10.24",instance="r"}': "0+10",
    'gen_ai_client_operation_time_to_first_chunk_seconds_bucket{le="5.12",instance="r"}': "0+10",
    'gen_ai_client_operation_time_to_first_chunk_seconds_bucket{le="+Inf",instance="r"}': "0+10",
    'atlas_door_duration_seconds_count{atlas_door="task.submit",error_type="overloaded"}': "0",
    'atlas_provider_circuit{atlas_provider="one",atlas_circuit_state="open"}': "0",
    'atlas_provider_circuit{atlas_provider="two",atlas_circuit_state="open"}': "0",
    'atlas_provider_attempts_total{atlas_provider="one"}': "0+10",
    'atlas_provider_failures_total{atlas_provider="one"}': "0",
    f"atlas_budget_spent{BUDGET}": "5",
    f"atlas_budget_limit{BUDGET}": "10",
}
"""A system that works; `events` may be full. `0+10` rises by ten with each sample."""

BAD: dict[str, dict[str, str | None]] = {
    "AtlasNoRouter": {"atlas_streams_running": None},
    "AtlasNoController": {"atlas_tasks_held": None},
    "AtlasNoWorker": {"atlas_worker_running": None},
    "AtlasWithoutNats": {"atlas_nats_connected": "0"},
    "AtlasNatsReconnects": {"atlas_nats_reconnects_total": "0+1"},
    "AtlasEventLoopLate": {"atlas_event_loop_lateness": "0.4"},
    "AtlasQueueGrows": {"atlas_queue_depth": "0+5"},
    "AtlasQueueStands": {"atlas_queue_in_progress": "0"},
    "AtlasWorkersBusy": {"atlas_worker_running": "8"},
    "AtlasDeadLetters": {"atlas_jetstream_messages": "1"},
    "AtlasStreamFull": {'size_bytes{atlas_jetstream_stream="submits"': "95"},
    "AtlasStreamsFail": {'streams_ended_total{atlas_outcome="failed"': "0+1"},
    "AtlasTasksFail": {'task_duration_seconds_count{atlas_outcome="failed"': "0+2"},
    "AtlasFirstContentLate": {'le="5.12"': "0+1", 'le="10.24"': "0+1"},
    "AtlasOverloaded": {"atlas_door": "0+1"},
    "AtlasNoProvider": {"atlas_provider_circuit": "1"},
    "AtlasCircuitOpen": {'circuit{atlas_provider="one"': "1"},
    "AtlasProviderFails": {"atlas_provider_failures": "0+3"},
    "AtlasBudgetNearlySpent": {"atlas_budget_spent": "9.5"},
}
"""What is otherwise when an alert is due: the series that such a text is in; None: gone."""
ALSO = {"AtlasNoProvider": {"AtlasCircuitOpen"}}
"""Alerts that come with another."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on the PATH (Debian's package `prometheus`)")
    return found


def _played(promtool: str, folder: Path, changed: dict[str, str | None]) -> set[str]:
    """The alerts that fire when these series are otherwise."""
    series = []
    for name, well in WELL.items():
        value = next((new for part, new in changed.items() if part in name), well)
        if value is not None:
            rises = value if "+" in value else f"{value}+0"
            series.append({"series": name, "values": f"{rises}x180"})
    tests = {
        "rule_files": [str(generate.RULES)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": series,
                # Whoever expects nothing is told by promtool what there is.
                "alert_rule_test": [
                    {"eval_time": "29m", "alertname": one.name, "exp_alerts": []} for one in ALERTS
                ],
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [promtool, "test", "rules", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("SUCCESS" in said), said
    return {one.name for one in ALERTS if f"alertname: {one.name}," in said}


def test_promtool_finds_nothing_wrong_with_prometheus_configuration_and_the_rules(promtool: str):
    done = subprocess.run(
        [promtool, "check", "config", str(generate.RULES.with_name("prometheus.yml"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"SUCCESS: {len(ALERTS)} rules found" in said


def test_no_alert_is_raised_while_all_is_well(promtool: str, tmp_path: Path):
    assert _played(promtool, tmp_path, {}) == set()


@pytest.mark.parametrize("name", [one.name for one in ALERTS])
def test_an_alert_is_raised_by_what_it_is_for_and_by_nothing_else(
    promtool: str, tmp_path: Path, name: str
):
    assert _played(promtool, tmp_path, BAD[name]) == {name} | ALSO.get(name, set())
