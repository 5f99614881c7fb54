"""The folder of `atlas access`: who may connect, their seeds, and the server's configuration.

    access.json             every user with its public key
    nats/access.conf        the accounts, users and permissions; written anew at each change
    nats/nats.conf          a server that includes it; written once, then the operator's own
    users/NAME/user.nk      a user's seed, for nobody else's eyes
    users/NAME/atlas.env    the variables with which Atlas connects as this user

A seed is made once and never written over. What the roles may do stands in `access`; a newer
Atlas may need more, so `make` writes the permissions anew and leaves users and seeds as they are.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import nkeys
from pydantic import Field, ValidationError

from atlas import access
from atlas.access import ACCOUNT, ANSWER_S, Role, User, permissions
from atlas.contracts.base import Contract, JsonObject
from atlas.contracts.errors import ConfigurationError
from atlas.contracts.ids import ID_PATTERN, is_id
from atlas.credentials import public_key

_REGISTRY = "access.json"
_SERVERS = "nats"
_ACCOUNTS = "access.conf"
_SERVER = "nats.conf"
_USERS = "users"
_SEED = "user.nk"
_VARIABLES = "atlas.env"
_SEED_BYTES = 32
_STORE_SIZE = re.compile(r"[1-9][0-9]*([kmgt](i?b)?)?|\$[a-z_][a-z0-9_]*", re.IGNORECASE)
"""A quoted size nats-server does not read, so it stands there as it is."""
_INSTALLATION = (
    Role.PROVIDER_ROUTER,
    Role.AGENT_CONTROLLER,
    Role.AGENT_WORKER,
    Role.OPERATOR,
)


class Entry(Contract):
    """A user as the folder knows it."""

    name: str
    role: Role
    tenant: str | None = None
    capabilities: list[str] = Field(default_factory=list)
    public_key: str

    @property
    def user(self) -> User:
        """As `access` takes it."""
        return User(self.name, self.role, self.tenant, tuple(self.capabilities))


class _Registry(Contract):
    users: list[Entry] = Field(default_factory=list)


def make(
    folder: Path,
    tenants: Sequence[str],
    *,
    listen: str,
    url: str,
    store_dir: Path | None = None,
    max_file_store: str | None = None,
) -> list[Entry]:
    """Make what is missing: the services' users, and a publisher and a watcher of each tenant.

    Gives the users that were made; those that were there stay, with their seeds. `max_file_store`
    is a size as nats-server reads it, or `$NAME` for the one in that variable of the server.

    Raises:
        ConfigurationError: A name or a size is none, or a file cannot be read or written.
    """
    if max_file_store is not None and not _STORE_SIZE.fullmatch(max_file_store):
        raise ConfigurationError(
            f"{max_file_store!r} is no size; `--max-file-store` takes such as 10GB, or $NAME for "
            "a variable of the server"
        )
    wanted = [User(role, role) for role in _INSTALLATION]
    wanted += [
        User(f"{tenant}-{role}", role, tenant)
        for tenant in tenants
        for role in (Role.PUBLISHER, Role.WATCHER)
    ]
    for user in wanted:
        _check(user)
    known = {one.name: one for one in read(folder)}
    made = [_enter(folder, user, url) for user in wanted if user.name not in known]
    _write(folder, [*known.values(), *made])
    server = server_file(folder)
    if not server.exists():
        server.write_text(_server(listen, store_dir or folder / "jetstream", max_file_store))
    return made


def add(folder: Path, user: User, *, url: str) -> Entry:
    """Make one more user.

    Raises:
        ConfigurationError: There is one of that name, or the name, the tenant or a capability is
            none; or `make` was never called here.
    """
    _check(user)
    known = _made(folder)
    if any(one.name == user.name for one in known):
        raise ConfigurationError(
            f"there is a user {user.name!r} already; choose another --name, or remove it with "
            f"`atlas access remove-user {user.name} {folder}` first"
        )
    entry = _enter(folder, user, url)
    _write(folder, [*known, entry])
    return entry


def remove(folder: Path, name: str) -> None:
    """Let a user connect no more, once the server has read its configuration again.

    Raises:
        ConfigurationError: There is no user of that name.
    """
    known = _made(folder)
    if all(one.name != name for one in known):
        names = ", ".join(one.name for one in known)
        raise ConfigurationError(f"there is no user {name!r} in {folder}; there are {names}")
    _write(folder, [one for one in known if one.name != name])
    for file in (_SEED, _VARIABLES):
        (folder / _USERS / name / file).unlink(missing_ok=True)


def read(folder: Path) -> list[Entry]:
    """The users that were made; none where there is no folder.

    Raises:
        ConfigurationError: What it holds cannot be read.
    """
    path = folder / _REGISTRY
    try:
        return _Registry.model_validate_json(path.read_bytes()).users
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as the users of `atlas access`: {error}; restore it"
        ) from error


def seed_file(folder: Path, name: str) -> Path:
    """Where a user's seed is."""
    return folder / _USERS / name / _SEED


def server_file(folder: Path) -> Path:
    """The configuration with which a server is started."""
    return folder / _SERVERS / _SERVER


def accounts_file(folder: Path) -> Path:
    """Its part that says who may do what, for a server that is configured otherwise."""
    return folder / _SERVERS / _ACCOUNTS


def _made(folder: Path) -> list[Entry]:
    known = read(folder)
    if not known:
        raise ConfigurationError(
            f"{folder} holds no users yet; begin with `atlas access init {folder}`"
        )
    return known


def _check(user: User) -> None:
    """Names become accounts of the server, folders and tokens of subjects."""
    named = [
        ("name", user.name),
        ("tenant", user.tenant),
        *(("capability", c) for c in user.capabilities),
    ]
    for what, name in named:
        if name is not None and not is_id(name):
            raise ConfigurationError(f"{name!r} is no {what}; these match {ID_PATTERN}")
    if user.name == ACCOUNT:
        raise ConfigurationError(f"{ACCOUNT!r} is the services' account; choose another --name")
    if user.role.is_of_a_tenant and user.tenant is None:
        raise ConfigurationError(f"a {user.role} reads or writes for a tenant; name it: --tenant")
    if not user.role.is_of_a_tenant and user.tenant is not None:
        raise ConfigurationError(f"a {user.role} serves every tenant; leave --tenant out")
    if user.capabilities and user.role is not Role.AGENT_WORKER:
        raise ConfigurationError(f"only an {Role.AGENT_WORKER} has capabilities; leave them out")


def _enter(folder: Path, user: User, url: str) -> Entry:
    """Make a user's seed, unless there is one, and say how it connects."""
    path = seed_file(folder, user.name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(nkeys.encode_seed(os.urandom(_SEED_BYTES), nkeys.PREFIX_BYTE_USER) + b"\n")
    except FileExistsError:
        pass  # kept: somebody may use it already
    variables = {
        "NATS_URL": url,
        "ATLAS_NATS__NKEY_SEED_FILE": str(path.absolute()),
        "ATLAS_NATS__INBOX_PREFIX": user.inbox,
        **({"ATLAS_TENANT": user.tenant} if user.tenant else {}),
    }
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    path.with_name(_VARIABLES).write_text("".join(lines))
    return Entry(
        name=user.name,
        role=user.role,
        tenant=user.tenant,
        capabilities=list(user.capabilities),
        public_key=public_key(path),
    )


def _write(folder: Path, users: Sequence[Entry]) -> None:
    """Write who there is, and what the server shall let them do."""
    (folder / _SERVERS).mkdir(parents=True, exist_ok=True)
    _replace(folder / _REGISTRY, _Registry(users=list(users)).model_dump_json(indent=2) + "\n")
    head = (
        "# Written by `atlas access`, and written anew by it at each change: change it there.\n"
        "# The server reads it again on `nats-server --signal reload` (SIGHUP).\n"
    )
    shown = json.dumps(accounts(users), indent=2)
    _replace(accounts_file(folder), f"{head}accounts: {shown}\n")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def accounts(users: Sequence[Entry]) -> JsonObject:
    """The server's accounts: that of the services, and one for each user of a tenant."""
    installation = [one for one in users if not one.role.is_of_a_tenant]
    exports: list[JsonObject] = [
        {"service": subject, "threshold": f"{ANSWER_S}s"} for subject in access.tenant_services()
    ]
    exports += [{"stream": subject} for subject in access.tenant_streams()]
    ours: JsonObject = {
        "jetstream": "enabled",
        "users": [_user(one) for one in installation],
        "exports": list(exports),
    }
    tenants: JsonObject = {
        one.name: {"users": [_user(one)], "imports": _imports(one.user)}
        for one in users
        if one.role.is_of_a_tenant
    }
    return {ACCOUNT: ours, **tenants}


def _user(entry: Entry) -> JsonObject:
    allowed = permissions(entry.user)
    return {
        "nkey": entry.public_key,
        "permissions": {
            "publish": {"allow": list(allowed.publish)},
            "subscribe": {"allow": list(allowed.subscribe)},
        },
    }


def _imports(user: User) -> list[object]:
    kinds = (("service", access.services_for(user)), ("stream", access.streams_for(user)))
    return [
        {kind: {"account": ACCOUNT, "subject": subject}}
        for kind, subjects_ in kinds
        for subject in subjects_
    ]


def _server(listen: str, store_dir: Path, max_file_store: str | None) -> str:
    bound = "" if max_file_store is None else f"  max_file_store: {max_file_store}\n"
    return (
        "# A NATS server for Atlas; written once by `atlas access init`, and yours from then on.\n"
        f"listen: {json.dumps(listen)}\n"
        "jetstream {\n"
        f"  store_dir: {json.dumps(str(store_dir.absolute()))}\n"
        f"{bound}"
        "}\n"
        f"include {json.dumps(_ACCOUNTS)}\n"
    )
