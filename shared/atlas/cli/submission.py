"""What `atlas task run|submit` was given, read from options and files."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from atlas.cli.options import PATTERNS
from atlas.client import Atlas, Task
from atlas.contracts.errors import InvalidRequestError
from atlas.spelling import nearest

MAX_INPUT_BYTES = 512 * 1024
"""All input files together: a task stands in one NATS message, of 1 MiB by default."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The options of a task, as they were typed."""

    goal: str
    inputs: tuple[Path, ...] = ()
    pattern: str | None = None
    options: tuple[str, ...] = ()
    plan: Path | None = None
    on_failure: str | None = None
    quorum: int | None = None
    max_parallel: int | None = None
    max_replans: int | None = None
    priority: str | None = None
    approval: str | None = None
    approval_expires_ms: int | None = None
    max_usd: float | None = None
    max_tokens: int | None = None
    task_id: str | None = None

    def check(self, own: Collection[str] = ()) -> None:
        """Refuse what no controller would take, before anything is asked or started.

        Args:
            own: The patterns that the settings declare; others may know more.

        Raises:
            InvalidRequestError: Says which option, and what to give.
        """
        if not self.goal.strip():
            raise InvalidRequestError("--goal: it is blank; say what is to be reached")
        known = {*PATTERNS, *own}
        if self.pattern is not None and self.pattern not in known:
            near = nearest(self.pattern, sorted(known))
            if near is not None:
                raise InvalidRequestError(f"--pattern {self.pattern}: did you mean {near!r}?")
        read_options(self.options)

    async def send(self, atlas: Atlas, inputs: dict[str, object] | None) -> Task:
        """Submit it.

        Raises:
            InvalidRequestError: An option makes no sense; names every problem.
        """
        budget = {"max_usd": self.max_usd, "max_tokens": self.max_tokens}
        given = {name: value for name, value in budget.items() if value is not None}
        return await atlas.submit(
            self.goal,
            inputs=inputs,
            pattern=self.pattern,
            pattern_options=read_options(self.options),
            plan=read_plan(self.plan) if self.plan is not None else None,
            task_id=self.task_id,
            on_failure=self.on_failure or ("quorum" if self.quorum is not None else None),
            quorum=self.quorum,
            max_parallel=self.max_parallel,
            max_replans=self.max_replans,
            priority=self.priority,
            approval=self.approval,
            approval_expires_ms=self.approval_expires_ms,
            budget=given or None,
        )


def read_options(options: Sequence[str]) -> dict[str, object] | None:
    """What `--option` gave, each value as YAML reads it: `rounds=3`, `stages=[translate, shorten]`.

    Raises:
        InvalidRequestError: One is no `NAME=VALUE`, or stands there twice.
    """
    values: dict[str, object] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not (name and equals):
            raise InvalidRequestError(f"--option {option}: give NAME=VALUE, such as rounds=3")
        if name in values:
            raise InvalidRequestError(f"--option {option}: {name!r} was given already")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidRequestError(
                f"--option {option}: the value is no YAML: {error}"
            ) from error
    return values or None


def read_inputs(paths: tuple[Path, ...]) -> dict[str, object] | None:
    """The texts of files by their names; None when there are none.

    Raises:
        InvalidRequestError: A file is missing, no text, or too large; says what to do.
    """
    texts: dict[str, object] = {}
    size_bytes = 0
    for path in paths:
        if path.name in texts:
            raise InvalidRequestError(
                f"--input {path}: another input is called {path.name!r} too; rename one of them"
            )
        data = _read(path, "--input")
        size_bytes += len(data)
        if size_bytes > MAX_INPUT_BYTES:
            raise InvalidRequestError(
                f"--input {path}: with it the inputs have {size_bytes:,} bytes, and a task takes "
                f"{MAX_INPUT_BYTES:,}; give the part that matters, or split the task"
            )
        texts[path.name] = _text(path, data)
    return texts or None


def read_plan(path: Path) -> list[object]:
    """A plan from a JSON or YAML file: a list of subtasks, or a mapping with the list as `plan`.

    Raises:
        InvalidRequestError: It cannot be read; says why.
    """
    data = _read(path, "--plan")
    try:
        plan = yaml.safe_load(data)  # YAML contains JSON
    except yaml.YAMLError as error:
        raise InvalidRequestError(f"--plan {path}: neither JSON nor YAML: {error}") from error
    if isinstance(plan, dict) and plan.keys() == {"plan"}:
        plan = plan["plan"]
    if not isinstance(plan, list):
        raise InvalidRequestError(
            f"--plan {path}: a plan is a list of subtasks, each with id, capability, instruction"
        )
    return plan


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(
            f"{option} {path}: {error.strerror}; give the path of a readable file"
        ) from error


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _binary(path) from error
    if "\0" in text:
        raise _binary(path)
    return text


def _binary(path: Path) -> InvalidRequestError:
    return InvalidRequestError(
        f"--input {path}: not a text file in UTF-8; convert it to text first "
        "(such as `pdftotext` for a PDF)"
    )
