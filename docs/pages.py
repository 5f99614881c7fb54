"""Renders the documents and the AsyncAPI document as pages for a browser: `make docs`."""

import html
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from docs.contract_tables import UNIONS

DOCS = Path(__file__).parent
BUILD = DOCS / "build"

_STYLE = """
body{margin:0;font:16px/1.55 system-ui,sans-serif;color:#1b1f24;display:flex}
nav{flex:0 0 13rem;padding:1.5rem 1rem;background:#f3f6f8;min-height:100vh;box-sizing:border-box}
nav a{display:block;padding:.15rem 0;color:#2a6f97;text-decoration:none}
main{flex:1;min-width:0;max-width:62rem;padding:1rem 2.5rem 4rem}
h1,h2,h3,h4{line-height:1.25}
code{background:#eef2f5;padding:.1em .3em;border-radius:3px;font-size:.9em}
pre{background:#f3f6f8;padding:.8rem 1rem;overflow-x:auto;border-radius:4px}
pre code{background:none;padding:0}
table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{border:1px solid #d5dde3;padding:.3rem .6rem;text-align:left;vertical-align:top}
img{max-width:100%}
.send{color:#1b7f4b}.receive{color:#2a6f97}
"""


def pages() -> dict[str, str]:
    """Every page by its file name."""
    root = DOCS.parent
    documents = [root / "README.md", root / "CHANGELOG.md", root / "ARCHITECTURE.md"]
    documents += [root / "benchmarks/README.md", *sorted(DOCS.glob("*.md"))]
    documents += sorted((DOCS / "decisions").glob("*.md"))
    documents = [one for one in documents if not one.name.endswith(".template.md")]
    names = {path.relative_to(root).as_posix(): _page_name(path, root) for path in documents}
    links = [(names[one], _title(root / one)) for one in names if "decisions" not in one]
    links.append(("asyncapi.html", "Subjects (AsyncAPI)"))
    shown = {
        names[path.relative_to(root).as_posix()]: _page(
            _title(path), _body(path, root, names), links
        )
        for path in documents
    }
    asyncapi = json.loads((DOCS / "asyncapi.json").read_text())
    return {**shown, "asyncapi.html": _page("Subjects", _channels(asyncapi), links)}


def _page_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    name = "-".join(one for one in parts if one != "docs").lower()
    return "index.html" if name == "readme" else f"{name}.html"


def _title(path: Path) -> str:
    found = re.search(r"^# (.+)$", path.read_text(), re.MULTILINE)
    return found[1] if found else path.stem


def _body(path: Path, root: Path, names: dict[str, str]) -> str:
    """A document as HTML: headings have anchors, links between documents lead to pages."""
    rendered = MarkdownIt("commonmark").enable("table").render(path.read_text())

    def heading(found: re.Match[str]) -> str:
        words = re.sub(r"<[^>]+>", "", found[2]).lower()
        anchor = re.sub(r"[^\w\- ]", "", html.unescape(words)).strip().replace(" ", "-")
        return f'<h{found[1]} id="{anchor}">{found[2]}</h{found[1]}>'

    def link(found: re.Match[str]) -> str:
        target, hash_, anchor = found[2].partition("#")
        if not target or ":" in target:
            return found[0]
        place = (path.parent / target).resolve()
        inside = place.relative_to(root).as_posix() if place.is_relative_to(root) else target
        return f'{found[1]}="{names.get(inside, "../../" + inside)}{hash_}{anchor}"'

    rendered = re.sub(r"<h([1-6])>(.+?)</h\1>", heading, rendered)
    return re.sub(r'(href|src)="([^"]+)"', link, rendered)


def _channels(document: dict[str, Any]) -> str:
    """What goes over each subject, and which way; seen from Atlas."""
    parts = ["<h1>Subjects</h1><p>As in <a href='../asyncapi.json'>asyncapi.json</a>.</p>"]
    for id_, channel in document["channels"].items():
        if channel["address"] is None:
            continue
        lines = []
        for action in ("receive", "send"):
            operation = document["operations"].get(f"{action}.{id_}")
            if operation is None:
                continue
            said = ", ".join(_model(one) for one in operation["messages"]) or "a counter"
            reply = ", ".join(_model(one) for one in operation.get("reply", {}).get("messages", ()))
            answered = f", answered by {reply}" if reply else ""
            whose = "Atlas takes" if action == "receive" else "Atlas sends"
            lines.append(f"<p class='{action}'><b>{whose}</b> {said}{answered}</p>")
        where = "".join(
            f"<li><code>{name}</code>: {html.escape(about['description'])}</li>"
            for name, about in channel["parameters"].items()
        )
        parts.append(
            f"<h3 id='{id_}'><code>{html.escape(channel['address'])}</code></h3>"
            f"<p>{html.escape(channel['description'])}</p>{''.join(lines)}<ul>{where}</ul>"
        )
    return "".join(parts)


def _model(reference: dict[str, str]) -> str:
    name = reference["$ref"].rpartition("/")[2]
    where = f"../schemas/{name}.json" if name in UNIONS else f"contract.html#{name.lower()}"
    return f"<a href='{where}'><code>{name}</code></a>"


def _page(title: str, body: str, links: list[tuple[str, str]]) -> str:
    shown = "".join(f'<a href="{file}">{html.escape(name)}</a>' for file, name in links)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body><nav>{shown}</nav><main>{body}</main></body></html>\n"
    )


def main() -> None:
    """Write all pages into docs/build."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir()
    made = pages()
    for name, text in made.items():
        (BUILD / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"docs: {len(made)} pages; open {BUILD.relative_to(DOCS.parent)}/index.html\n")


if __name__ == "__main__":
    main()
