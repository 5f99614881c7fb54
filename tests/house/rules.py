"""What the house rules look at, and the exceptions that somebody gave a reason for."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

MOST_LINES = 400
"""About as much as a reader holds in mind; beyond it there is a seam to look for."""
MOST_TEST_LINES = 600
"""A file of tests is a list of claims, read one by one, so it may be longer."""
MOST_FUNCTION_LINES = 70
"""A function fits a screen."""

LONG_FILES: dict[str, str] = {
    "shared/atlas/contracts/errors.py": "one tree, drawn at its top and read as one",
    "shared/atlas/contracts/inference.py": "one vocabulary, read as one: requests and answers",
}
"""Files above the limit, each with its reason. Shorter is better than longer."""
LONG_FUNCTIONS: dict[str, str] = {}
"""Functions above the limit, as `path:name`, each with its reason."""

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
"""Names of modules that say nothing about what is inside."""


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that is committed or about to be: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = sorted({ROOT / name for name in listed.stdout.split("\0") if name})
    return tuple(path for path in paths if path.is_file())


def python_files(*folders: str) -> list[Path]:
    """The Python files of the repository, or of some of its folders."""
    inside = tuple(ROOT / folder for folder in folders) or (ROOT,)
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py" and any(path.is_relative_to(folder) for folder in inside)
    ]


def text_files() -> dict[str, str]:
    """Every text file with its content, by its path in the repository."""
    texts = {}
    for path in tracked_files():
        try:
            texts[relative(path)] = path.read_text()
        except UnicodeDecodeError:
            continue  # not text
    return texts


def most_lines(path: Path) -> int:
    """How many lines a file may have."""
    return MOST_TEST_LINES if path.is_relative_to(ROOT / "tests") else MOST_LINES


def relative(path: Path) -> str:
    """The path as the repository spells it."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file with their length in lines, decorators left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def imported_modules(path: Path) -> set[str]:
    """The top-level names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def environment_reads(path: Path) -> list[int]:
    """The lines on which a file touches the process's environment."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and node.attr in {"environ", "environb", "getenv", "putenv"}
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and any(alias.name in {"environ", "getenv"} for alias in node.names)
        )
    ]
