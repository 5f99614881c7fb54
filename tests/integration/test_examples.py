"""What the README and the examples show is what happens."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas.embedded import Stack, standalone
from atlas.settings import load_settings, unserved_models
from tests.support.documents import blocks

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


async def run_alone(name: str) -> str:
    """Run an example that starts what it needs, as if no key and no configuration were there."""
    ours = ("ATLAS_", "NATS_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / name),
        env={key: value for key, value in os.environ.items() if not key.startswith(ours)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()


async def test_groups_answer_by_their_strategies_and_outlive_a_provider_that_fails():
    shown = await run_alone("04_provider_group.py")
    assert "shared: {'steady/small': 6, 'steady/large': 2}" in shown
    assert "thrifty: {'steady/small': 8}" in shown
    assert re.search(r"prompt: steady/large after \d+ ms, 2 attempts", shown)
    circuit = re.findall(r"circuit of flaky: (\w+) -> (\w+)", shown)
    assert circuit[0] == ("closed", "open")
    assert circuit[-1] == ("half_open", "closed")
    first, *_, last = re.findall(r"^  \d+\. (\S+), attempts: (\d)", shown, re.MULTILINE)
    assert first == ("steady/large", "2")
    assert last == ("flaky/large", "1")


async def test_a_model_is_chosen_by_what_the_request_needs_and_the_reason_is_told():
    shown = await run_alone("05_task_aware_providers.py")
    chosen = re.findall(r"^    (mock/\w+): ", shown, re.MULTILINE)
    assert chosen[:3] == ["mock/coder", "mock/writer", "mock/analyst"]
    assert re.findall(r"^    (mock/\w+), \$0\.0", shown, re.MULTILINE) == [
        "mock/writer",
        "mock/analyst",
        "mock/small",
    ]
    assert "    1. mock/coder: code exceptional" in shown
    assert "-  mock/small lacks code moderate (has basic)" in shown
    assert "refused: requirements: no configured model meets them; the nearest," in shown


async def test_the_subtasks_of_a_task_are_done_by_different_models_and_each_has_its_cost():
    shown = await run_alone("08_multi_agent_providers.py")
    assert set(re.findall(r"^(\w+): (mock/\w+), \d+ tokens out", shown, re.MULTILINE)) == {
        ("rates", "mock/analyst"),
        ("program", "mock/coder"),
        ("names", "mock/small"),
        ("announcement", "mock/writer"),
    }
    *each, whole = [float(usd) for usd in re.findall(r"\$(\d\.\d+)", shown)]
    assert len(each) == 4
    assert sum(each) == pytest.approx(whole, abs=4e-6)


async def test_a_person_approves_a_plan_before_it_costs_anything_and_rejects_another(
    atlas_up: Stack,
):
    shown = await run(atlas_up, ROOT / "examples" / "11_approval.py")
    planned, approved = shown.split("approved, and done with ")
    assert len(re.findall(r"^planned: (\w+), by (\w+)$", planned, re.MULTILINE)) == 4
    assert int(approved.split()[0]) > 0
    assert "was cancelled by anna: one view is enough; 0 tokens" in approved
    assert "expired: " in approved
    assert "was cancelled by atlas: nobody answered within 500 ms" in approved


async def test_a_task_ends_by_its_budget_or_its_deadline_and_what_was_done_is_kept():
    shown = await run_alone("12_budget_and_deadline.py")
    enough, tight, tight_kept, late, _ = shown.splitlines()
    assert enough.startswith("enough: completed with ")
    assert tight.startswith("tight: subtask 'lesson' failed after 1 attempts: ")
    assert "was ended for its budget" in tight
    assert tight_kept == "  finished before: ['facts']"
    assert late.startswith("late: the task was not done by its deadline_ms, ")


async def test_a_hundred_watchers_have_one_text_and_the_provider_is_asked_once():
    shown = await run_alone("03_many_watchers.py")
    assert "100 of 100 watchers have the same text as I" in shown
    assert "the provider was asked 1 time" in shown


async def test_text_of_a_failed_attempt_is_shown_as_void_and_is_not_in_the_final_answer():
    shown = await run_alone("06_fallback.py")
    _, anew = shown.split("\n-- void; anew:\n")
    answer, told = anew.split("\n\n")
    assert told.splitlines() == [
        "attempt 1: flaky/model",
        "attempt 1 failed: provider_connection, restart",
        "attempt 2: steady/model",
        "2 attempts, 1 restart",
        f"final: {len(answer)} characters by steady/model",
        "without fallback: provider_connection",
    ]


async def test_a_stream_is_paused_its_callbacks_are_called_and_leaving_cancels_it_if_one_likes():
    shown = await run_alone("07_enhanced_streaming.py")
    assert shown.index("[paused after 5 chunks]") < shown.index("[active]")
    paused = re.search(r"\[completed: \d+ chunks, .*?paused (\d+) ms\]", shown, re.DOTALL)
    assert paused is not None
    assert int(paused[1]) >= 500
    assert re.findall(r"^state: (\w+)$", shown, re.MULTILINE) == [
        "initializing",
        "active",
        "completed",
    ]
    assert "heard all: True" in shown
    assert shown.endswith("cancelled: the caller left\n")


async def test_what_finished_is_used_although_a_branch_is_lost():
    shown = await run_alone("13_quorum.py")
    quorum, advice, best = shown.splitlines()
    assert quorum.startswith("without east: subtask 'east' failed after 1 attempts: ")
    assert re.fullmatch(r"advice from two of three: [1-9]\d* characters", advice)
    assert best == "without east, advice; best so far: north"


async def test_models_call_the_tools_that_their_capability_is_granted_and_no_others():
    shown = await run_alone("14_tools.py")
    tides, seats, forbidden, lost = shown.splitlines()
    assert tides.startswith("tides: tide says: high tide in Ystad at 06:40. ")
    assert '{"ferry": "Aurora", "day": "Monday", "free": 42}' in seats
    assert re.search(r"book says: booked [1-6], reference \w+", seats)
    assert forbidden.startswith(
        "forbidden: the subtask asks for the tools tide, and 'draft' may use no tools"
    )
    assert lost == "lost: forbidden"


async def test_a_plan_changes_when_a_step_fails_for_good_and_what_was_finished_is_kept():
    shown = await run_alone("15_replanning.py")
    assert shown.splitlines()[:7] == [
        "done: prices",
        "lost: depths",
        "done: replan-1",
        "the plan changes: What failed is tried once more in another way, with what waits for it.",
        "  because of depths",
        "  without depths, advice",
        "  with depths-2 after prices",
    ]
    assert shown.count("done: prices") == 1
    assert re.search(r"^advice: [1-9]\d* characters, [1-9]\d* tokens$", shown, re.MULTILINE)


async def test_a_stream_is_read_on_from_where_one_left_after_its_server_was_killed():
    shown = await run_alone("09_replay.py")
    assert "what was missed fits what was seen: True" in shown
    first, *_, last = re.findall(r"^ +(\d+) (stream\.\w+) ", shown, re.MULTILINE)
    assert first == ("1", "stream.started")
    assert last[1] == "stream.completed"
    assert f"completed after {last[0]} events" in shown


@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name
)
def test_the_configuration_of_an_example_is_valid(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ATLAS_CONFIG", str(file))
    assert unserved_models(load_settings()) == []


def test_the_worker_of_the_readme_is_the_one_in_the_examples():
    example = (ROOT / "examples" / "10_own_worker.py").read_text()
    assert [block for block in blocks("python") if "@worker.handles" in block and block in example]


def test_every_python_example_is_run_by_a_test():
    tests = Path(__file__).parent.glob("test_*.py")
    told = "".join(path.read_text() for path in tests)
    assert [path.name for path in EXAMPLES if path.name not in told] == []
