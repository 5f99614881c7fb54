"""Who a connection to NATS is: what nats-py is given of a seed, of credentials and of TLS.

Every file is looked at before the first try, so that what is wrong with one is said as that, and
not as a server that does not answer. No message holds what stands in them.
"""

import ssl
from pathlib import Path
from typing import NamedTuple

import nkeys

from atlas.contracts.errors import ConfigurationError, ConnectionFailedError
from atlas.nats_settings import NatsSettings, TlsSettings
from atlas.wire import without_secrets

REFUSED = "give this process's user what it needs: `atlas access show` tells what each role may"

_UNKNOWN_USER = ("authorization violation", "user authentication")
_NOT_PERMITTED = "permissions violation"


class Credentials(NamedTuple):
    """What a connection shows, as nats-py's `connect` takes it."""

    user_credentials: str | None
    nkeys_seed: str | None
    tls: ssl.SSLContext | None
    tls_hostname: str | None
    tls_handshake_first: bool
    inbox_prefix: str


def credentials(settings: NatsSettings) -> Credentials:
    """What the settings name, read and found whole.

    Raises:
        ConfigurationError: A file is missing or not what it should be; says which, and what to do.
    """
    if settings.nkey_seed_file is not None:
        public_key(settings.nkey_seed_file)
    if settings.creds is not None:
        _read("nats.creds", settings.creds)
    tls = settings.tls
    return Credentials(
        user_credentials=str(settings.creds) if settings.creds else None,
        nkeys_seed=str(settings.nkey_seed_file) if settings.nkey_seed_file else None,
        tls=None if tls is None else _tls(tls),
        tls_hostname=None if tls is None else tls.hostname,
        tls_handshake_first=tls is not None and tls.handshake_first,
        inbox_prefix=settings.inbox_prefix,
    )


def no_connection(settings: NatsSettings, why: str) -> ConnectionFailedError:
    """Why there is no connection, and what to do: start a server, or be somebody it knows."""
    where = without_secrets(settings.url)
    if _is_unknown_user(why):
        shown = settings.nkey_seed_file or settings.creds
        told = f"the user of {shown}" if shown else "a client that shows no user"
        return ConnectionFailedError(
            f"NATS at {where} refuses {told} ({why}); name a file that its operator gave you with "
            "nats.nkey_seed_file or NATS_CREDS (`atlas access` makes them)"
        )
    if "ssl" in why.lower() or "tls" in why.lower():
        return ConnectionFailedError(
            f"TLS cannot be agreed on with NATS at {where} ({why}); give nats.tls.ca the file of "
            "the CA that signed its certificate, and nats.tls.cert and key if it asks for one"
        )
    return ConnectionFailedError(
        f"no NATS server answers at {where} ({why}); start one with `atlas up` or "
        "`nats-server -js`, or say where it is with NATS_URL"
    )


def more_telling(before: Exception | None, now: Exception) -> Exception:
    """Of the errors of two tries to connect: a refusal, and not that the server hung up on it."""
    return before if before is not None and _is_unknown_user(str(before)) else now


def _is_unknown_user(why: str) -> bool:
    return any(one in why.lower() for one in _UNKNOWN_USER)


def is_refusal(error: Exception) -> bool:
    """Whether the server says that this user may not do what it just did."""
    return _NOT_PERMITTED in str(error).lower()


def public_key(seed_file: Path) -> str:
    """The public key of a user's seed: what a server's configuration names.

    Raises:
        ConfigurationError: It cannot be read, or is no seed of a user.
    """
    seed = _read("nats.nkey_seed_file", seed_file).strip()
    try:
        prefix, raw = nkeys.decode_seed(bytearray(seed))
        if nkeys.encode_seed(raw, prefix) != seed:  # nkeys does not look at the checksum
            raise _no_seed(seed_file)
        pair = nkeys.from_seed(bytearray(seed))
        key = bytes(pair.public_key).decode()
        pair.wipe()
    except (nkeys.NkeysError, ValueError) as error:
        raise _no_seed(seed_file) from error
    if not key.startswith("U"):
        raise _no_seed(seed_file)
    return key


def _no_seed(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"nats.nkey_seed_file: {path} holds no seed of a NATS user (one line that begins with SU); "
        "`atlas access` makes such files, and nats.creds takes a credentials file"
    )


def _tls(settings: TlsSettings) -> ssl.SSLContext:
    for name, path in (("ca", settings.ca), ("cert", settings.cert), ("key", settings.key)):
        if path is not None:
            _read(f"nats.tls.{name}", path)
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"nats.tls.ca: {settings.ca} holds no certificate in PEM; name the CA's file"
        ) from error
    if settings.cert is not None:
        try:
            context.load_cert_chain(settings.cert, settings.key)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"nats.tls.cert and nats.tls.key: {settings.cert} and {settings.key} are no "
                f"certificate and its key in PEM ({error.reason}); name a pair, the key without a "
                "password"
            ) from error
    return context


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{name}: {path}: {error.strerror}; give the path of a file that this user may read"
        ) from error
