"""Writes docs/contract.md, docs/asyncapi.json and docs/schemas from the models: `make contract`.

The prose stands in docs/contract.template.md; `{{…}}` there asks for a table. Which models are told
where is the template's choice, and what it does not mention follows at the end, so no model is ever
left out.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from atlas import subjects
from atlas.contracts.base import ATLAS_VERSION
from docs import contract_tables as tables
from docs.asyncapi import document
from docs.contract_subjects import internal_subjects, public_subjects

DOCS = Path(__file__).parent
TEMPLATE = DOCS / "contract.template.md"
CONTRACT = DOCS / "contract.md"
ASYNCAPI = DOCS / "asyncapi.json"
SCHEMAS = DOCS / "schemas"


def contract() -> str:
    """The whole page."""
    template = TEMPLATE.read_text()
    told = set(re.findall(r"\{\{model (\w+)\}\}", template)) | set(tables.member_names("Part"))
    parts = "\n\n".join(tables.model_section(name) for name in tables.member_names("Part"))
    fill: dict[str, Callable[[str], str]] = {
        "model": tables.model_section,
        "events": tables.event_table,
        "subjects": lambda which: tables.subject_table(
            public_subjects() if which == "public" else internal_subjects()
        ),
        "errors": lambda _: tables.error_table(),
        "needs": lambda _: tables.needs_table(),
        "parts": lambda _: parts,
        "rest": lambda _: _rest(told),
        "version": lambda _: str(ATLAS_VERSION),
        "objects": lambda _: subjects.OBJECTS,
        "work": lambda _: subjects.WORK,
        "work_filter": lambda _: subjects.capability_work("{capability}", "{priority}"),
    }
    page = re.sub(r"\{\{(\w+) ?(\w*)\}\}", lambda asked: fill[asked[1]](asked[2]), template)
    return page.rstrip() + "\n"


def _rest(told: set[str]) -> str:
    """Every model that the template does not place, and every enumeration."""
    of_union = {
        name: common
        for union, common in tables.TOLD_BY_UNION.items()
        for name in tables.member_names(union)
    }
    models = [
        tables.model_section(name, of_union.get(name, ()))
        for name in tables.public_models()
        if name not in told
    ]
    return "\n\n".join([*models, *tables.enum_sections()])


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    return {CONTRACT: contract(), ASYNCAPI: _json(document())} | {
        SCHEMAS / f"{name}.json": _json(schema) for name, schema in tables.schemas().items()
    }


def _json(value: dict[str, object]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them, and remove schemas whose model is gone."""
    SCHEMAS.mkdir(exist_ok=True)
    wanted = files()
    for path in SCHEMAS.glob("*.json"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        path.write_text(text)
    sys.stdout.write(f"docs: wrote {len(wanted)} files\n")


if __name__ == "__main__":
    main()
