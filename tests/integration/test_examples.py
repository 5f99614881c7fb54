"""What the README and the examples show is what happens."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas.embedded import Stack, standalone

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
async def atlas_up(tmp_path: Path) -> AsyncIterator[Stack]:
    with (tmp_path / "services.log").open("wb") as log:
        async with standalone(log_to=log) as stack:
            yield stack


async def run(stack: Stack, script: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        env={**os.environ, "NATS_URL": stack.nats_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_python_of_the_readme_runs_as_it_stands(atlas_up: Stack, tmp_path: Path):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    script = tmp_path / "readme.py"
    script.write_text(block[1])
    shown = await run(atlas_up, script)
    assert "time_to_first_token_ms" in shown
    assert "task.completed" in shown


async def test_a_stream_is_paused_and_resumed_by_a_second_client(atlas_up: Stack):
    shown = await run(atlas_up, ROOT / "examples" / "01_stream_and_control.py")
    assert shown.index("[paused]") < shown.index("[active]")
    assert "mock/standard" in shown


async def test_a_plan_of_ones_own_runs_both_sides_and_then_the_verdict(atlas_up: Stack):
    shown = await run(atlas_up, ROOT / "examples" / "02_task_with_a_plan.py")
    done = re.findall(r"subtask.succeeded (\w+)", shown)
    assert set(done[:2]) == {"for", "against"}
    assert done[2] == "verdict"
    assert "tokens, $0.0000" in shown


def test_every_python_example_is_run_by_a_test():
    told = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES if path.name not in told] == []
