"""What reaches a terminal of text from outside."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from atlas.cli.rich_console import SafeConsole
from atlas.cli.terminal import harmless, harmless_json

ESC = "\x1b"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain äöü 漢 🙂\n\ttext", "plain äöü 漢 🙂\n\ttext"),
        (f"{ESC}[31mred{ESC}[0m", "red"),
        (f"{ESC}[2J{ESC}[1;1Hhome", "home"),
        (f"{ESC}]0;title\x07text", "text"),
        (f"{ESC}]8;;https://x.test{ESC}\\link{ESC}]8;;{ESC}\\", "link"),
        (f"{ESC}]52;c;cm0gLXJm\x07", ""),
        (f"{ESC}P1;2q#0{ESC}\\sixel", "sixel"),
        (f"{ESC}_hidden{ESC}\\seen", "seen"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9ctext", "text"),
        (f"{ESC}(0{ESC}c{ESC}7", ""),
        ("over\rwritten\x08\x7f\x00\x07", "overwritten"),
        (f"{ESC}]0;never ended", "]0;never ended"),
        (f"{ESC}[31", "[31"),
        ("31m of a sequence that was cut", "31m of a sequence that was cut"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(said, shown):
    assert harmless(said) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d[]\\;m\x07\n\t"))))
def test_no_control_is_left_but_line_feeds_and_tabs(said):
    shown = harmless(said)
    assert all(one in "\n\t" or not (one < " " or "\x7f" <= one <= "\x9f") for one in shown)
    assert harmless(shown) == shown


@given(st.text())
def test_json_for_a_terminal_is_the_same_value(said):
    shown = harmless_json(json.dumps(said, ensure_ascii=False))
    assert json.loads(shown) == said
    assert harmless(shown) == shown


def test_what_rich_draws_has_the_colours_that_we_gave_it_and_no_others():
    shown = io.StringIO()
    console = SafeConsole(file=shown, force_terminal=True, width=60, color_system="standard")
    evil = f"{ESC}]0;title\x07{ESC}[5mevil"
    table = Table(evil)
    table.add_row(Text(evil, style="red"))
    for one in (evil, table, Markdown(f"# {evil}\n\n`{evil}`"), Text(evil)):
        console.print(one)
    assert shown.getvalue().count("evil") == 6
    assert f"{ESC}[31m" in shown.getvalue()
    assert f"{ESC}]" not in shown.getvalue()
    assert f"{ESC}[5m" not in shown.getvalue()
