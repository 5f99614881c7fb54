"""The pages that `make docs` renders: complete, and every link in them leads somewhere."""

import re
from html import unescape

import pytest

from docs.pages import BUILD, pages

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name: str):
    lost = []
    for target in re.findall(r"(?:href|src)=[\"']([^\"']+)[\"']", PAGES[name]):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = unescape(target).partition("#")
        if (file or name) in PAGES:
            if anchor and not re.search(rf"id=[\"']{re.escape(anchor)}[\"']", PAGES[file or name]):
                lost.append(target)
        elif not (BUILD / file).resolve().exists():
            lost.append(target)
    assert lost == []


def test_every_subject_stands_on_the_page_of_subjects():
    page = PAGES["asyncapi.html"]
    assert page.count("<h3") == page.count("atlas.{tenant}.")
    for subject in ("stream.{stream_id}.chunk", "api.task.submit", "work.{capability}.{priority}"):
        assert f"<code>atlas.{{tenant}}.{subject}</code>" in page
