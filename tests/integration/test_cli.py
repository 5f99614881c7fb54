"""The command line without a server, and with words that it does not know."""

import pytest

from atlas.embedded import free_port
from tests.integration import cli_process


async def test_no_nats_is_wrong_use_with_one_line_that_says_where_it_looked(tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas("task", "list", nats_url=url, cwd=tmp_path)
    assert ended.status == 2
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: no NATS server answers at {url}")
    assert "atlas up" in line


@pytest.mark.parametrize("command", ["task list", "doctor", "providers", "stream watch s1", "chat"])
async def test_no_nats_is_told_in_the_same_way_by_every_command(command, tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas(*command.split(), nats_url=url, cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: no NATS server answers at {url}")


async def test_an_error_in_json_mode_is_one_json_object(tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas("providers", "--json", nats_url=url, cwd=tmp_path)
    assert ended.status == 2
    assert '{"error":{"code":"connection_failed"' in ended.err


async def test_an_unknown_option_is_wrong_use(cli):
    assert (await cli("task", "run", "--gaol", "x")).status == 2


@pytest.mark.parametrize("command", ["", "task", "task run"])
async def test_help_is_there_for_who_types_h(cli, command):
    asked = await cli(*command.split(), "-h")
    assert (asked.status, "--help" in asked.out) == (0, True)


async def test_the_version_is_there_as_an_option_too(cli):
    asked = [await cli("--version"), await cli("version")]
    assert [one.status for one in asked] == [0, 0]
    assert asked[0].out == asked[1].out
