"""`atlas access`: users of the NATS server, their seeds and their permissions."""

from dataclasses import asdict, dataclass
from pathlib import Path

from atlas import access_folder
from atlas.access import MEANINGS, Role, User, permissions
from atlas.access_folder import Entry
from atlas.cli.output import Output
from atlas.cli.session import DONE
from atlas.contracts.errors import InvalidRequestError
from atlas.spelling import nearest
from atlas.subjects import DEFAULT_TENANT

# With the first reload nats-server (2.15) lets a new account in, and only with the next one do the
# subscriptions of services that run reach it.
RELOAD_TWICE = (
    "a server that runs knows them after `nats-server --signal reload`, given twice: after the "
    "first nobody answers them"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What `init` makes, and where."""

    folder: Path
    tenants: tuple[str, ...]
    listen: str
    store_dir: Path | None
    max_file_store: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A user as a person describes it."""

    role: str
    tenant: str | None
    name: str | None
    capabilities: tuple[str, ...]

    def user(self) -> User:
        """As the library takes it.

        Raises:
            InvalidRequestError: There is no such role.
        """
        role = _role(self.role)
        own = f"{self.tenant}-{role}" if self.tenant else str(role)
        return User(self.name or own, role, self.tenant, self.capabilities)


def _role(name: str) -> Role:
    plain = name.replace("-", "_")
    if plain not in list(Role):
        close = nearest(plain, list(Role))
        meant = f"did you mean {close}?" if close else f"there are {', '.join(Role)}"
        raise InvalidRequestError(f"there is no role {name!r}; {meant}")
    return Role(plain)


async def init(asked: Asked, *, as_json: bool) -> int:
    """Make what is missing.

    Raises:
        ConfigurationError: A tenant's name or the size is none, or the folder cannot be read.
    """
    is_new = not access_folder.read(asked.folder)
    made = access_folder.make(
        asked.folder,
        asked.tenants or ((DEFAULT_TENANT,) if is_new else ()),
        listen=asked.listen,
        url=asked.url,
        store_dir=asked.store_dir,
        max_file_store=asked.max_file_store,
    )
    output = Output(as_json=as_json)
    for entry in made:
        _tell(output, asked.folder, entry)
    kept = len(access_folder.read(asked.folder)) - len(made)
    output.note(f"{len(made)} users made, {kept} kept as they were")
    output.note(f"start: nats-server --config {access_folder.server_file(asked.folder)}")
    if made and not is_new:
        output.note(RELOAD_TWICE)
    return DONE


async def add_user(folder: Path, wanted: Wanted, url: str, *, as_json: bool) -> int:
    """Make one more user.

    Raises:
        InvalidRequestError: There is no such role.
        ConfigurationError: There is such a user, or it makes no sense.
    """
    output = Output(as_json=as_json)
    _tell(output, folder, access_folder.add(folder, wanted.user(), url=url))
    output.note(RELOAD_TWICE)
    return DONE


async def remove_user(folder: Path, name: str, *, as_json: bool) -> int:
    """Remove a user and its seed.

    Raises:
        ConfigurationError: There is none of that name.
    """
    access_folder.remove(folder, name)
    output = Output(as_json=as_json)
    output.show({"removed": name}, f"{name}: removed")
    output.note("the server forgets it after `nats-server --signal reload`")
    return DONE


async def show(wanted: Wanted | None, *, as_json: bool) -> int:
    """Show the roles, or one's permissions.

    Raises:
        InvalidRequestError: There is no such role.
    """
    output = Output(as_json=as_json)
    if wanted is None:
        for role, meaning in MEANINGS.items():
            output.show({"role": role, "meaning": meaning}, f"{role:18}{meaning}")
        return DONE
    user = wanted.user()
    if user.role.is_of_a_tenant and user.tenant is None:
        user = User(user.name, user.role, "TENANT")
    allowed = permissions(user)
    lines = [f"{user.name} ({user.role}), inbox {user.inbox}"]
    lines += ["may publish on", *(f"  {one}" for one in allowed.publish)]
    lines += ["may hear", *(f"  {one}" for one in allowed.subscribe)]
    output.show({"role": user.role, "inbox": user.inbox, **asdict(allowed)}, "\n".join(lines))
    return DONE


def _tell(output: Output, folder: Path, entry: Entry) -> None:
    seed = access_folder.seed_file(folder, entry.name)
    output.show(
        {**entry.model_dump(mode="json", exclude_none=True), "seed_file": str(seed)},
        f"{entry.name:24}{entry.role:18}{seed}",
    )
