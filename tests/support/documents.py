"""Code that stands in documents, for tests that run it."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def reader_of(page: str) -> str:
    """The reader in `docs/streams.md` or `docs/tasks.md`."""
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return str(block)
