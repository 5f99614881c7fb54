"""Tools that are Python functions: what the model is told of them, and their arguments checked.

The schema comes from the type hints, the description from the docstring: its summary is what the
tool does, its `Args:` what each argument means.
"""

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema

from atlas.contracts.errors import ConfigurationError
from atlas.contracts.inference import Tool
from atlas.worker.threads import Threads
from atlas.worker.tools import ToolArgumentsError, ToolContext, is_tool_name

_SHOWN = 5
_LONGEST_INPUT = 60
_NAMED_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _Untitled(GenerateJsonSchema):
    """A schema without titles: they repeat the names, and every one of them is paid as input."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as in the base
        """Never."""
        return False

    def generate(self, schema: CoreSchema, mode: Any = "validation") -> dict[str, Any]:
        """The schema, without the title of the whole."""
        made = super().generate(schema, mode)
        made.pop("title", None)
        return made


class FunctionTool:
    """A function that models may call.

    Args:
        function: Plain functions run in a thread, `async` ones in the worker's loop, which they
            must not block. A parameter of the type `ToolContext` gets what is known of the call,
            and no model sees it.
        name: As models call it; by default the function's.
        description: What it does; by default as its docstring says.
        timeout_ms: Of one call; by default `worker.tool_timeout_ms`.

    Raises:
        ConfigurationError: No model could use it; says why.
    """

    kind: Literal["function", "extension"] = "function"

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        name = name or str(getattr(function, "__name__", ""))
        if not callable(function) or not is_tool_name(name):
            raise ConfigurationError(
                f"tool {name!r}: give a function, and a name of 1 to 64 of the characters "
                "A-Z a-z 0-9 _ -"
            )
        if timeout_ms is not None and timeout_ms < 1:
            raise ConfigurationError(f"tool {name!r}: timeout_ms is {timeout_ms}; give 1 or more")
        told = docstring_parser.parse(inspect.getdoc(function) or "")
        description = description or told.description
        if not description:
            raise ConfigurationError(
                f"tool {name!r}: a model knows it by its description; write a docstring"
            )
        meanings = {one.arg_name: one.description for one in told.params}
        self._function = function
        self._signature = _Signature.of(name, function, meanings)
        self.timeout_ms = timeout_ms
        self.spec = Tool(
            name=name, description=description.strip(), parameters=self._signature.schema()
        )

    @property
    def name(self) -> str:
        """As models call it."""
        return self.spec.name

    async def call(self, arguments: str, context: ToolContext, threads: Threads) -> object:
        """What the function gives.

        Raises:
            ToolArgumentsError: The arguments are not what it takes; says which, and why.
            Exception: Whatever the function raises.
        """
        given = self._signature.read(arguments, context)
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**given)
        return await threads.run(self._function, given)


@dataclass(frozen=True, slots=True)
class _Signature:
    """The parameters of a function, as a model that checks them."""

    model: type[BaseModel]
    names: dict[str, str]
    """The model's fields, which have names of their own: a parameter may be called `json`."""
    context: str | None
    """The parameter that takes the `ToolContext`."""

    @classmethod
    def of(
        cls, name: str, function: Callable[..., object], meanings: dict[str, str | None]
    ) -> "_Signature":
        """Read it from the function.

        Raises:
            ConfigurationError: A model could not call it.
        """
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            parameters = inspect.signature(function).parameters
        except (NameError, TypeError, ValueError) as error:
            raise ConfigurationError(f"tool {name!r}: its types are not known: {error}") from error
        context, names, fields = None, {}, {}
        for place, (parameter, one) in enumerate(parameters.items()):
            if one.kind not in _NAMED_KINDS:
                raise ConfigurationError(
                    f"tool {name!r}: {one} cannot be given by name, as models do; name each "
                    "parameter"
                )
            if parameter not in hints:
                raise ConfigurationError(
                    f"tool {name!r}: {parameter!r} has no type, and models must know it; add one"
                )
            if hints[parameter] is ToolContext:
                context = parameter
                continue
            names[f"p{place}"] = parameter
            fields[f"p{place}"] = (hints[parameter], _field(one, meanings.get(parameter)))
        try:
            model = create_model(
                "Arguments", __config__=ConfigDict(extra="forbid"), **cast("dict[str, Any]", fields)
            )
            found = cls(model, names, context)
            found.schema()
        except PydanticUserError as error:
            raise ConfigurationError(
                f"tool {name!r}: no schema can be made of its types: {error.message}; use types "
                "that JSON can say"
            ) from error
        return found

    def schema(self) -> dict[str, object]:
        """The JSON Schema of the arguments."""
        return self.model.model_json_schema(schema_generator=_Untitled)

    def read(self, arguments: str, context: ToolContext) -> dict[str, object]:
        """The arguments by their names.

        Raises:
            ToolArgumentsError: They are not what the function takes.
        """
        try:
            read = self.model.model_validate_json(arguments.strip() or "{}")
        except ValidationError as error:
            raise ToolArgumentsError(_in_words(error)) from error
        given = {
            parameter: getattr(read, field)
            for field, parameter in self.names.items()
            if field in read.model_fields_set
        }
        return given if self.context is None else {**given, self.context: context}


def _field(parameter: inspect.Parameter, meaning: str | None) -> FieldInfo:
    is_required = parameter.default is inspect.Parameter.empty
    # What the docstring does not say stays as the type itself says it.
    told: dict[str, Any] = {} if meaning is None else {"description": meaning}
    default = ... if is_required else parameter.default
    return cast("FieldInfo", Field(default, alias=parameter.name, **told))


def _in_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False)[:_SHOWN]:
        where = ".".join(str(part) for part in problem["loc"])
        given = repr(problem["input"])
        is_short = problem["type"] != "missing" and len(given) <= _LONGEST_INPUT
        shown = f", not {given}" if where and is_short else ""
        lines.append(f"{where}: {problem['msg']}{shown}" if where else problem["msg"])
    return "the arguments do not fit: " + "; ".join(lines)


def declared_tools(places: Mapping[str, str]) -> list[FunctionTool]:
    """The tools that the settings declare as `module:function`.

    Raises:
        ConfigurationError: One is not to be found, or no model could use it.
    """
    return [_declared(name, place) for name, place in places.items()]


def _declared(name: str, place: str) -> FunctionTool:
    where = f"worker.tools.{name}: {place!r}"
    module, _, function = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever somebody's module does when it is imported
        raise ConfigurationError(
            f"{where}: it cannot be imported: {type(error).__name__}: {error}; install it where "
            "the worker runs, or set PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{where}: it is no function")
    return FunctionTool(found, name=name)
