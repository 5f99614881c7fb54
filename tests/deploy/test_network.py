"""Who may reach whom: exactly what is used."""

from typing import Any

from .conftest import Manifest, Release, render

DNS = ("k8s-app=kube-dns", "UDP/53", "TCP/53")
OUTSIDE = "0.0.0.0/0 but 10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16"


def _selects(policy: Manifest, labels: dict[str, str]) -> bool:
    wanted: dict[str, str] = policy["spec"]["podSelector"]["matchLabels"]
    return wanted.items() <= labels.items()


def _peer(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return " ".join([block["cidr"], "but", *block["except"]])
    labels = {
        **peer.get("namespaceSelector", {}).get("matchLabels", {}),
        **peer.get("podSelector", {}).get("matchLabels", {}),
    }
    return ",".join(f"{name.split('/')[-1]}={value}" for name, value in sorted(labels.items()))


def ways(release: Release, labels: dict[str, str], way: str) -> set[tuple[str, ...]]:
    """Each rule that lets something out of (`egress`) or into (`ingress`) a pod of these labels."""
    side = "to" if way == "egress" else "from"
    return {
        (
            ";".join(sorted(_peer(peer) for peer in rule.get(side, []))) or "anywhere",
            *(f"{port['protocol']}/{port['port']}" for port in rule["ports"]),
        )
        for policy in release.of("NetworkPolicy").values()
        if _selects(policy, labels)
        for rule in policy["spec"].get(way, [])
    }


def test_nothing_goes_in_or_out_of_any_pod_by_default(example: Release) -> None:
    deny = example.of("NetworkPolicy")["atlas-deny"]
    assert set(deny["spec"]) == {"podSelector", "policyTypes"}
    assert set(deny["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert all(_selects(deny, one["metadata"]["labels"]) for one in example.pods().values())


def test_pods_reach_names_nats_and_their_collector_and_routers_the_outside_by_https(
    production: Release,
) -> None:
    every = {
        DNS,
        ("component=nats,instance=atlas,name=nats", "TCP/4222"),
        ("metadata.name=observability", "TCP/4318"),
    }
    for name, pod in production.pods().items():
        more = {(OUTSIDE, "TCP/443")} if name == "atlas-router" else set()
        assert ways(production, pod["metadata"]["labels"], "egress") == every | more


def test_monitors_that_are_named_reach_the_port_of_monitoring_and_nobody_else_anything(
    production: Release, minimal: Release
) -> None:
    for pod in production.pods().values():
        assert ways(production, pod["metadata"]["labels"], "ingress") == {
            ("metadata.name=observability", "TCP/monitoring")
        }
    for pod in minimal.pods().values():
        assert ways(minimal, pod["metadata"]["labels"], "ingress") == set()


def test_a_nats_elsewhere_is_reached_where_the_values_say_and_at_its_port_only(
    minimal: Release, keda: Release
) -> None:
    worker = minimal.pods()["atlas-worker-general"]["metadata"]["labels"]
    assert ways(minimal, worker, "egress") == {DNS, ("anywhere", "TCP/4222")}
    worker = keda.pods()["atlas-worker-general"]["metadata"]["labels"]
    assert ways(keda, worker, "egress") == {DNS, ("metadata.name=messaging", "TCP/4222")}


def test_the_release_s_own_nats_lets_in_atlas_named_clients_its_peers_and_keda(
    production: Release,
) -> None:
    nats = {
        "app.kubernetes.io/name": "nats",
        "app.kubernetes.io/instance": "atlas",
        "app.kubernetes.io/component": "nats",
    }
    assert ways(production, nats, "ingress") == {
        ("client=true;instance=atlas,name=atlas", "TCP/4222"),
        ("component=nats,instance=atlas,name=nats", "TCP/4222", "TCP/6222"),
        ("metadata.name=keda", "TCP/8222"),
    }


def test_what_a_pool_may_reach_besides_is_its_own_and_no_other_pool_s() -> None:
    to_tools = {
        "to": [{"podSelector": {"matchLabels": {"app": "tools"}}}],
        "ports": [{"protocol": "TCP", "port": 8000}],
    }
    release = render(
        {
            "connection": {"url": "nats://nats:4222", "anonymous": True},
            "workers": {"general": {}, "tooled": {"egress": [to_tools]}},
        }
    )
    pods = release.pods()
    reached = {
        name: ("app=tools", "TCP/8000") in ways(release, pod["metadata"]["labels"], "egress")
        for name, pod in pods.items()
    }
    assert {name for name, may in reached.items() if may} == {"atlas-worker-tooled"}


def test_the_ports_of_telemetry_are_those_of_its_endpoints() -> None:
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4317/v1/metrics",
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
    }
    release = render(
        {"connection": {"url": "nats://nats:4222", "anonymous": True}, "telemetry": telemetry}
    )
    labels = release.pods()["atlas-controller"]["metadata"]["labels"]
    assert ("anywhere", "TCP/443", "TCP/4317") in ways(release, labels, "egress")
