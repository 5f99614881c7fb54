"""A temporary folder that is removed in the end, also when its owner is killed: by the next one.

A lock in the folder says that somebody uses it. The system lets go of a lock with the last process
that holds it, so a folder whose lock is free has no owner any more, and no pid need be trusted. A
folder without a lock is none of ours.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PREFIX = "atlas-nats-"
_LOCK_FILE = "in-use.lock"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder of our own; whoever inherits `lock` keeps it in use as well."""

    folder: Path
    lock: int
    """A file descriptor, for `pass_fds`."""


@contextlib.contextmanager
def scratch() -> Iterator[Scratch]:
    """A temporary folder while the block runs; those that were left behind go first."""
    sweep()
    folder, lock = _claim()
    try:
        yield Scratch(folder, lock.fileno())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def sweep() -> None:
    """Remove the folders that nobody uses any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, without a lock, or gone meanwhile
            if folder.lstat().st_uid == os.getuid():
                _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    with (folder / _LOCK_FILE).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


def _claim() -> tuple[Path, IO[bytes]]:
    """A new folder and its lock; another one where a sweep came between the two."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = (folder / _LOCK_FILE).open("xb")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / _LOCK_FILE).exists():
                return folder, lock
        lock.close()
