"""JSON Schema: whether a schema is one, and what an output lacks of it. Pure."""

from itertools import islice

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

_SHOWN = 5


def problems(output: object, schema: dict[str, object]) -> list[str]:
    """What is wrong with `output`, each with its path; empty when it satisfies `schema`."""
    found = Draft202012Validator(schema).iter_errors(output)
    return [f"{one.json_path}: {one.message[:200]}" for one in islice(found, _SHOWN)]


def schema_problem(schema: dict[str, object]) -> str | None:
    """Why `schema` is no JSON Schema, or None when it is one."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"{error.json_path}: {error.message[:200]}"
    return None
