"""What is wrong with declared specialisations, tools and MCP servers is told where it stands."""

import json
from typing import get_args

import pytest

from agent_worker.specialists import SPECIALISTS
from atlas.contracts.errors import ConfigurationError
from atlas.settings import load_settings, secrets_of
from atlas.worker_settings import BuiltIn, McpServerSettings, WorkerSettings

from .test_provider_settings import _loaded, _problem, bare_environment

__all__ = ["bare_environment"]  # a fixture of every test here too

SERVER = "mcp: {files: {command: files-server}}"


def worker_of(said: str) -> WorkerSettings:
    return _loaded(f"worker: {{{said}}}").worker


def problem_of(said: str) -> str:
    return _problem(f"worker: {{{said}}}").removeprefix("worker.")


def test_the_settings_know_the_specialisations_that_are_built_in():
    assert list(get_args(BuiltIn)) == list(SPECIALISTS)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (
            "specialisations: {clerk: {promt: x}}",
            "specialisations.clerk.promt: unknown setting; did you mean 'prompt'?",
        ),
        (
            "specialisations: {clerk: {extends: reviw}}",
            (
                "specialisations.clerk.extends: give 'planning', 'research', 'analysis', 'draft', "
                "'code', 'review', 'summarize', 'extract' or 'general', not 'reviw'; did you mean "
                "'review'?"
            ),
        ),
        (
            "specialisations: {clerk: {temperature: 3}}",
            "specialisations.clerk.temperature: give a number up to 2, not 3",
        ),
        (
            "specialisations: {clerk: {concurrency: 0}}",
            "specialisations.clerk.concurrency: give a number from 1 on, not 0",
        ),
        (
            "specialisations: {clerk: {limits: {max_rounds: 0}}}",
            "specialisations.clerk.limits.max_rounds: give a number from 1 on, not 0",
        ),
        (
            "specialisations: {clerk: {tools: [serch]}}, tools: {search: 'm:f'}",
            "specialisations.clerk.tools.0: there is no tool 'serch'; did you mean 'search'?",
        ),
        (
            "specialisations: {clerk: {tools: [search]}}",
            (
                "specialisations.clerk.tools.0: there is no tool 'search'; declare it under "
                "worker.tools"
            ),
        ),
        (
            f"specialisations: {{clerk: {{tools: [file__read]}}}}, {SERVER}",
            (
                "specialisations.clerk.tools.0: there is no tool 'file__read'; did you mean "
                "'files__*'?"
            ),
        ),
        (
            "specialisations: {clerk: {tools: ['a*b']}}, tools: {ab: 'm:f'}",
            (
                "specialisations.clerk.tools.0: 'a*b' names no tools; give a name, or the "
                "beginning of names with a * after it"
            ),
        ),
        (
            "specialisations: {clerk: {level: none}}",
            (
                "specialisations.clerk.level: give 'basic', 'moderate', 'strong' or 'exceptional', "
                "not 'none'"
            ),
        ),
        (
            'specialisations: {clerk: {description: "a\\nb"}}',
            "specialisations.clerk.description: give one line of 1 to 200 characters",
        ),
        ("tools: {search: m}", "tools.search: give `module:function`, not 'm'"),
        (
            "tools: {read_result: 'm:f'}",
            (
                "tools.read_result: 'read_result' cannot name a tool; give 1 to 64 of the "
                "characters A-Z a-z 0-9 _ -, and not the name of Atlas's own"
            ),
        ),
        (
            f"tools: {{files__read: 'm:f'}}, {SERVER}",
            (
                "tools.files__read: the tools of the MCP server 'files' are called so; give this "
                "one another name"
            ),
        ),
        (
            "mcp: {files: {}}",
            "mcp.files: give `command`, a program to start, or `url`, where a server runs",
        ),
        (
            "mcp: {files: {command: a, url: 'http://x'}}",
            "mcp.files: give `command`, a program to start, or `url`, where a server runs",
        ),
        (
            "mcp: {files: {url: 'x.org'}}",
            "mcp.files.url: give a URL that begins with http:// or https://, not 'x.org'",
        ),
        (
            "mcp: {files: {url: 'http://x', args: [a]}}",
            "mcp.files: args, env and cwd are for a `command`; with a url give headers",
        ),
        (
            "mcp: {files: {command: a, headers: {A: b}}}",
            "mcp.files: headers are for a `url`; with a command give env",
        ),
        ("tool_threads: 0", "tool_threads: give a number from 1 on, not 0"),
    ],
)
def test_a_mistake_is_named_where_it_stands_with_what_to_write(said, problem):
    assert problem_of(said) == problem


@pytest.mark.parametrize("name", ["a__b", "a_", "_a", "a.b", "a" * 25])
def test_a_server_whose_name_could_not_be_parted_from_its_tools_is_refused(name):
    told = problem_of(f"mcp: {{{name}: {{command: x}}}}")
    assert f"{name!r} cannot name an MCP server; give 1 to 24" in told


def test_what_a_specialisation_may_use_is_declared_by_names_and_beginnings():
    said = "tools: [count, 'files__r*', '*'], deny: [files__rm]"
    worker = worker_of(f"specialisations: {{clerk: {{{said}}}}}, tools: {{count: 'm:f'}}, {SERVER}")
    assert worker.specialisations["clerk"].tools == ["count", "files__r*", "*"]


def test_limits_of_a_specialisation_stand_over_those_of_the_worker():
    worker = worker_of(
        "limits: {max_rounds: 5, max_calls: 3}, specialisations: {clerk: {limits: {max_rounds: 2}}}"
    )
    assert (worker.limits_of("clerk").max_rounds, worker.limits_of("clerk").max_calls) == (2, 3)
    assert worker.limits_of("draft").max_rounds == 5


def test_secrets_come_from_variables_and_are_never_shown(monkeypatch):
    monkeypatch.setenv("FILES_TOKEN", "s3cret")
    server = McpServerSettings.model_validate(
        {"command": "x", "env": {"MODE": "quiet"}, "secrets": {"TOKEN": "FILES_TOKEN"}}
    )
    assert secrets_of(server) == {"MODE": "quiet", "TOKEN": "s3cret"}
    assert "quiet" not in json.dumps(server.model_dump(mode="json"))
    monkeypatch.delenv("FILES_TOKEN")
    with pytest.raises(ConfigurationError, match=r"secrets\.TOKEN: FILES_TOKEN is not set"):
        secrets_of(server)


def test_variables_reach_every_setting_of_a_server(monkeypatch):
    monkeypatch.setenv("ATLAS_WORKER__MCP__FILES__URL", "http://files/mcp")
    monkeypatch.setenv("ATLAS_WORKER__SPECIALISATIONS__CLERK__TOOLS", '["files__*"]')
    worker = load_settings().worker
    assert worker.mcp["files"].url == "http://files/mcp"
    assert worker.specialisations["clerk"].tools == ["files__*"]
