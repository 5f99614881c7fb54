"""House rules that no linter knows; `rules.py` holds the limits and the reasoned exceptions."""

import re
import sys
from pathlib import Path

import pytest

from . import rules

PYTHON = rules.python_files()
OURS = rules.python_files("shared", "services")
TEXTS = rules.text_files()
THIS = rules.relative(Path(__file__))


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("path", PYTHON, ids=rules.relative)
def test_a_file_is_no_longer_than_its_limit_or_says_why(path: Path) -> None:
    assert _lines(path) <= rules.most_lines(path) or rules.relative(path) in rules.LONG_FILES


@pytest.mark.parametrize("name", rules.LONG_FILES)
def test_a_file_that_is_excused_for_its_length_is_still_long(name: str) -> None:
    assert _lines(rules.ROOT / name) > rules.most_lines(rules.ROOT / name)


@pytest.mark.parametrize("path", PYTHON, ids=rules.relative)
def test_a_function_fits_a_screen_or_says_why(path: Path) -> None:
    long = [
        f"{name} has {lines} lines"
        for name, lines in rules.functions(path)
        if lines > rules.MOST_FUNCTION_LINES
        and f"{rules.relative(path)}:{name}" not in rules.LONG_FUNCTIONS
    ]
    assert long == []


@pytest.mark.parametrize("path", PYTHON, ids=rules.relative)
def test_a_module_is_named_for_what_is_inside(path: Path) -> None:
    names = {path.stem, path.parent.name}
    assert not names & rules.EMPTY_NAMES


@pytest.mark.parametrize("path", OURS, ids=rules.relative)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    may = path.name == "settings.py"
    assert may or rules.environment_reads(path) == []


@pytest.mark.parametrize("path", rules.python_files("shared/atlas/contracts"), ids=rules.relative)
def test_the_contract_imports_pydantic_and_the_standard_library_only(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"pydantic"}
    foreign = {
        name
        for name in rules.imported_modules(path)
        if name.partition(".")[0] not in allowed and not name.startswith("atlas.contracts")
    }
    assert foreign == set()


def test_what_is_left_to_do_has_an_owner() -> None:
    unowned = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\([a-z0-9-]+\))")
    left = [name for name, text in TEXTS.items() if name != THIS and unowned.search(text)]
    assert left == []
