"""The containers of the manifests, run as processes here: what no schema tells."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from atlas import access_folder
from atlas.client import Atlas
from atlas.embedded import NatsProcess

from .conftest import ROOT, Manifest, Release, container, environment
from .test_pods import OWN_VARIABLES, ROLES

READY_S = 60
_LOOK_S = 0.1
pytestmark = pytest.mark.timeout(300)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


@asynccontextmanager
async def _running(
    pod: Manifest,
    port: int,
    nats: NatsProcess,
    config: Path,
    log: Path,
    *,
    access: Path | None = None,
) -> AsyncIterator[Process]:
    """The container of a pod as a process, with its command and its variables."""
    surroundings = {
        **{name: value for name, value in os.environ.items() if not OWN_VARIABLES.match(name)},
        **environment(pod),
        "NATS_URL": nats.url,
        "ATLAS_CONFIG": str(config),
        "ATLAS_MONITORING__HOST": "127.0.0.1",
        "ATLAS_MONITORING__PORT": str(port),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if access is not None:
        role = ROLES[pod["metadata"]["labels"]["app.kubernetes.io/component"]]
        surroundings["ATLAS_NATS__NKEY_SEED_FILE"] = str(access_folder.seed_file(access, role))
    command = container(pod)["command"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=surroundings, cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def _is_probed(session: aiohttp.ClientSession, pod: Manifest, port: int) -> None:
    """Wait until every probe of a container is answered as it should be."""
    only = container(pod)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = only[probe]["httpGet"]["path"]
        url = f"http://127.0.0.1:{port}{path}"
        while not await _answers(session, url):  # noqa: ASYNC110 - it is asked, it tells nobody
            await asyncio.sleep(_LOOK_S)


def _project(folder: Path, version: str, config: dict[str, Any]) -> None:
    """Put a ConfigMap's file where it is mounted, as the kubelet does: by swapping a link."""
    (folder / version).mkdir()
    (folder / version / "atlas.yaml").write_text(yaml.safe_dump(config))
    (folder / "..new").symlink_to(version)
    (folder / "..new").replace(folder / "..data")
    if not (folder / "atlas.yaml").is_symlink():
        (folder / "atlas.yaml").symlink_to(Path("..data") / "atlas.yaml")


async def _providers(atlas: Atlas) -> set[str]:
    return {one.provider for one in (await atlas.providers()).providers}


async def _lag(session: aiohttp.ClientSession, monitoring: int, trigger: dict[str, Any]) -> int:
    """What KEDA's scaler reads for a trigger (pkg/scalers/nats_jetstream_scaler.go)."""
    asked = trigger["metadata"]
    query = {"acc": asked["account"], "consumers": "true", "config": "true"}
    async with session.get(f"http://127.0.0.1:{monitoring}/jsz", params=query) as answer:
        said = json.loads(await answer.text())
    (lag,) = [
        consumer["num_pending"] + consumer["num_ack_pending"]
        for account in said["account_details"]
        if account["name"] == asked["account"]
        for stream in account["stream_detail"]
        if stream["name"] == asked["stream"]
        for consumer in stream["consumer_detail"]
        if consumer["name"] == asked["consumer"]
    ]
    assert isinstance(lag, int)
    return lag


async def test_the_pods_start_answer_their_probes_are_found_by_keda_and_pass_helm_s_test(
    keda: Release, tmp_path: Path
) -> None:
    config, monitoring, access = tmp_path / "atlas.yaml", _free_port(), tmp_path / "access"
    config.write_text(yaml.safe_dump(keda.config()))
    access_folder.make(access, [], listen="127.0.0.1:0", url="nats://unused:1")
    users = str(access_folder.accounts_file(access))
    extra = ("--http_port", str(monitoring), "--config", users)
    nats = NatsProcess(tmp_path / "nats", extra=extra)
    await nats.start()
    pods = keda.pods()
    test = pods.pop("atlas-test")
    try:
        async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
            services = {}
            for name, pod in pods.items():
                port = _free_port()
                log = tmp_path / f"{name}.log"
                running = _running(pod, port, nats, config, log, access=access)
                services[name] = (pod, port, await stack.enter_async_context(running))
            async with asyncio.timeout(READY_S):
                for pod, port, _ in services.values():
                    await _is_probed(session, pod, port)
            for scaled in keda.of("ScaledObject").values():
                for trigger in scaled["spec"]["triggers"]:
                    assert await _lag(session, monitoring, trigger) == 0
            said = tmp_path / "test.log"
            asking = _running(test, 0, nats, config, said, access=access)
            tester = await stack.enter_async_context(asking)
            async with asyncio.timeout(READY_S):
                assert await tester.wait() == 0, said.read_text()
            for _, _, process in services.values():
                process.send_signal(signal.SIGTERM)
            for pod, _, process in services.values():
                async with asyncio.timeout(pod["spec"]["terminationGracePeriodSeconds"]):
                    assert await process.wait() == 0
    finally:
        await nats.stop()


async def test_a_router_takes_up_a_configmap_that_the_kubelet_has_swapped(
    minimal: Release, tmp_path: Path
) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    _project(folder, "..1", {})
    nats = NatsProcess(tmp_path / "nats")
    await nats.start()
    pod, port = minimal.pods()["atlas-router"], _free_port()
    try:
        async with (
            _running(pod, port, nats, folder / "atlas.yaml", tmp_path / "router.log"),
            aiohttp.ClientSession() as session,
            asyncio.timeout(READY_S),
        ):
            await _is_probed(session, pod, port)
            async with Atlas.connect(nats.url) as atlas:
                assert "late" not in await _providers(atlas)
                _project(folder, "..2", {"providers": {"late": {"kind": "mock"}}})
                while "late" not in await _providers(atlas):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(_LOOK_S)
    finally:
        await nats.stop()
