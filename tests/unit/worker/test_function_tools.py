"""Python functions as tools: what a model is told, and what it may give."""

from __future__ import annotations

import json
import sys
import threading
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from atlas.contracts.errors import ConfigurationError
from atlas.worker import ToolContext, Worker
from atlas.worker.function_tools import FunctionTool, declared_tools
from atlas.worker.threads import Threads
from atlas.worker.tools import ToolArgumentsError


class Unit(StrEnum):
    METRES = "m"
    FEET = "ft"


class Box(BaseModel):
    width: float
    height: float


def area(box: Box, unit: Unit = Unit.METRES, *, json: bool = False) -> str:
    """The area of a box.

    It is exact.

    Args:
        box: What to measure,
            in metres.
        unit: Of the answer.
        json: As JSON.
    """
    return f"{box.width * box.height:g} {unit} {json}"


async def days_until(when: date, context: ToolContext) -> dict[str, object]:
    """How many days there are until a day."""
    return {"when": when, "key": context.idempotency_key}


def context() -> ToolContext:
    return ToolContext("default", "t", "s", "t:s:1:x.0", lambda _: None)


async def answer(function: Any, arguments: str, **more: Any) -> Any:
    return await FunctionTool(function, **more).call(arguments, context(), Threads(2))


def test_a_model_is_told_what_types_and_docstring_say():
    spec = FunctionTool(area).spec
    assert (spec.name, spec.description) == ("area", "The area of a box.\n\nIt is exact.")
    schema: Any = spec.parameters
    assert list(schema["properties"]) == ["box", "unit", "json"]
    assert schema["required"] == ["box"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["box"]["description"] == "What to measure,\nin metres."
    assert schema["properties"]["json"] == {
        "default": False,
        "description": "As JSON.",
        "type": "boolean",
    }
    assert "title" not in json.dumps(schema["properties"])


def test_no_model_sees_the_context():
    schema: Any = FunctionTool(days_until).spec.parameters
    assert list(schema["properties"]) == ["when"]


async def test_arguments_come_as_the_types_say_and_defaults_stay():
    given = '{"box": {"width": 2, "height": "3"}, "unit": "ft"}'
    assert await answer(area, given) == "6 ft False"


async def test_the_context_comes_with_the_key_of_the_call():
    said = await answer(days_until, '{"when": "2026-11-24"}')
    assert said["key"] == "t:s:1:x.0"
    assert said["when"].day == 24


async def test_a_tool_without_arguments_is_called_with_nothing_at_all():
    def now() -> str:
        """What time it is."""
        return "noon"

    assert await answer(now, "") == "noon"
    assert await answer(now, "{}") == "noon"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{not json", "Invalid JSON"),
        ("[1]", "valid dictionary|valid object|object"),
        ("{}", "box: Field required"),
        ('{"box": {"width": 2}}', "box.height: Field required"),
        ('{"box": {"width": "x", "height": 1}}', "box.width: .* not 'x'"),
        ('{"box": {"width": 1, "height": 1}, "unit": "yd"}', "unit: Input should be 'm' or 'ft'"),
        ('{"box": {"width": 1, "height": 1}, "colour": 1}', "colour: Extra inputs"),
    ],
)
async def test_what_does_not_fit_is_said_so_that_the_model_can_mend_it(given, says):
    with pytest.raises(ToolArgumentsError, match=says):
        await answer(area, given)


async def test_a_plain_function_runs_in_a_thread_of_its_own():
    def where() -> str:
        """Where it runs."""
        return threading.current_thread().name

    assert await answer(where, "{}") == "tool"


def test_annotated_arguments_bring_their_own_bounds():
    def take(n: Annotated[int, Field(ge=1, le=5, description="How many.")]) -> int:
        """Take some."""
        return n

    schema: Any = FunctionTool(take).spec.parameters
    assert schema["properties"]["n"] == {
        "description": "How many.",
        "maximum": 5,
        "minimum": 1,
        "type": "integer",
    }


def untyped(x) -> Any:
    """Something."""
    return x


def unknown(x: Nowhere) -> Any:  # type: ignore[name-defined] # noqa: F821 - the point
    """Something."""
    return x


def silent(x: int) -> int:
    return x


def many(*x: int) -> int:
    """Something."""
    return len(x)


def opaque(x: threading.Lock) -> str:
    """Something."""
    return str(x)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (untyped, "'x' has no type"),
        (unknown, "its types are not known: name 'Nowhere'"),
        (silent, "write a docstring"),
        (many, r"\*x: .* cannot be given by name"),
        (opaque, "no schema can be made of its types"),
        (lambda: 1, "tool '<lambda>': give a function, and a name"),
    ],
)
def test_what_no_model_could_call_is_refused_when_it_is_registered(function, says):
    with pytest.raises(ConfigurationError, match=says):
        FunctionTool(function)


def test_a_worker_registers_functions_as_they_are_and_each_name_once():
    worker = Worker()
    assert worker.tool(area) is area
    assert worker.tool(name="measure", timeout_ms=5)(area) is area
    with pytest.raises(ConfigurationError, match="there is a tool 'area' already"):
        worker.tool(area)
    with pytest.raises(ConfigurationError, match="timeout_ms is 0"):
        worker.tool(name="x", timeout_ms=0)(area)


def test_the_settings_name_functions_of_modules(tmp_path, monkeypatch):
    (tmp_path / "house_tools.py").write_text(
        'N = 1\ndef double(n: int) -> int:\n    """Twice as much."""\n    return 2 * n\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tool,) = declared_tools({"twice": "house_tools:double"})
    assert (tool.name, tool.spec.description) == ("twice", "Twice as much.")
    for place, says in [
        ("house_tools:N", "worker.tools.x: 'house_tools:N': it is no function"),
        ("house_tools:M", "cannot be imported: AttributeError"),
        ("no_house:M", "cannot be imported: ModuleNotFoundError: .*install it where the worker"),
    ]:
        with pytest.raises(ConfigurationError, match=says):
            declared_tools({"x": place})
    del sys.modules["house_tools"]
