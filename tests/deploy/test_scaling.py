"""KEDA looks at queues that exist, at all of them, and counts them as what one replica bears."""

from atlas import subjects
from atlas.contracts.tasks import Priority
from atlas.settings import TopologySettings
from atlas.topology import Topology

from .conftest import Manifest, Release, container, render


def queues_of(scaled: Manifest) -> set[tuple[str, str]]:
    """The streams and consumers that a ScaledObject looks at."""
    found = [one["metadata"] for one in scaled["spec"]["triggers"]]
    return {(one["stream"], one["consumer"]) for one in found}


def queues_of_services(stream: str) -> set[tuple[str, str]]:
    """The consumers that Atlas makes on a stream, whatever workers there are."""
    consumers = Topology(TopologySettings()).consumers()
    return {(name, str(one.durable_name)) for name, one in consumers if name == stream}


def test_routers_are_scaled_by_every_lane(keda: Release) -> None:
    found = queues_of(keda.of("ScaledObject")["atlas-router"])
    assert found == queues_of_services(subjects.REQUESTS)
    assert len(found) == len(subjects.LANES)


def test_controllers_are_scaled_by_submissions_and_reports(keda: Release) -> None:
    assert queues_of(keda.of("ScaledObject")["atlas-controller"]) == {
        *queues_of_services(subjects.SUBMITS),
        *queues_of_services(subjects.REPORTS),
    }


def test_a_pool_is_scaled_by_each_of_its_capabilities_in_each_priority(keda: Release) -> None:
    topology = Topology(TopologySettings())
    assert queues_of(keda.of("ScaledObject")["atlas-worker-research"]) == {
        (subjects.WORK, str(topology.work_consumer(capability, priority).durable_name))
        for capability in ("research", "analysis")
        for priority in Priority
    }


def test_queues_are_added_up_and_a_worker_bears_as_many_as_it_does_at_a_time(
    keda: Release,
) -> None:
    for name, scaled in keda.of("ScaledObject").items():
        modifiers = scaled["spec"]["advanced"]["scalingModifiers"]
        names = [one["name"] for one in scaled["spec"]["triggers"]]
        assert modifiers["formula"].split(" + ") == names
        assert len(set(names)) == len(names)
        if "-worker-" in name:
            told = {one["name"]: one for one in container(keda.pods()[name])["env"]}
            assert modifiers["target"] == told["ATLAS_WORKER__CONCURRENCY"]["value"]


def test_a_scaled_deployment_leaves_its_replicas_to_keda_and_another_says_them(
    keda: Release, minimal: Release
) -> None:
    for name, scaled in keda.of("ScaledObject").items():
        assert scaled["spec"]["scaleTargetRef"] == {"name": name}
        assert "replicas" not in keda.of("Deployment")[name]["spec"]
    assert all(one["spec"]["replicas"] == 2 for one in minimal.of("Deployment").values())
    assert minimal.of("ScaledObject") == {}


def test_keda_asks_the_nats_of_the_release_server_by_server() -> None:
    release = render(
        {
            "connection": {"anonymous": True},
            "nats": {"enabled": True},
            "router": {"autoscaling": {"enabled": True}},
        }
    )
    (scaled,) = release.of("ScaledObject").values()
    asked = {one["metadata"]["natsServerMonitoringEndpoint"] for one in scaled["spec"]["triggers"]}
    assert asked == {"atlas-nats-headless.atlas.svc:8222"}
