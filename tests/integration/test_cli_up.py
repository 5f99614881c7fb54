"""`atlas up` and `atlas task run` with every service, as a user runs them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration import cli_process
from tests.support.waiting import eventually


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@contextlib.asynccontextmanager
async def _up(cwd: Path, *options: str):
    """`atlas up --json` while the block runs; gives its process and its ready line."""
    process = await cli_process.start("up", "--json", *options, nats_url=None, cwd=cwd)
    assert process.stdout is not None
    assert process.stderr is not None
    log = asyncio.create_task(process.stderr.read())  # a full pipe would stop the services
    try:
        async with asyncio.timeout(cli_process.PATIENCE_S):
            line = await process.stdout.readline()
        assert line, (await log).decode()
        yield process, json.loads(line)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(cli_process.PATIENCE_S):
            await process.wait()
            await log


async def _all_gone(pids: list[int]) -> None:
    await eventually(lambda: not any(_is_alive(pid) for pid in pids))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_up_prints_one_ready_line_and_leaves_nothing_behind(tmp_path, sign):
    async with _up(tmp_path, "--workers", "2") as (process, ready):
        assert ready["ready"] is True
        assert ready["nats_url"].startswith("nats://127.0.0.1:")
        names = sorted(one["name"] for one in ready["services"])
        assert names == ["agent_controller", "agent_worker", "agent_worker", "provider_router"]
        pids = [one["pid"] for one in ready["services"]]
        assert all(_is_alive(pid) for pid in pids)
        process.send_signal(sign)
        async with asyncio.timeout(cli_process.PATIENCE_S):
            assert await process.stdout.read() == b""
            assert await process.wait() == 0
    await _all_gone(pids)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a nats-server outlives a SIGKILL")
async def test_when_up_is_killed_nothing_of_it_is_left_running(tmp_path):
    async with _up(tmp_path) as (process, _):
        children = _children(process.pid)
        assert len(children) == 4
        process.kill()
        await _all_gone(children)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a nats-server outlives a SIGKILL")
async def test_what_a_killed_up_left_on_disk_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    none = ("--routers", "0", "--controllers", "0", "--workers", "0")
    async with _up(tmp_path, *none) as (process, _):
        (server,) = _children(process.pid)
        (left_behind,) = tmp_path.iterdir()
        process.kill()
        await _all_gone([server])
    async with _up(tmp_path, *none), _up(tmp_path, *none):
        assert left_behind not in list(tmp_path.iterdir())
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


async def test_a_task_runs_to_its_end_and_tells_how(tmp_path):
    async with _up(tmp_path) as (_, ready):
        url = ready["nats_url"]
        ran = await cli_process.atlas(
            *("task", "run", "--goal", "Compare two databases", "--id", "t1", "--json"),
            nats_url=url,
            cwd=tmp_path,
        )
        assert ran.status == 0, ran.err
        assert [one["version"] for one in ran.records] == list(range(1, len(ran.records) + 1))
        assert ran.records[-1]["type"] == "task.completed"
        started = next(one for one in ran.records if one["type"] == "subtask.started")
        watched = await cli_process.atlas(
            "stream", "watch", started["stream_id"], nats_url=url, cwd=tmp_path
        )
        assert watched.status == 0
        assert len(watched.out) > 50
        shown = await cli_process.atlas("task", "show", "t1", "--json", nats_url=url, cwd=tmp_path)
        assert shown.records[0]["state"] == "completed"
        doctor = await cli_process.atlas("doctor", nats_url=url, cwd=tmp_path)
        assert doctor.status == 0, doctor.out
        for service in ("provider_router", "agent_controller", "agent_worker"):
            health = await cli_process.atlas(
                "doctor", "--service", service, nats_url=url, cwd=tmp_path
            )
            assert health.status == 0, service


async def test_a_service_that_is_killed_under_up_is_replaced(tmp_path):
    async with _up(tmp_path, "--controllers", "0", "--workers", "0") as (_, ready):
        (router,) = ready["services"]
        os.kill(router["pid"], signal.SIGKILL)
        async with asyncio.timeout(cli_process.PATIENCE_S):
            while True:
                health = await cli_process.atlas(
                    *("doctor", "--service", "provider_router"),
                    nats_url=ready["nats_url"],
                    cwd=tmp_path,
                )
                if health.status == 0:
                    break


async def test_data_in_a_store_is_there_again_and_nobody_else_may_use_it(tmp_path):
    store = tmp_path / "kept"
    options = ("--store", str(store), "--workers", "0", "--routers", "0")
    async with _up(tmp_path, *options) as (_, ready):
        submitted = await cli_process.atlas(
            *("task", "submit", "--goal", "wait", "--id", "t1"),
            nats_url=ready["nats_url"],
            cwd=tmp_path,
        )
        assert (submitted.status, submitted.out) == (0, "t1\n")
        second = await cli_process.atlas("up", *options, nats_url=None, cwd=tmp_path)
        assert second.status == 2
        assert "another `atlas up` uses it" in second.err
    async with _up(tmp_path, *options) as (_, ready):
        listed = await cli_process.atlas(
            "task", "list", "--json", nats_url=ready["nats_url"], cwd=tmp_path
        )
        assert [one["task_id"] for one in listed.records] == ["t1"]


async def test_standalone_needs_nothing_and_leaves_nothing_behind(tmp_path):
    ran = await cli_process.atlas(
        *("task", "run", "--goal", "Alone", "--pattern", "single", "--standalone"),
        nats_url=None,
        cwd=tmp_path,
    )
    assert ran.status == 0, ran.err
    assert "completed" in ran.out
    assert ran.err.count("the mock provider answers") == 1
    assert list(tmp_path.iterdir()) == []


async def test_standalone_ends_with_ctrl_c_and_takes_everything_with_it(tmp_path):
    process = await cli_process.start(
        *("task", "run", "--goal", "Alone", "--standalone", "--json"), nats_url=None, cwd=tmp_path
    )
    assert process.stdout is not None
    async with asyncio.timeout(cli_process.PATIENCE_S):
        while b'"subtask.started"' not in await process.stdout.readline():
            pass
    children = _children(process.pid)
    assert len(children) == 4
    process.send_signal(signal.SIGINT)
    ended = await cli_process.ended(process)
    assert ended.status == 130
    assert "Traceback" not in ended.err
    await _all_gone(children)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == pid:
                    found.append(int(entry.name))
    return found


async def test_a_second_up_takes_another_port_and_says_so(tmp_path):
    none = ("--routers", "0", "--controllers", "0", "--workers", "0")
    async with _up(tmp_path, *none) as (_, first), _up(tmp_path, *none) as (_, second):
        assert first["nats_url"] != second["nats_url"]
