"""What is wrong with a configuration, in words: where it stands, and what to write. Pure.

For `settings`, which reads file and environment.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from atlas.spelling import known_names, models_in, nearest

PREFIX = "ATLAS_"
CONFIG_VARIABLE = "ATLAS_CONFIG"
"""Names the file; the one variable with the prefix that is no setting."""

_NESTED = "__"
_CLOSE = 0.7
"""Short names resemble each other by chance: `ROOT` and `ROUTER` are 0.6 alike."""
_SERVICE_LINK = re.compile(
    r"\w+(_SERVICE_(HOST|PORT\w*)=|_PORT(_\d+_(TCP|UDP|SCTP)\w*=|=(tcp|udp|sctp)://))"
)
"""What Kubernetes sets in every container of a namespace with a service called `atlas…`."""
_LONGEST_SHOWN = 40
_MANY_NAMES = 9
"""Of more names than these only the nearest is told."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings come from."""

    file: Path | None
    """None: there is none."""
    variables: frozenset[str]
    """The names of all that are set, in capitals."""

    def place(self, loc: tuple[int | str, ...]) -> str:
        """Where a value stands: its variable, or the file and the key in it."""
        parts = [str(part) for part in loc if part != "[key]"]
        variable = variable_of(parts)
        if variable in self.variables or self.file is None:
            return variable
        above = (variable_of(parts[:end]) for end in range(len(parts) - 1, 0, -1))
        whole = next((f" or {name}" for name in above if name in self.variables), "")
        return f"{self.file}{whole}: {'.'.join(parts)}"

    def is_variable(self, loc: tuple[int | str, ...]) -> bool:
        """Whether a value was given in the variable of its own name."""
        return variable_of([str(part) for part in loc]) in self.variables


def variable_of(parts: list[str]) -> str:
    """The variable of a setting."""
    return PREFIX + _NESTED.join(parts).upper()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variable with our prefix that is no setting."""

    variable: str
    nearest: str | None
    is_ours: bool
    """Whether it must be meant for us: it resembles a setting, or stands under a section."""

    def __str__(self) -> str:
        meant = f"did you mean {self.nearest}?" if self.nearest else "remove it"
        return f"{self.variable}: unknown setting; {meant}"


def unknown_variables(model: type[BaseModel], environment: Mapping[str, str]) -> list[Unknown]:
    """Every variable that looks like a setting of `model` and is none."""
    found = []
    for name, value in sorted(environment.items()):
        variable = name.upper()
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        parts = variable.removeprefix(PREFIX).lower().split(_NESTED)
        if _is_setting(model, parts) or _SERVICE_LINK.match(f"{variable}={value}"):
            continue
        near = nearest(
            variable.removeprefix(PREFIX),
            [one.removeprefix(PREFIX) for one in _variables(model, parts)],
            _CLOSE,
        )
        is_ours = near is not None or (len(parts) > 1 and parts[0] in model.model_fields)
        found.append(Unknown(name, PREFIX + near if near else None, is_ours))
    return found


def of_values(
    error: ValidationError, model: type[BaseModel], origin: Origin, told: list[Unknown]
) -> list[str]:
    """A line for every value that is refused, but for what was told of unknown variables."""
    lines = []
    for problem in error.errors(include_url=False):
        variable = variable_of([str(part) for part in problem["loc"]])
        if any(f"{one.variable.upper()}{_NESTED}".startswith(variable + _NESTED) for one in told):
            continue
        words = _in_words(problem, model, is_variable=origin.is_variable(problem["loc"]))
        lines.append(f"{origin.place(problem['loc'])}: {words}")
    return lines


type Named = tuple[tuple[int | str, ...], object]
"""Where a model is named, and what was given there, whatever it is."""


def of_names(said: Mapping[str, object], vendors: Iterable[str], origin: Origin) -> list[str]:
    """A line for every model and group whose name cannot be right.

    Looked at before the values are checked, so that it is told with all other problems.

    Args:
        said: What file and environment say, whatever it is.
        vendors: Providers that there may be without being declared.
        origin: Where the settings come from.
    """
    declared = {
        str(name): [_name_in(one, "name") for one in _list(_mapping(provider).get("models"))]
        for name, provider in _mapping(said.get("providers")).items()
    }
    groups = _mapping(said.get("groups"))
    named: list[Named] = [
        (("router", "default_model"), _mapping(said.get("router")).get("default_model"))
    ]
    for name, group in groups.items():
        named += [
            (("groups", name, "members", place), _name_in(member, "model"))
            for place, member in enumerate(_list(_mapping(group).get("members")))
        ]
    owners = {model: provider for provider, models in declared.items() for model in models}
    twofold = [
        f"{origin.place(('groups', name))}: provider {owners[name]} has a model of that name too, "
        "so it would mean two things; give the group another name"
        for name in groups
        if name in owners
    ]
    return of_models(named, {**dict.fromkeys(vendors, ()), **declared}, {}, origin) + twofold


def of_tools(said: Mapping[str, object], origin: Origin) -> list[str]:
    """A line for every tool that is granted to a specialisation and that is declared nowhere.

    Looked at like `of_names`. Which tools a server has it tells when it runs.
    """
    worker = _mapping(said.get("worker"))
    functions = [str(one) for one in _mapping(worker.get("tools"))]
    servers = [f"{one}__*" for one in _mapping(worker.get("mcp"))]
    known = functions + servers
    found = [
        f"{origin.place(('worker', 'tools', one))}: the tools of the MCP server "
        f"{other.removesuffix('__*')!r} are called so; give this one another name"
        for one in functions
        for other in servers
        if _overlap(one, other)
    ]
    for name, specialisation in _mapping(worker.get("specialisations")).items():
        for place, one in enumerate(_list(_mapping(specialisation).get("tools"))):
            is_pattern = isinstance(one, str) and "*" not in one[:-1]
            if is_pattern and not any(_overlap(str(one), other) for other in known):
                near = nearest(str(one), known)
                meant = f"did you mean {near!r}?" if near else "declare it under worker.tools"
                where = origin.place(("worker", "specialisations", name, "tools", place))
                found.append(f"{where}: there is no tool {one!r}; {meant}")
    return found


def _overlap(one: str, other: str) -> bool:
    """Whether two names, or beginnings of names with a `*`, may mean the same tool."""
    if one.endswith("*"):
        return other.startswith(one[:-1]) or (
            other.endswith("*") and one[:-1].startswith(other[:-1])
        )
    return one.startswith(other[:-1]) if other.endswith("*") else one == other


def of_models(
    named: Iterable[Named],
    providers: Mapping[str, Collection[str]],
    keys: Mapping[str, str],
    origin: Origin,
) -> list[str]:
    """A line for every model that is named and that nobody can serve; see `of_model`."""
    found = [of_model(name, loc, providers, keys, origin) for loc, name in named]
    return [problem for problem in found if problem is not None]


def of_model(
    name: object,
    loc: tuple[int | str, ...],
    providers: Mapping[str, Collection[str]],
    keys: Mapping[str, str],
    origin: Origin,
) -> str | None:
    """Why nobody can serve a model that a setting names; None when somebody may.

    A name without a provider is the router's to know.

    Args:
        name: What was given, whatever it is.
        loc: Where it was given.
        providers: The configured providers, with the models that the configuration names.
        keys: The variable that brings a provider in that is not configured.
        origin: Where the settings come from.
    """
    if not isinstance(name, str) or any(name in models for models in providers.values()):
        return None
    provider, slash, model = name.partition("/")
    if not slash or (model and provider in providers):
        return None
    where = origin.place(loc)
    if provider in providers:
        return f"{where}: {name!r} names no model; write one after the slash"
    others = f"name a model of {', '.join(providers)}"
    if provider in keys:
        return (
            f"{where}: {name!r} is served by {provider}, which is not configured; "
            f"set {keys[provider]}, or {others}"
        )
    near = nearest(provider, [*providers, *keys])
    meant = (
        f"did you mean '{near}/{model}'?" if near else f"declare it under providers, or {others}"
    )
    return f"{where}: there is no provider {provider!r}; {meant}"


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _name_in(value: object, key: str) -> str:
    return str(value if isinstance(value, str) else _mapping(value).get(key, ""))


def _in_words(  # noqa: PLR0911 - a line for each kind of problem
    problem: ErrorDetails, model: type[BaseModel], *, is_variable: bool
) -> str:
    given, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            near = nearest(str(problem["loc"][-1]), known_names(model, problem["loc"][:-1]))
            return (
                f"unknown setting; did you mean {near!r}?"
                if near
                else ("unknown setting; remove it")
            )
        case "missing":
            return "is missing; set it"
        case "list_type":
            example = 'a JSON list, such as ["a", "b"]' if is_variable else "a list, such as [a, b]"
            return f"give {example}{_not(given)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            example = 'a JSON object, such as {"name": 1}' if is_variable else "`name: value` pairs"
            return f"give {example}{_not(given)}"
        case "literal_error" | "enum":
            return _one_of(context["expected"], given)
        case "greater_than":
            return f"give a number above {context['gt']:g}{_not(given)}"
        case "greater_than_equal":
            return f"give a number from {context['ge']:g} on{_not(given)}"
        case "less_than_equal":
            return f"give a number up to {context['le']:g}{_not(given)}"
        case type_:
            if (wanted := _WANTED.get(type_)) is not None:
                return f"give {wanted}{_not(given)}"
            return problem["msg"].removeprefix("Value error, ")


def _one_of(expected: str, given: object) -> str:
    names = re.findall(r"'([^']+)'", expected)
    near = nearest(str(given).lower(), names)
    if near and len(names) > _MANY_NAMES:
        return f"there is no {given!r}; did you mean {near!r}?"
    meant = f"; did you mean {near!r}?" if near else ""
    return f"give {expected}{_not(given)}{meant}"


_WANTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text, in quotes",
    "path_type": "a path",
}


def _not(given: object) -> str:
    if given is None:
        return ", or remove it"
    if isinstance(given, dict | list):
        return ""
    shown = repr(given)
    return f", not {shown}" if len(shown) <= _LONGEST_SHOWN else ""


def _is_setting(annotation: Any, parts: list[str]) -> bool:
    """Whether a variable's parts lead to something that can be set."""
    if not parts:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(parts[0])
        return field is not None and _is_setting(field.annotation, parts[1:])
    if (alias := getattr(annotation, "__value__", None)) is not None:
        return _is_setting(alias, parts)
    inside = get_args(annotation)
    if getattr(annotation, "__origin__", None) is dict:  # any key, then what the value takes
        return inside[-1] is object or _is_setting(inside[-1], parts[1:])
    return any(_is_setting(one, parts) for one in inside)


def _variables(model: type[BaseModel], typed: list[str]) -> Iterator[str]:
    """What a misspelt variable may have meant: every setting, and whole sections if it was flat.

    Where any key may stand, it is the one that was typed.
    """
    yield CONFIG_VARIABLE
    key = typed[1] if len(typed) > 2 else "name"  # noqa: PLR2004 - section, key, setting
    yield from _under(model, [], key, sections=len(typed) == 1)


def _under(model: type[BaseModel], above: list[str], key: str, *, sections: bool) -> Iterator[str]:
    for name, field in model.model_fields.items():
        parts = [*above, name]
        inside = models_in(field.annotation)
        if sections or not inside:
            yield variable_of(parts)
        is_keyed = getattr(field.annotation, "__origin__", None) is dict
        for inner in inside:
            yield from _under(inner, [*parts, key] if is_keyed else parts, key, sections=sections)
