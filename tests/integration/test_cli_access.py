"""`atlas access` as an operator types it, and the server that reads what it wrote."""

import asyncio
from pathlib import Path

import pytest

from atlas.embedded import find_nats_server
from tests.integration.cli_process import Ended, ended, start


async def access(cwd: Path, *arguments: str) -> Ended:
    """Run `atlas access …`."""
    return await ended(await start("access", *arguments, nats_url=None, cwd=cwd))


def _seeds(folder: Path) -> list[str]:
    return [path.read_text().strip() for path in folder.glob("here/users/*/user.nk")]


@pytest.mark.parametrize("bound", [None, "1024", "512m", "10GiB", "1Tb", "$STORE_OF_ATLAS"])
async def test_a_server_takes_the_configuration_that_init_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str | None
) -> None:
    monkeypatch.setenv("STORE_OF_ATLAS", "10GB")
    given = () if bound is None else ("--max-file-store", bound)
    made = await access(tmp_path, "init", "here", "--tenant", "acme", *given)
    assert made.status == 0, made.err
    command = [str(find_nats_server()), "--config", "here/nats/nats.conf", "-t"]
    checking = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, told = await asyncio.wait_for(checking.communicate(), 30)
    assert checking.returncode == 0, told


async def test_the_servers_configuration_listens_on_loopback(tmp_path: Path) -> None:
    await access(tmp_path, "init", "here")
    assert 'listen: "127.0.0.1:4222"' in (tmp_path / "here/nats/nats.conf").read_text()


async def test_init_in_a_new_folder_makes_the_default_tenants_users(tmp_path: Path) -> None:
    made = await access(tmp_path, "init", "here", "--json")
    assert [one["name"] for one in made.records] == [
        "provider_router",
        "agent_controller",
        "agent_worker",
        "operator",
        "default-publisher",
        "default-watcher",
    ]


async def test_init_again_adds_nobody(tmp_path: Path) -> None:
    await access(tmp_path, "init", "here", "--tenant", "acme")
    again = await access(tmp_path, "init", "here", "--json")
    assert (again.status, again.records) == (0, [])


async def test_no_command_prints_a_seed(tmp_path: Path) -> None:
    told = [
        await access(tmp_path, "init", "here"),
        await access(tmp_path, "add-user", "here", "--role", "operator", "--name", "me"),
        await access(tmp_path, "show", "operator"),
    ]
    seeds = _seeds(tmp_path)
    said = "".join(one.out + one.err for one in told)
    assert (len(seeds), [seed for seed in seeds if seed in said]) == (7, [])


async def test_a_user_is_added_and_removed(tmp_path: Path) -> None:
    await access(tmp_path, "init", "here")
    added = await access(
        tmp_path, "add-user", "here", "--role", "watcher", "--tenant", "default", "--name", "wall"
    )
    assert (added.status, (tmp_path / "here/users/wall/user.nk").exists()) == (0, True)
    removed = await access(tmp_path, "remove-user", "wall", "here")
    assert (removed.status, (tmp_path / "here/users/wall/user.nk").exists()) == (0, False)


async def test_a_user_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    await access(tmp_path, "init", "here")
    again = await access(tmp_path, "add-user", "here", "--role", "operator")
    assert again.status == 2
    assert "choose another --name" in again.err


async def test_a_misspelt_role_is_told_with_the_nearest(tmp_path: Path) -> None:
    refused = await access(tmp_path, "show", "publihser")
    assert refused.status == 2
    assert "did you mean publisher?" in refused.err


async def test_show_tells_what_a_role_may(tmp_path: Path) -> None:
    shown = await access(tmp_path, "show", "watcher", "--tenant", "acme", "--json")
    (record,) = shown.records
    assert record["inbox"] == "_INBOX.acme.acme-watcher"
    assert "atlas.acme.stream.*.chunk" in record["subscribe"]
    assert "atlas.acme.api.generate" not in record["publish"]


async def test_show_without_a_role_names_them_all(tmp_path: Path) -> None:
    shown = await access(tmp_path, "show", "--json")
    assert [one["role"] for one in shown.records][-2:] == ["publisher", "watcher"]


async def test_config_check_names_a_seed_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty.nk").write_text("")
    settings = {"ATLAS_NATS__NKEY_SEED_FILE": "empty.nk"}
    running = await start("config", "check", nats_url=None, cwd=tmp_path, settings=settings)
    checked = await ended(running)
    assert checked.status == 2
    assert "empty.nk holds no seed of a NATS user" in checked.err
