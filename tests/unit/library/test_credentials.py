"""What is said of files that shall tell who a connection is."""

from pathlib import Path

import nkeys
import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.credentials import credentials, more_telling, no_connection, public_key
from atlas.nats_settings import NatsSettings, TlsSettings
from atlas.settings import load_settings

SEED_OF_A_USER = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER)
SEED_OF_AN_ACCOUNT = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)


def test_a_seed_gives_its_public_key(tmp_path: Path) -> None:
    path = tmp_path / "user.nk"
    path.write_bytes(SEED_OF_A_USER + b"\n")
    assert public_key(path).startswith("U")


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"SU" + b"A" * 56, SEED_OF_AN_ACCOUNT, b"\xff\xfe"]
)
def test_what_is_no_seed_of_a_user_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "user.nk"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="holds no seed of a NATS user") as refusal:
        credentials(NatsSettings(nkey_seed_file=path))
    assert not content or content.decode(errors="replace") not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (NatsSettings(nkey_seed_file=Path("gone")), "nats.nkey_seed_file"),
        (NatsSettings(creds=Path("gone")), "nats.creds"),
        (NatsSettings(tls=TlsSettings(ca=Path("gone"))), "nats.tls.ca"),
        (NatsSettings(tls=TlsSettings(cert=Path("gone"), key=Path("gone"))), "nats.tls.cert"),
    ],
)
def test_a_file_that_is_not_there_is_named(settings: NatsSettings, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: gone: No such file or directory"):
        credentials(settings)


@pytest.mark.parametrize("name", ["ca", "cert"])
def test_a_file_without_a_certificate_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text("nothing")
    tls = TlsSettings(ca=path) if name == "ca" else TlsSettings(cert=path, key=path)
    with pytest.raises(ConfigurationError, match=rf"nats\.tls\.{name}.*file\.txt"):
        credentials(NatsSettings(tls=tls))


def test_without_settings_a_connection_shows_nothing() -> None:
    shown = credentials(NatsSettings())
    assert (shown.nkeys_seed, shown.user_credentials, shown.tls) == (None, None, None)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ATLAS_NATS__TLS__CERT": "c.pem"}, "`cert` needs `key`"),
        ({"ATLAS_NATS__INBOX_PREFIX": "atlas.acme.task"}, "give _INBOX or _INBOX.NAME"),
        ({"ATLAS_NATS__INBOX_PREFIX": "_INBOX.*"}, "give _INBOX or _INBOX.NAME"),
        (
            {"ATLAS_NATS__CREDS": "c", "ATLAS_NATS__NKEY_SEED_FILE": "s"},
            "name a user each; give one of them",
        ),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message):
        load_settings()


def test_a_server_that_refuses_a_user_is_not_told_as_one_that_is_away() -> None:
    told = no_connection(
        NatsSettings(nkey_seed_file=Path("me.nk")), "nats: 'Authorization Violation'"
    )
    assert "refuses the user of me.nk" in told.message


def test_a_refusal_is_told_and_not_that_the_server_hung_up_on_the_next_try() -> None:
    refusal, hung_up = RuntimeError("'Authorization Violation'"), ConnectionResetError("reset")
    told = more_telling(more_telling(None, refusal), hung_up)
    assert told is refusal
