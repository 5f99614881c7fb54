"""Code that stands in documents, for tests that run it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_PAGES = (ROOT / "README.md", *(DOCS / f"{name}.md" for name in ("providers", "plans", "workers")))


def blocks(language: str) -> list[str]:
    """What stands in the README and in the pages that go on from it, in this language."""
    pages = "".join(page.read_text() for page in _PAGES)
    return re.findall(rf"```{language}\n(.*?)```", pages, re.DOTALL)


def reader_of(page: str) -> str:
    """The reader in `docs/streams.md` or `docs/tasks.md`."""
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return str(block)
