"""TLS to the NATS server, with certificates of both sides."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas.bus import Bus
from atlas.contracts.errors import ConnectionFailedError
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings, TlsSettings

EVERYBODY = "/CN=localhost"


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with a CA, and a certificate and key that it signed for both sides."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH")
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    of_ca = (*usage, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    _openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *of_ca)
    of_both = ("-keyout", "key.pem", "-out", "request.pem", "-subj", EVERYBODY)
    _openssl(tmp_path, "req", "-newkey", "rsa:2048", "-nodes", *of_both)
    signing = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2")
    given = ("-in", "request.pem", "-out", "cert.pem", "-extfile", "names")
    _openssl(tmp_path, "x509", "-req", *given, *signing)
    return tmp_path


@pytest.fixture
async def server(certificates: Path) -> AsyncIterator[NatsProcess]:
    """A server that shows a certificate, and wants one."""
    files = (f"--tlscert={certificates}/cert.pem", f"--tlskey={certificates}/key.pem")
    wants = ("--tlsverify", f"--tlscacert={certificates}/ca.pem")
    nats = NatsProcess(certificates / "nats", extra=("--tls", *files, *wants))
    await nats.start()
    yield nats
    await nats.stop()


async def test_a_connection_shows_its_certificate_and_checks_the_servers(
    server: NatsProcess, certificates: Path
) -> None:
    tls = TlsSettings(
        ca=certificates / "ca.pem", cert=certificates / "cert.pem", key=certificates / "key.pem"
    )
    bus = await Bus.connect(NatsSettings(url=server.url, tls=tls), "test")
    await bus.flush()
    assert bus.is_connected
    await bus.close()


@pytest.mark.parametrize("lacking", ["ca", "cert"])
async def test_who_lacks_a_certificate_is_not_connected(
    server: NatsProcess, certificates: Path, lacking: str
) -> None:
    pair = {"cert": certificates / "cert.pem", "key": certificates / "key.pem"}
    tls = TlsSettings(**pair) if lacking == "ca" else TlsSettings(ca=certificates / "ca.pem")
    settings = NatsSettings(url=server.url, tls=tls, connect_timeout_ms=1_500)
    with pytest.raises(ConnectionFailedError, match=r"cannot be agreed on|no NATS server answers"):
        await Bus.connect(settings, "test")
