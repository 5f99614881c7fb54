"""Roles and their permissions, and what `atlas access` keeps of users."""

import json
import stat
from pathlib import Path

import pytest

from atlas import access, access_folder, subjects
from atlas.access import Role, User
from atlas.contracts.errors import ConfigurationError
from atlas.credentials import public_key
from atlas.settings import TopologySettings
from atlas.topology import Topology

URL = "nats://127.0.0.1:4222"
DOORS = {name: value for name, value in vars(subjects).items() if name.startswith("API_")}


def made(folder: Path, *tenants: str) -> list[str]:
    """The names of the users that `init` makes."""
    found = access_folder.make(folder, tenants, listen="127.0.0.1:4222", url=URL)
    return [one.name for one in found]


@pytest.mark.parametrize("name", DOORS)
def test_a_door_belongs_to_one_service(name: str) -> None:
    owners = [subjects.ROUTER_DOORS, subjects.CONTROLLER_DOORS]
    count = sum(DOORS[name] in doors for doors in owners)
    assert count == 1, f"put {name} into ROUTER_DOORS or CONTROLLER_DOORS of subjects.py"


@pytest.mark.parametrize("role", [Role.PROVIDER_ROUTER, Role.AGENT_CONTROLLER, Role.AGENT_WORKER])
def test_a_service_may_make_every_asset(role: Role) -> None:
    allowed = access.permissions(User(role, role)).publish
    names = [one.name for one in Topology(TopologySettings()).expected()]
    assert [one for one in names if f"$JS.API.STREAM.CREATE.{one}" not in allowed] == []


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OPERATOR])
def test_no_role_but_the_operator_may_call_all_of_jetstream(role: Role) -> None:
    user = User("someone", role, "acme" if role.is_of_a_tenant else None)
    allowed = access.permissions(user)
    assert {">", "$JS.>", "$JS.API.>", "atlas.>"}.isdisjoint({*allowed.publish, *allowed.subscribe})


@pytest.mark.parametrize("role", [Role.PUBLISHER, Role.WATCHER])
def test_a_tenants_user_has_subjects_of_its_tenant_only(role: Role) -> None:
    user = User("someone", role, "acme")
    allowed = access.permissions(user)
    mine = ("atlas.acme.", "_INBOX.acme.someone.")
    assert [one for one in (*allowed.publish, *allowed.subscribe) if not one.startswith(mine)] == []


def test_a_watcher_may_less_than_a_publisher() -> None:
    watcher, publisher = (
        set(access.permissions(User("someone", role, "acme")).publish)
        for role in (Role.WATCHER, Role.PUBLISHER)
    )
    assert watcher < publisher


def test_a_seed_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    mode = access_folder.seed_file(tmp_path, "acme-publisher").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_what_was_made_once_stays_as_it_is(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    seeds = {path: path.read_bytes() for path in tmp_path.glob("users/*/user.nk")}
    assert made(tmp_path, "acme", "umbrella") == ["umbrella-publisher", "umbrella-watcher"]
    assert {path: path.read_bytes() for path in seeds} == seeds


def test_a_seed_that_was_handed_over_is_not_made_again(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    access_folder.seed_file(tmp_path, "acme-publisher").unlink()
    assert made(tmp_path, "acme") == []


def test_seeds_outlive_the_list_of_users(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    before = access_folder.read(tmp_path)
    (tmp_path / "access.json").unlink()
    made(tmp_path, "acme")
    assert access_folder.read(tmp_path) == before


def test_a_servers_configuration_that_is_there_is_not_touched(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    access_folder.server_file(tmp_path).write_text("mine")
    made(tmp_path, "acme")
    assert access_folder.server_file(tmp_path).read_text() == "mine"


@pytest.mark.parametrize("size", ["0", "-1", "10XB", "0.5GB", "ten", "", "10GB }", "$", "$A B"])
def test_a_bound_of_the_store_that_no_server_would_read_is_refused(
    tmp_path: Path, size: str
) -> None:
    with pytest.raises(ConfigurationError, match="is no size"):
        access_folder.make(tmp_path, [], listen="", url=URL, max_file_store=size)
    assert list(tmp_path.iterdir()) == []


def test_no_seed_stands_in_what_the_server_reads(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    told = (
        access_folder.accounts_file(tmp_path).read_text() + (tmp_path / "access.json").read_text()
    )
    seeds = [path.read_text().strip() for path in tmp_path.glob("users/*/user.nk")]
    assert [seed for seed in seeds if seed in told] == []


def test_a_user_that_is_added_is_in_the_servers_configuration(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    user = User("dashboard", Role.WATCHER, "acme")
    entry = access_folder.add(tmp_path, user, url=URL)
    text = access_folder.accounts_file(tmp_path).read_text()
    accounts = json.loads(text[text.index("accounts: ") + len("accounts: ") :])
    assert accounts["dashboard"]["users"][0]["nkey"] == entry.public_key


def test_a_user_that_is_removed_leaves_nothing(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    key = public_key(access_folder.seed_file(tmp_path, "acme-watcher"))
    access_folder.remove(tmp_path, "acme-watcher")
    left = [path for path in tmp_path.rglob("*") if path.is_file() and key in path.read_text()]
    assert (left, access_folder.seed_file(tmp_path, "acme-watcher").exists()) == ([], False)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (User("acme-watcher", Role.WATCHER, "acme"), "already; choose another --name"),
        (User("a b", Role.OPERATOR), "'a b' is no name"),
        (User("x", Role.PUBLISHER, "a.b"), "'a.b' is no tenant"),
        (User("x", Role.PUBLISHER), "name it: --tenant"),
        (User("x", Role.OPERATOR, "acme"), "leave --tenant out"),
        (User("x", Role.AGENT_WORKER, capabilities=("co.de",)), "'co.de' is no capability"),
        (User("x", Role.OPERATOR, capabilities=("code",)), "only an agent_worker"),
        (User("ATLAS", Role.WATCHER, "acme"), "the services' account"),
    ],
)
def test_a_user_that_makes_no_sense_is_refused(tmp_path: Path, user: User, message: str) -> None:
    made(tmp_path, "acme")
    with pytest.raises(ConfigurationError, match=message):
        access_folder.add(tmp_path, user, url=URL)


def test_who_adds_a_user_to_nothing_is_told_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="begin with `atlas access init"):
        access_folder.add(tmp_path, User("x", Role.OPERATOR), url=URL)


def test_who_removes_nobody_is_told_who_there_is(tmp_path: Path) -> None:
    made(tmp_path, "acme")
    with pytest.raises(ConfigurationError, match="there are provider_router, agent_controller"):
        access_folder.remove(tmp_path, "nobody")


def test_a_list_of_users_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "access.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read as the users"):
        access_folder.read(tmp_path)
