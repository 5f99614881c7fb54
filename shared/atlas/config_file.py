"""A configuration file as plain values, and one source of values over another."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from atlas.contracts.errors import ConfigurationError


def read(path: Path) -> dict[str, object]:
    """What a file says; nothing when there is none.

    Raises:
        ConfigurationError: It cannot be read, or is no YAML mapping; says where.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"{path}: {why}; give a readable file") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not YAML: {_in_one_line(error)}") from error
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise ConfigurationError(
            f"{path}: holds no settings; write each as `name: value`, such as `tenant: acme`"
        )
    return {str(name): value for name, value in said.items()}


def over(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """The values of one source over those of another, section by section."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        is_section = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = over(old, value) if is_section else value  # type: ignore[arg-type]
    return merged


def _in_one_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
