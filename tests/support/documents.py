"""Code that stands in documents, for tests that run it."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def reader_of_streams() -> str:
    """The reader in `docs/streams.md`."""
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "streams.md").read_text(), re.DOTALL)
    return str(block)
