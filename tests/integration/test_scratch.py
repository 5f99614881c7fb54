"""A temporary folder goes with its owner, however that ends, and never while somebody uses it."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atlas.scratch import PREFIX, scratch, sweep

_OWNER = """
import subprocess, sys
from atlas.scratch import scratch
with scratch() as room:
    if "heir" in sys.argv:
        subprocess.Popen(["cat"], pass_fds=[room.lock])
    print(room.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def _owner(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Another process with a folder; whatever it started ends with its standard input."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().decode().strip())
        finally:
            process.kill()


def test_a_folder_is_there_while_it_is_used_and_gone_afterwards(elsewhere: Path):
    with scratch() as room:
        assert room.folder.parent == elsewhere
        (room.folder / "data").mkdir()
    assert list(elsewhere.iterdir()) == []


def test_the_folder_of_a_killed_owner_is_removed_by_the_next(elsewhere: Path):
    with _owner() as (process, left_behind):
        (left_behind / "data").write_text("x")
        process.kill()
        process.wait()
        assert left_behind.exists()
        with scratch() as room:
            assert list(elsewhere.iterdir()) == [room.folder]


def test_a_folder_in_use_is_left_alone():
    with _owner() as (_, used):
        sweep()
        assert used.exists()


def test_a_folder_is_in_use_as_long_as_a_process_that_inherited_its_lock_lives():
    with _owner("heir") as (process, used):
        assert process.stdin is not None
        process.kill()
        process.wait()
        sweep()
        assert used.exists()
        process.stdin.close()
        with (used / "in-use.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the heir has ended
        sweep()
        assert not used.exists()


def test_a_folder_without_a_lock_is_none_of_ours(elsewhere: Path):
    theirs = elsewhere / f"{PREFIX}theirs"
    theirs.mkdir()
    sweep()
    assert theirs.exists()


def test_a_link_in_place_of_a_folder_is_not_followed(
    elsewhere: Path, tmp_path_factory: pytest.TempPathFactory
):
    data = tmp_path_factory.mktemp("data")
    (data / "in-use.lock").touch()
    (elsewhere / f"{PREFIX}link").symlink_to(data)
    sweep()
    assert (data / "in-use.lock").exists()
