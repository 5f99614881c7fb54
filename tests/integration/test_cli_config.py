"""`atlas config check`, and what every command says of a configuration that is wrong."""

import re

import pytest

from tests.integration import cli_process
from tests.support.documents import blocks


async def test_the_configuration_is_checked_with_every_problem_at_once(cli, tmp_path):
    (tmp_path / "atlas.yaml").write_text("tennant: x\nrouter: {max_streems: 3}\n")
    ended = await cli("config", "check")
    assert ended.status == 2
    assert "did you mean 'tenant'" in ended.err
    assert "did you mean 'max_streams'" in ended.err
    (tmp_path / "atlas.yaml").write_text("providers: {mine: {kind: openai, api_key_env: NOT_SET}}")
    ended = await cli("config", "check")
    assert ended.status == 2
    assert "NOT_SET is not set" in ended.err
    (tmp_path / "atlas.yaml").write_text("tenant: acme\n")
    shown = (await cli("config", "check", "--json")).records[0]
    assert shown["tenant"] == "acme"


@pytest.mark.parametrize(
    "command",
    [
        ("config", "check"),
        ("up",),
        ("task", "run", "--standalone", "--goal", "g"),
    ],
)
async def test_a_default_model_without_its_key_is_told_before_anything_starts(tmp_path, command):
    (tmp_path / "atlas.yaml").write_text("router: {default_model: anthropic/claude-sonnet-4-5}")
    ended = await cli_process.atlas(*command, nats_url=None, cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("error: atlas.yaml: router.default_model: ")
    assert "set ANTHROPIC_API_KEY" in line


@pytest.mark.parametrize("shown", blocks("yaml"))
async def test_a_configuration_that_a_document_shows_is_valid_with_the_keys_it_names(
    shown, tmp_path
):
    (tmp_path / "atlas.yaml").write_text(shown)
    keys = dict.fromkeys(re.findall(r"(?:api_key_env|secrets: \{\w+): (\w+)", shown), "x")
    ended = await cli_process.atlas(
        *("config", "check"), nats_url=None, cwd=tmp_path, settings=keys
    )
    assert (ended.status, ended.err) == (0, "")


async def test_a_variable_that_is_no_setting_is_shown_by_the_check_of_the_configuration(tmp_path):
    ended = await cli_process.atlas(
        *("config", "check"),
        nats_url=None,
        cwd=tmp_path,
        settings={"ATLAS_PUBLIC_KEY": "of another program"},
    )
    assert ended.status == 0
    assert "ignored    ATLAS_PUBLIC_KEY" in ended.out
