"""How the contract's models are told in Markdown: tables, links, and their JSON Schemas.

Nothing here knows a model by name but for what the contract itself sets apart.
"""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from types import ModuleType
from typing import Any, get_args

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

import atlas.contracts
from atlas.contracts.base import Contract, Unknown, UserInput
from atlas.contracts.errors import AtlasError
from atlas.contracts.inference import TASK_NEEDS, Part
from atlas.contracts.streams import KnownStreamEvent
from atlas.contracts.task_events import KnownTaskEvent
from atlas.contracts.work import SubtaskReport, SubtaskResult
from docs.contract_subjects import SubjectRow

type JsonSchema = dict[str, object]

UNIONS: dict[str, Any] = {
    "Part": Part.__value__,
    "StreamEvent": KnownStreamEvent,
    "TaskEvent": KnownTaskEvent,
}
TOLD_BY_UNION = {
    "StreamEvent": ("stream_id", "seq", "epoch", "at_ms", "type"),
    "TaskEvent": ("task_id", "version", "at_ms", "type", "subtask_id"),
}
"""What every member of a union of events has, told once."""
_ANYONE_SENDS: tuple[type[Contract], ...] = (UserInput, SubtaskReport, SubtaskResult)
"""Models in whose tables "required" speaks to a sender."""


class _Schema(GenerateJsonSchema):
    """JSON Schema without titles that repeat a field's name; a tag such as `type` is required."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - an override
        """Never."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """A tag tells the members of a union apart, so it stands in every one of them."""
        made = super().model_schema(schema)
        tag = made.get("properties", {}).get("type", {})
        if "const" in tag:
            tag.pop("default", None)
            made["required"] = ["type", *(one for one in made.get("required", ()) if one != "type")]
        return made


def public_models() -> dict[str, type[Contract]]:
    """Every public model by name, in the order of its module; no bases, and nothing unknown."""
    return {
        name: member
        for module in _modules()
        for name, member in vars(module).items()
        if inspect.isclass(member)
        and issubclass(member, Contract)
        and member not in (Contract, UserInput)
        and not issubclass(member, Unknown)
        and member.__module__ == module.__name__
        and not name.startswith("_")
    }


def schemas() -> dict[str, JsonSchema]:
    """The JSON Schema of every public model and of the unions, by name."""
    adapters: dict[str, TypeAdapter[Any]] = {
        name: TypeAdapter(found) for name, found in (public_models() | UNIONS).items()
    }
    return {
        name: {"$schema": _Schema.schema_dialect, "$id": f"{name}.json"}
        | adapter.json_schema(schema_generator=_Schema)
        for name, adapter in adapters.items()
    }


def _modules() -> list[ModuleType]:
    order = ["inference", "flow", "streams", "tasks", "events", "errors"]
    found = [module.name for module in pkgutil.iter_modules(atlas.contracts.__path__)]
    names = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    return [importlib.import_module(f"{atlas.contracts.__name__}.{name}") for name in names]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def subject_table(rows: list[SubjectRow]) -> str:
    """Subjects as a table, payloads linked to their models."""
    return table(
        ("subject", "who → whom", "payload", "kept in"),
        [
            (f"`{one}`", who, _linked(what), f"`{kept}`" if kept.isupper() else kept)
            for one, who, what, kept in rows
        ],
    )


def model_section(name: str, left_out: tuple[str, ...] = ()) -> str:
    """A heading, the docstring, and a row for each field that its base does not have."""
    model = public_models()[name]
    base = model.__base__
    inherited = ""
    if base is not None and base.__name__ in public_models() and issubclass(base, Contract):
        left_out = (*left_out, *base.model_fields)
        inherited = _linked(f"Every field of `{base.__name__}`, and:\n\n")
    rows = _field_rows(model, left_out)
    third = "required" if issubclass(model, _ANYONE_SENDS) else "always there"
    fields = table(("field", "type", third, "meaning"), rows) if rows else "No further fields."
    told = _linked(inspect.cleandoc(model.__doc__ or ""))
    return f"#### {name}\n\n{told} ([schema](schemas/{name}.json))\n\n{inherited}{fields}"


def event_table(union: str) -> str:
    """The members of a union of events: type, what it carries, what it means."""
    rows = []
    for name in member_names(union):
        model = public_models()[name]
        carries = [f for f in model.model_fields if f not in TOLD_BY_UNION[union]]
        rows.append(
            (
                f"[`{model.model_fields['type'].default}`](#{name.lower()})",
                ", ".join(f"`{field}`" for field in carries),
                _one_line(model.__doc__ or ""),
            )
        )
    return table(("type", "carries", "meaning"), rows)


def member_names(union: str) -> list[str]:
    """The models that a union tells apart by `type`."""
    return [member.__name__ for member in get_args(get_args(UNIONS[union])[0])]


def error_table() -> str:
    """Every code with its category and meaning."""

    def family(root: type[AtlasError]) -> Iterator[type[AtlasError]]:
        yield root
        for child in root.__subclasses__():
            yield from family(child)

    rows = [
        (
            f"`{one.code}`",
            str(one.category),
            str(one.severity),
            "yes" if one.retryable else "no",
            _one_line(one.__doc__ or "")
            if one is not AtlasError
            else "Something failed inside Atlas that has no better name.",
        )
        for one in family(AtlasError)
        if one.__module__ == AtlasError.__module__
    ]
    return table(("code", "category", "severity", "retryable", "meaning"), rows)


def needs_table() -> str:
    """What each task type needs of a model."""
    return table(
        ("task type", "needs at least"),
        [
            (f"`{kind}`", ", ".join(f"{what} {level}" for what, level in needs.items()))
            for kind, needs in TASK_NEEDS.items()
        ],
    )


def _field_rows(
    model: type[Contract], left_out: tuple[str, ...]
) -> list[tuple[str, str, str, str]]:
    whole = model.model_json_schema(schema_generator=_Schema)
    is_sent_by_anyone = issubclass(model, _ANYONE_SENDS)
    rows = []
    for name, field in model.model_fields.items():
        if name in left_out:
            continue
        schema = whole["properties"][name]
        is_marked = name in whole.get("required", ()) or (
            not is_sent_by_anyone and field.default is not None
        )
        meaning = _meaning(schema, whole, shows_default=is_sent_by_anyone)
        rows.append((f"`{name}`", _type(schema), "yes" if is_marked else "", meaning))
    return rows


def _type(schema: JsonSchema) -> str:  # noqa: PLR0911 - one line for each kind of schema
    """A JSON Schema in a few words, models linked."""
    match schema:
        case {"$ref": str(ref)}:
            return _type_of_definition(ref.rsplit("/", 1)[-1])
        case {"const": constant}:
            return f'`"{constant}"`'
        case {"enum": list(values)}:
            return " \\| ".join(f'`"{value}"`' for value in values)
        case {"oneOf": list(members)} | {"anyOf": list(members)}:
            return " or ".join(_type(one) for one in members if one.get("type") != "null")
        case {"type": "array", "items": dict(items)}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {_type(values)}"
        case _:
            return str(schema.get("type", "any JSON"))


def _type_of_definition(name: str) -> str:
    if name in public_models():
        return f"[{name}](#{name.lower()})"
    if name in TOLD_BY_UNION:
        return f"[{name}](schemas/{name}.json)"
    if name == "Part":
        return "Part"
    for module in _modules():
        member = getattr(module, name, None)
        if inspect.isclass(member) and issubclass(member, StrEnum):
            return f"[{name}](#{name.lower()})"
        if alias := getattr(member, "__value__", None):
            inner = TypeAdapter(alias).json_schema(schema_generator=_Schema)
            return _type(inner)
    return name


def _meaning(schema: JsonSchema, whole: JsonSchema, *, shows_default: bool) -> str:
    told = [_described(schema, whole) or ""]
    default = schema.get("default")
    if shows_default and default is not None and not isinstance(default, dict | list):
        told.append(f"Default `{json.dumps(default, ensure_ascii=False)}`.")
    if shows_default:
        told.append(_bounds(schema))
    return _linked(" ".join(part for part in told if part)).replace("\n", " ")


def _described(schema: JsonSchema, whole: JsonSchema) -> str | None:
    """The description of a field, its own or that of its type where that is no model."""
    if isinstance(found := schema.get("description"), str):
        return found
    if isinstance(ref := schema.get("$ref"), str):
        name = ref.rsplit("/", 1)[-1]
        definitions = whole.get("$defs")
        if isinstance(definitions, dict) and name not in public_models():
            definition = definitions.get(name, {})
            return None if "enum" in definition else definition.get("description")
    if isinstance(choices := schema.get("anyOf"), list):
        for member in choices:
            if inner := _described(member, whole):
                return inner
    return None


def _bounds(schema: JsonSchema) -> str:
    """The limits of a number, a text or a list in words, where there are any."""
    members = [schema]
    if isinstance(choices := schema.get("anyOf"), list):
        members += choices
    told = [words for member in members for words in _bounds_of(member)]
    return f"{', '.join(told)[:1].upper()}{', '.join(told)[1:]}." if told else ""


def _bounds_of(member: JsonSchema) -> Iterator[str]:
    least, most = member.get("minimum"), member.get("maximum")
    if least is not None and most is not None:
        yield f"{least} to {most}"
    elif least:
        yield f"at least {least}"
    elif most is not None:
        yield f"at most {most}"
    if "exclusiveMinimum" in member:
        yield f"above {member['exclusiveMinimum']}"
    if member.get("minLength") or member.get("minItems"):
        yield "not empty"
    if "maxLength" in member:
        yield f"at most {member['maxLength']} characters"
    if "maxItems" in member:
        yield f"at most {member['maxItems']} entries"


def _one_line(docstring: str) -> str:
    return _linked(" ".join(inspect.cleandoc(docstring).split()))


def _linked(text: str) -> str:
    """Names of models in backticks become links."""
    known = public_models()

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name in known:
            return f"[`{name}`](#{name.lower()})"
        if name in TOLD_BY_UNION:
            return f"[`{name}`](schemas/{name}.json)"
        return match[0]

    return re.sub(r"(?<!\[)`(\w+)`", link, text)


def enum_sections() -> list[str]:
    """Every enumeration: a heading, the docstring, and its values."""
    return [
        f"#### {member.__name__}\n\n{_linked(inspect.cleandoc(member.__doc__ or ''))} "
        f"One of: {', '.join(f'`{value}`' for value in member)}."
        for module in _modules()
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, StrEnum)
        and member.__module__ == module.__name__
    ]
