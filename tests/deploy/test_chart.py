"""The chart and its manifests by the rules of Helm, Kubernetes, KEDA and Prometheus's operator."""

import json
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from atlas.settings import TopologySettings
from atlas.topology import Topology

from .conftest import (
    DEPLOY,
    TOOLS,
    VALUE_SETS,
    Manifest,
    Release,
    Values,
    container,
    job,
    refusal,
    render,
    values_of,
)

KUBERNETES = ("1.29", "1.33", "1.37")
NATS = {"connection": {"url": "nats://nats:4222", "anonymous": True}}
PEER = {"podSelector": {"matchLabels": {"app": "other"}}}
OF_A_SERVICE = {
    "replicas": 5,
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "3Gi", "cpu": "3"}},
    "env": [
        {"name": "TZ", "value": "UTC"},
        {"name": "A_TOKEN", "valueFrom": {"secretKeyRef": {"name": "more", "key": "token"}}},
    ],
    "volumes": [{"name": "more", "emptyDir": {"sizeLimit": "1Mi"}}],
    "volumeMounts": [{"name": "more", "mountPath": "/more"}],
    "podAnnotations": {"example.com/note": "of the pod"},
    "podLabels": {"team": "agents"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}
                ]
            }
        }
    },
    "priorityClassName": "high",
    "egress": [{"to": [PEER], "ports": [{"protocol": "TCP", "port": 11434}]}],
}
"""Everything that a service's values can say of its pods."""


@pytest.mark.parametrize("name", VALUE_SETS)
def test_helm_lint_has_nothing_to_say_of_an_example(name: str) -> None:
    assert job("lint", values=values_of(name))["problems"] == []


@pytest.mark.parametrize("values", [{}, values_of("production")], ids=["default", "production"])
def test_jetstream_gets_less_than_its_volume_and_what_its_streams_reserve(values: Values) -> None:
    own = yaml.safe_load((DEPLOY / "helm" / "atlas" / "values.yaml").read_text())
    given = values.get("nats", own["nats"])["config"]["jetstream"]["fileStore"]
    volume, bound = (
        int(size.removesuffix("Gi")) for size in (given["pvc"]["size"], given["maxSize"])
    )
    topology = Topology(TopologySettings(**values.get("config", {}).get("topology", {})))
    reserved = sum(max(0, one.config.max_bytes or 0) for one in topology.expected())
    assert reserved / 2**30 < bound <= 0.8 * volume


def test_every_manifest_is_valid_strictly_in_each_kubernetes(example: Release) -> None:
    assert job("validate", manifests=example.manifests, versions=KUBERNETES)["problems"] == []


def test_everything_that_can_be_said_of_a_service_is_in_its_pods_and_valid() -> None:
    release = render(
        {
            **NATS,
            "fullnameOverride": "llm",
            "image": {"pullSecrets": ["registry"], "pullPolicy": "Always", "tag": "1.2"},
            "router": OF_A_SERVICE,
            "controller": OF_A_SERVICE,
            "workers": {"general": OF_A_SERVICE},
        }
    )
    assert job("validate", manifests=release.manifests, versions=KUBERNETES)["problems"] == []
    assert set(release.of("Deployment")) == {"llm-router", "llm-controller", "llm-worker-general"}
    for name, deployment in release.of("Deployment").items():
        spec = deployment["spec"]
        pod, only = spec["template"]["spec"], container(spec["template"])
        assert spec["replicas"] == OF_A_SERVICE["replicas"]
        for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
            assert pod[key] == OF_A_SERVICE[key]
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert (only["image"], only["imagePullPolicy"]) == ("atlas-llm:1.2", "Always")
        assert only["env"][-2:] == OF_A_SERVICE["env"]
        assert only["volumeMounts"][-1:] == OF_A_SERVICE["volumeMounts"]
        assert pod["volumes"][-1:] == OF_A_SERVICE["volumes"]
        assert only["resources"]["limits"] == {"cpu": "3", "memory": "3Gi"}
        metadata = spec["template"]["metadata"]
        assert metadata["annotations"]["example.com/note"] == "of the pod"
        assert metadata["labels"]["team"] == "agents"
        assert release.of("NetworkPolicy")[name]["spec"]["egress"][-1:] == OF_A_SERVICE["egress"]


@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy", "ScaledObject", "PodMonitor"])
def test_an_unknown_field_is_found(kind: str, production: Release, keda: Release) -> None:
    wrong: Manifest = deepcopy(next(iter({**production.of(kind), **keda.of(kind)}.values())))
    wrong["spec"]["replicaz"] = 3
    problems = job("validate", manifests=[wrong], versions=["1.37"])["problems"]
    assert "replicaz" in " ".join(problems)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({**NATS, "routers": {}}, "routers"),
        ({**NATS, "router": {"replica": 3}}, "replica"),
        ({**NATS, "workers": {"a": {"concurrency": 0}}}, "concurrency"),
        ({**NATS, "workers": {"Not_A_Name": {}}}, "Not_A_Name"),
        ({**NATS, "providerKeys": {"openai": {"value": "k"}}}, "value"),
        ({"connection": {"url": "nats://me:password@nats:4222"}}, "connection/url"),
        ({**NATS, "telemetry": {"ATLAS_TENANT": "t"}}, "ATLAS_TENANT"),
        ({"connection": {"credentials": {"router": {"secret": "s"}}}}, "seed"),
        ({"connection": {"tls": {"secret": "s", "ca": "c", "cert": "d"}}}, "key"),
        ({**NATS, "router": {"env": [{"name": "A_KEY", "value": "k"}]}}, "valueFrom"),
        ({**NATS, "router": {"resources": {"limits": None}}}, "limits"),
        ({**NATS, "workerDefaults": {"resources": {"limits": None}}}, "limits"),
        ({**NATS, "workers": {"a": {"resources": {"limits": None}}}}, "limits"),
    ],
)
def test_the_schema_refuses_what_is_no_value(values: Values, told: str) -> None:
    assert told in refusal(values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "connection.url is empty: name your NATS server"),
        (
            {"connection": {"url": "nats://nats:4222"}},
            "name the Secret with its NATS user, or say connection.anonymous: true",
        ),
        (
            {**NATS, "controller": {"env": [{"name": "ATLAS_TENANT", "value": "t"}]}},
            "ATLAS_TENANT is a setting of Atlas; say it in `config`",
        ),
        (
            {**NATS, "workers": {"a": {"env": [{"name": "NATS_URL", "value": "nats://x"}]}}},
            "NATS_URL tells where NATS is; say it in `connection`",
        ),
        (
            {**NATS, "telemetry": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=t"}},
            "OTEL_EXPORTER_OTLP_HEADERS may hold a token; give it from a Secret",
        ),
        ({**NATS, "config": {"nats": {"url": "nats://x"}}}, "config.nats.url: the chart writes it"),
        ({**NATS, "config": {"worker": {"concurrency": 3}}}, "differs by pool"),
        (
            {**NATS, "providerKeys": {"groq": {"secret": "s", "key": "k"}}},
            "providerKeys.groq: no such provider in config.providers",
        ),
        (
            {
                **NATS,
                "config": {"providers": {"openai": {"kind": "openai", "api_key_env": "K"}}},
                "providerKeys": {"openai": {"secret": "s", "key": "k"}},
            },
            "names another place for its key",
        ),
        (
            {
                **NATS,
                "config": {
                    "worker": {"mcp": {"wiki": {"url": "http://w", "headers": {"Token": "t"}}}}
                },
            },
            "config.worker.mcp.wiki: headers and env may hold a secret",
        ),
        (
            {**NATS, "nats": {"enabled": True}, "config": {"topology": {"replicas": 3}}},
            "config.topology.replicas is 3, and nats has 1 server(s)",
        ),
        (
            {**NATS, "workers": {"general": {"autoscaling": {"enabled": True}}}},
            "workers.general.autoscaling needs workers.general.capabilities",
        ),
        (
            {**NATS, "router": {"autoscaling": {"enabled": True}}},
            "keda.natsMonitoring is empty",
        ),
        (
            {**NATS, "monitoring": {"podMonitor": {"enabled": True}}},
            "networkPolicy.monitors lets nobody scrape",
        ),
    ],
)
def test_the_chart_refuses_what_does_not_fit_and_says_what_to_do(values: Values, told: str) -> None:
    assert told in refusal(values)


def test_every_default_is_allowed_by_the_schema_and_every_name_of_the_schema_has_one() -> None:
    chart = DEPLOY / "helm" / "atlas"
    schema = json.loads((chart / "values.schema.json").read_text())
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(defaults)
    for section, kind in (("router", "service"), ("controller", "service")):
        assert set(schema["definitions"][kind]["properties"]) == set(defaults[section])
    pool = schema["definitions"]["pool"]["properties"]
    assert set(pool) == set(defaults["workerDefaults"])


def test_the_plain_manifests_are_what_the_chart_renders(tmp_path: Path) -> None:
    minimal = DEPLOY / "helm" / "values" / "minimal.yaml"
    command = (TOOLS, DEPLOY / "chart.py", "manifests", minimal, tmp_path)
    subprocess.run(command, check=True, timeout=100)
    by_hand = {"kustomization.yaml", "namespace.yaml"}
    kept = {path.name: path.read_text() for path in (DEPLOY / "kubernetes").iterdir()}
    rendered = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name: text for name, text in kept.items() if name not in by_hand} == rendered, (
        "run `make manifests`"
    )


def test_kustomize_builds_all_of_the_plain_manifests_into_one_namespace(minimal: Release) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl command on the PATH")
    command = ("kubectl", "kustomize", DEPLOY / "kubernetes")
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    objects = list(yaml.safe_load_all(built))
    space = next(one for one in objects if one["kind"] == "Namespace")
    others = [one for one in objects if one is not space]
    assert {one["metadata"]["namespace"] for one in others} == {space["metadata"]["name"]}
    expected = {(one["kind"], one["metadata"]["name"]) for one in minimal.manifests}
    assert {(one["kind"], one["metadata"]["name"]) for one in others} == expected - {
        ("Pod", "atlas-test")
    }
    assert job("validate", manifests=objects, versions=KUBERNETES)["problems"] == []
