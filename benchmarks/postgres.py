"""A PostgreSQL server of one's own while a block runs, for `dbos_peer`; nothing is left behind."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from atlas.embedded import free_port

_VERSIONS = Path("/usr/lib/postgresql")
_USERS = ("postgres", "nobody")
_START_S = 30.0
_STOP_S = 20.0


class PostgresMissingError(RuntimeError):
    """There is no PostgreSQL that could be started here; says why."""


def _programs() -> Path:
    """Where `postgres` and `initdb` are, the newest version where there are several."""
    found = sorted(_VERSIONS.glob("*/bin"), key=lambda one: -float(one.parent.name))
    if on_path := shutil.which("postgres"):
        found.insert(0, Path(on_path).parent)
    for one in found:
        if (one / "postgres").exists() and (one / "initdb").exists():
            return one
    raise PostgresMissingError("no `postgres` on the PATH nor in /usr/lib/postgresql")


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom it runs as: root may not; None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissingError(f"root may not run it, and there is no user {' or '.join(_USERS)}")


def _popen(command: Sequence[str | Path], folder: Path) -> subprocess.Popen[bytes]:
    user = _unprivileged()
    with (folder / "postgres.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - what this machine has installed
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )


@contextlib.contextmanager
def postgres(*options: str) -> Iterator[str]:
    """A new server with settings such as `fsync=off`; gives the URL of an empty database.

    Raises:
        PostgresMissingError: There is none that could be started.
    """
    programs = _programs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if (user := _unprivileged()) is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data, port = folder / "data", free_port()
        made = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"]
        if _popen([programs / "initdb", "-D", data, *made], folder).wait(_START_S):
            raise PostgresMissingError(f"initdb failed: {_said(folder)}")
        settings = ["listen_addresses=127.0.0.1", f"port={port}", *options]
        settings += [f"unix_socket_directories={folder}"]
        command: list[str | Path] = [programs / "postgres", "-D", data]
        for one in settings:
            command += ["-c", one]
        server = _popen(command, folder)
        try:
            _until_ready(server, data, folder)
            yield f"postgresql://postgres@127.0.0.1:{port}/atlas_benchmark"
        finally:
            _stop(server)


def _until_ready(server: subprocess.Popen[bytes], data: Path, folder: Path) -> None:
    """Wait for the last line of its pid file, which says how it is."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            if (data / "postmaster.pid").read_text().rstrip().endswith("ready"):
                return
        time.sleep(0.05)
    raise PostgresMissingError(f"postgres did not start: {_said(folder)}")


def _said(folder: Path) -> str:
    return (folder / "postgres.log").read_text(errors="replace")[-500:]


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Fast shutdown, which ends its sessions; SIGKILL for its group when that does not do."""
    if server.poll() is not None:
        return
    os.kill(server.pid, signal.SIGINT)
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
