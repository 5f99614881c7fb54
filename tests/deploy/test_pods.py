"""What the manifests mean for a pod: safe, probed, bounded, and told settings that exist."""

import os
import re
from pathlib import Path

import pytest
import yaml

from atlas.access import Role, User
from atlas.settings import Settings, load_settings

from .conftest import ROOT, Manifest, Release, container, environment, render, values_of

OWN_VARIABLES = re.compile("^(ATLAS_|NATS_|OPENAI_|ANTHROPIC_|OLLAMA_)")
SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSWORD|HEADERS")
NATS = {"connection": {"url": "nats://nats:4222", "anonymous": True}}
ROLES = {
    "router": Role.PROVIDER_ROUTER,
    "controller": Role.AGENT_CONTROLLER,
    "worker": Role.AGENT_WORKER,
    "test": Role.OPERATOR,
}
LEFT_AFTER_A_DRAIN_S = 23
"""Besides, at most: doors 2 + 2, handing over 5, books 3, NATS 6, spans 3, monitors 2."""


def settings_of(
    release: Release, pod: Manifest, folder: Path, patch: pytest.MonkeyPatch
) -> Settings:
    """What a pod's process reads as its settings."""
    for name in filter(OWN_VARIABLES.match, list(os.environ)):
        patch.delenv(name)
    for name, value in environment(pod).items():
        patch.setenv(name, value)
    config = folder / "atlas.yaml"
    config.write_text(yaml.safe_dump(release.config()))
    patch.setenv("ATLAS_CONFIG", str(config))
    return load_settings()


def files_of(pod: Manifest) -> set[str]:
    """The files that the pod's named volumes bring, by their paths in the container."""
    spec = pod["spec"]
    found = set()
    for mount in container(pod)["volumeMounts"]:
        (volume,) = [one for one in spec["volumes"] if one["name"] == mount["name"]]
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        names = [item["path"] for one in sources for item in one.get("secret", {}).get("items", [])]
        if "configMap" in volume:
            names = ["atlas.yaml"]
        found |= {f"{mount['mountPath']}/{name}" for name in names}
    return found


def test_every_pod_keeps_the_restricted_standard(example: Release) -> None:
    for pod in example.pods().values():
        spec, only = pod["spec"], container(pod)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        allowed = {"emptyDir", "configMap", "secret", "projected"}
        assert all(set(one) - {"name"} <= allowed for one in spec["volumes"])
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_the_user_of_the_pods_is_the_image_s(example: Release) -> None:
    (uid,) = re.findall(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert {one["spec"]["securityContext"]["runAsUser"] for one in example.pods().values()} == {
        int(uid)
    }


def test_no_pod_has_a_token_of_the_cluster_or_variables_of_other_services(example: Release) -> None:
    for pod in example.pods().values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
    accounts = example.of("ServiceAccount")
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    named = {one["spec"].get("serviceAccountName") for one in example.pods().values()} - {None}
    assert named == set(accounts)


def test_every_service_is_probed_where_it_answers_and_bounded(example: Release) -> None:
    for deployment in example.of("Deployment").values():
        only = container(deployment["spec"]["template"])
        (port,) = only["ports"]
        paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            assert only[probe]["httpGet"] == {"path": path, "port": port["name"]}
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(only["resources"][kind])


def test_a_new_pod_is_ready_before_an_old_one_ends_and_one_at_most_is_evicted(
    example: Release,
) -> None:
    for name, deployment in example.of("Deployment").items():
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        budget = example.of("PodDisruptionBudget")[name]["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["spec"]["selector"]


def test_selectors_find_their_own_pods_and_no_others(example: Release) -> None:
    pods = {name: one["metadata"]["labels"].items() for name, one in example.pods().items()}
    for name, deployment in example.of("Deployment").items():
        wanted = deployment["spec"]["selector"]["matchLabels"].items()
        assert [one for one, labels in pods.items() if wanted <= labels] == [name]


def test_every_image_is_of_the_version_of_the_project(example: Release) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', text, re.MULTILINE)
    assert {container(one)["image"].split(":")[-1] for one in example.pods().values()} == {version}


def test_every_variable_and_all_of_atlas_yaml_is_a_setting_that_exists(
    example: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in example.pods().values():
        with monkeypatch.context() as patch:
            settings = settings_of(example, pod, tmp_path, patch)
        told = environment(pod)
        assert settings.nats.url == told["NATS_URL"]
        seed = told.get("ATLAS_NATS__NKEY_SEED_FILE")
        assert settings.nats.nkey_seed_file == (seed and Path(seed))
        assert settings.monitoring.host == "0.0.0.0"
        if ports := container(pod).get("ports"):
            assert settings.monitoring.port == ports[0]["containerPort"]


def test_a_pool_s_capabilities_and_concurrency_reach_its_workers(
    production: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = production.pods()["atlas-worker-research"]
    worker = settings_of(production, pod, tmp_path, monkeypatch).worker
    assert (worker.capabilities, worker.concurrency) == (["research", "analysis"], 32)


def test_a_variable_is_told_before_another_refers_to_it(example: Release) -> None:
    for pod in example.pods().values():
        told: set[str] = set()
        for one in container(pod)["env"]:
            assert set(re.findall(r"\$\(([A-Z_]+)\)", one.get("value", ""))) <= told
            told.add(one["name"])


def test_no_manifest_contains_a_secret(example: Release) -> None:
    assert example.of("Secret") == {}
    for pod in example.pods().values():
        named = [one for one in container(pod)["env"] if SECRET_NAME.search(one["name"])]
        assert all(one.get("value", "/etc/atlas/").startswith("/etc/atlas/") for one in named)
    assert "api_key:" not in "".join(example.files.values())


def test_credentials_and_keys_are_files_where_the_settings_look_for_them(
    production: Release,
) -> None:
    keys = {one["api_key_file"] for one in production.config()["providers"].values()}
    assert keys == {"/etc/atlas/keys/anthropic", "/etc/atlas/keys/openai"}
    for name, pod in production.pods().items():
        told = environment(pod)
        expected = {
            told[name]
            for name in ("ATLAS_CONFIG", "ATLAS_NATS__NKEY_SEED_FILE", "ATLAS_NATS__TLS__CA")
        }
        if name in {"atlas-router", "atlas-test"}:
            expected |= keys
        assert files_of(pod) == expected


def test_each_service_has_credentials_of_its_own(production: Release) -> None:
    secrets = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: volume["secret"]["secretName"]
        for one in production.pods().values()
        for volume in one["spec"]["volumes"]
        if volume["name"] == "nats"
    }
    assert secrets == {
        "router": "atlas-nats-router",
        "controller": "atlas-nats-controller",
        "worker": "atlas-nats-worker",
        "test": "atlas-nats-operator",
    }


def test_each_service_hears_its_answers_where_its_user_may(production: Release) -> None:
    for pod in production.pods().values():
        role = ROLES[pod["metadata"]["labels"]["app.kubernetes.io/component"]]
        assert environment(pod)["ATLAS_NATS__INBOX_PREFIX"] == User(role, role).inbox


def test_a_server_with_users_by_credentials_files_is_told_so() -> None:
    user = {"secret": "atlas-nats", "creds": "mine.creds"}
    everyone = dict.fromkeys(("router", "controller", "worker", "test"), user)
    release = render({"connection": {"url": "nats://nats:4222", "credentials": everyone}})
    for pod in release.pods().values():
        told = environment(pod)
        assert told["NATS_CREDS"] in files_of(pod)
        assert not {"ATLAS_NATS__NKEY_SEED_FILE", "ATLAS_NATS__INBOX_PREFIX"} & set(told)


def test_a_pool_may_be_another_user_than_other_workers() -> None:
    own = {"credentials": {"secret": "atlas-nats-translate", "creds": "mine.creds"}}
    values = {**values_of("production"), "workers": {"general": {}, "translate": own}}
    pods = render(values).pods()
    for pool, secret in (("general", "atlas-nats-worker"), ("translate", "atlas-nats-translate")):
        volumes = pods[f"atlas-worker-{pool}"]["spec"]["volumes"]
        (nats,) = [one["secret"] for one in volumes if one["name"] == "nats"]
        assert nats["secretName"] == secret


@pytest.mark.parametrize("drain_ms", [None, 1_500, 600_000])
def test_a_pod_is_given_more_time_than_its_drain_takes(drain_ms: int | None) -> None:
    services = ("router", "controller", "worker")
    config = {one: {"drain_ms": drain_ms} for one in services} if drain_ms else {}
    settings = Settings.model_validate(config)
    for deployment in render({**NATS, "config": config}).of("Deployment").values():
        component = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        drain_s = getattr(settings, component).drain_ms / 1000
        given_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert given_s >= drain_s + LEFT_AFTER_A_DRAIN_S


@pytest.mark.parametrize(
    ("change", "restarted"),
    [
        ({"providers": {"ollama": {"kind": "ollama"}}}, set()),
        ({"budgets": {"tenants": {"*": {"day": {"max_usd": 1}}}}}, set()),
        ({"router": {"max_streams": 10}}, {"atlas-router"}),
        ({"controller": {"max_plan_nodes": 9}}, {"atlas-controller"}),
        ({"worker": {"model": "mock/fast"}}, {"atlas-worker-general"}),
        (
            {"topology": {"task_days": 3}},
            {"atlas-router", "atlas-controller", "atlas-worker-general"},
        ),
    ],
)
def test_a_changed_configuration_restarts_those_who_do_not_take_it_up_themselves(
    minimal: Release, change: dict[str, object], restarted: set[str]
) -> None:
    changed = render({**NATS, "config": change}).of("Deployment")
    before = minimal.of("Deployment")
    assert {name for name, one in changed.items() if one != before[name]} == restarted


def test_a_worker_of_one_s_own_has_its_own_image_and_command() -> None:
    own = {
        "image": {"repository": "registry.example.com/translate", "tag": "7"},
        "command": ["python", "-m", "translate"],
        "capabilities": ["translate"],
    }
    release = render({**NATS, "workers": {"general": None, "translate": own}})
    assert set(release.of("Deployment")) == {
        "atlas-router",
        "atlas-controller",
        "atlas-worker-translate",
    }
    only = container(release.pods()["atlas-worker-translate"])
    assert only["image"] == "registry.example.com/translate:7"
    assert only["command"] == ["python", "-m", "translate"]


def test_two_releases_in_one_namespace_share_no_name() -> None:
    both = [render(NATS, release=name).manifests for name in ("one", "two")]
    first, second = ({(one["kind"], one["metadata"]["name"]) for one in each} for each in both)
    assert not first & second


def test_the_nats_of_the_chart_is_told_to_keep_the_restricted_standard_too() -> None:
    nats = yaml.safe_load((ROOT / "deploy/helm/atlas/values.yaml").read_text())["nats"]
    for name in ("container", "reloader"):
        told = nats[name]["merge"]["securityContext"]
        assert told == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = nats["podTemplate"]["merge"]["spec"]["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_nats_of_the_chart_is_the_one_that_the_composition_runs() -> None:
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["nats"]
    chart = yaml.safe_load((ROOT / "deploy/helm/atlas/values.yaml").read_text())["nats"]
    assert f"nats:{chart['container']['image']['tag']}" == composed["image"]
