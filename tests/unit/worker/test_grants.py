"""Which tools a capability may use."""

from typing import Any

import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.worker import ToolNotGrantedError, ToolUnavailableError
from atlas.worker.function_tools import FunctionTool
from atlas.worker.grants import Grant
from atlas.worker.toolbox import Toolbox


def named(name: str) -> Any:
    return FunctionTool(lambda: 1, name=name, description="x")


class Server:
    def __init__(self, *names: str, is_up: bool = True) -> None:
        self.names = names
        self.is_up = is_up

    def health(self) -> Any:
        return {}

    async def tools(self) -> Any:
        if not self.is_up:
            raise ToolUnavailableError("the MCP server is not there")
        return {name: named(name) for name in self.names}


BOX = Toolbox.of(
    [named("count"), named("search")],
    {"files": Server("files__read", "files__write"), "far": Server(is_up=False)},
)


async def granted(tools: Any, asked: Any = (), deny: Any = ()) -> list[str]:
    found = await BOX.granted(Grant(tuple(tools), tuple(deny)), list(asked), "draft")
    return [one.spec.name for one in found]


@pytest.mark.parametrize(
    ("tools", "deny", "allowed"),
    [
        (["count"], [], {"count"}),
        (["*"], [], {"count", "files__read", "files__write"}),
        (["files__*"], ["files__write"], {"files__read"}),
        (["*"], ["files__*"], {"count"}),
        ([], [], set()),
    ],
)
def test_a_grant_allows_names_and_beginnings_and_a_denial_goes_before(tools, deny, allowed):
    grant = Grant(tuple(tools), tuple(deny))
    assert {one for one in ("count", "files__read", "files__write") if grant.allows(one)} == allowed


@pytest.mark.parametrize(
    ("tools", "deny", "may"),
    [
        (["files__read"], [], True),
        (["fi*"], [], True),
        (["files__r*"], [], True),
        (["*"], ["files__*"], False),
        (["file"], [], False),
        (["far__*", "filesystem"], [], False),
    ],
)
def test_a_server_is_needed_where_the_grant_may_mean_its_tools(tools, deny, may):
    assert Grant(tuple(tools), tuple(deny)).may_reach("files") is may


async def test_a_subtask_that_asks_for_none_gets_what_its_capability_is_granted():
    assert await granted(["search", "files__*"]) == ["files__read", "files__write", "search"]
    assert await granted([]) == []


async def test_a_subtask_gets_what_it_asks_for_of_what_is_granted():
    assert await granted(["*"], ["files__read", "count"], deny=["far__*"]) == [
        "count",
        "files__read",
    ]


async def test_what_is_not_granted_is_refused_with_what_is_and_for_good():
    with pytest.raises(ToolNotGrantedError) as caught:
        await granted(["search", "files__*"], ["count", "search"], deny=["files__write"])
    assert caught.value.message.startswith(
        "the subtask asks for the tools count, and 'draft' may use search, files__*, but not "
        "files__write;"
    )
    assert not caught.value.retryable


async def test_nothing_granted_is_said_so():
    with pytest.raises(ToolNotGrantedError, match="'draft' may use no tools"):
        await granted([], ["count"])


async def test_a_granted_name_that_no_server_has_is_refused_with_what_there_is():
    with pytest.raises(ToolNotGrantedError, match="has not; it has files__read, files__write"):
        await granted(["files__*"], ["files__delete"])


async def test_only_a_server_that_is_needed_must_be_there():
    assert await granted(["*"], ["files__read"]) == ["files__read"]
    with pytest.raises(ToolUnavailableError) as caught:
        await granted(["*"])
    assert caught.value.retryable


def test_two_tools_have_two_names():
    with pytest.raises(ConfigurationError, match="there are two tools 'a'"):
        Toolbox.of([named("a"), named("a")], {})
