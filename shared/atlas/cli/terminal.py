"""What may reach a terminal: text from outside without what a terminal would obey. Pure.

Models, goals, file contents and errors are not ours. Escape sequences in them could hide lines,
rename the window, write the clipboard or answer for whoever sits there. So where a terminal is
written to, they are taken out, here and nowhere else: of plain text by `harmless`, of what rich
draws by the console of `atlas.cli.rich_console`. Line feeds and tabs stay.

**What is not a terminal gets every byte as it came**: a pipe or a file is somebody's data. JSON
has nothing taken out; the few controls that JSON does not escape by itself are escaped for a
terminal, which leaves its value the same.
"""

import re

_SEQUENCES = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links, the clipboard
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c]*(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, erasing
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"
)
"""Whole sequences. What is begun and not ended loses its first character, and is text from there
on: a terminal would swallow all that follows, and so would we."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOT_ESCAPED_BY_JSON = re.compile(r"[\x7f-\x9f]")


def harmless(text: str) -> str:
    """The text without escape sequences and controls, but for line feeds and tabs.

    Of a sequence that comes in two texts the first part goes, and the rest, which does nothing by
    itself, is shown.
    """
    return text if _CONTROLS.search(text) is None else _CONTROLS.sub("", _SEQUENCES.sub("", text))


def harmless_json(text: str) -> str:
    """The same JSON with the controls escaped that JSON takes as they are."""
    return _NOT_ESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
