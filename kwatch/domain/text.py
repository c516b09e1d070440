# SPDX-License-Identifier: GPL-2.0-or-later
"""Untrusted text made printable: consoles, commit subjects, names, tags.

Anyone who writes a commit or a line of a log writes into our mails, pages and terminals. Lines
that come out of here have no line end, no control or invisible character, and no command to a
robot.
"""

from __future__ import annotations

import re
import unicodedata

ESCAPE = (
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|\][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\)"
    r"|[()][0-9AB]|[=>78DEHMNOZc])"
)
"""Terminal control sequences: colours, titles, character sets (ECMA-48, xterm)."""

CONTROLS = bytes((*range(0x09), *range(0x0B, 0x20), 0x7F))
"""The control characters of ASCII without tab and line end."""

_ESCAPE = re.compile(ESCAPE)
_CONTROL = re.compile(f"{ESCAPE}|[{CONTROLS.decode()}]")
# Robots that read the lists take orders from such words, perhaps even from quoted ones.
_ORDER = re.compile(r"#(?=(?:regzbot|kwatch|syz|kernelci|patchwork)\b)", re.IGNORECASE)
_TYPOGRAPHY = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
    }
)
_CUT = "..."
# Controls, and the invisible characters that change the direction of the text around them.
_HIDDEN = re.compile(f"[{CONTROLS.decode()}\x80-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def without_controls(text: str) -> str:
    """Text as a log wrote it, without what is for a terminal alone."""
    return _CONTROL.sub("", text)


def printable(text: str) -> str:
    """Text of many lines for a terminal or a page: escapes removed, hidden characters visible."""
    lines = _ESCAPE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", lines)


def log_line(text: str, limit: int) -> str:
    """A line of a log as it looks on a terminal, at most ``limit`` characters."""
    visible = _visible(text[: 8 * limit].replace("\t", " " * 8)).rstrip()
    return _shortened(_ORDER.sub("# ", visible), limit)


def one_line(text: str, limit: int) -> str:
    """A phrase to stand in a sentence or a list, at most ``limit`` characters."""
    words = " ".join(_visible(text[: 8 * limit]).split())
    return _shortened(_ORDER.sub("# ", words), limit)


def ascii_line(text: str, limit: int) -> str:
    """A phrase to stand in a header: printable ASCII that no reader decodes to something else."""
    words = one_line(text, 8 * limit).translate(_TYPOGRAPHY)
    ascii_only = words.encode("ascii", "replace").decode("ascii")
    # "=?" opens an encoded word, and what is not ASCII has just become a "?".
    return _shortened(ascii_only.replace("=?", "= ?"), limit)


def _visible(text: str) -> str:
    without_escapes = _ESCAPE.sub("", text)
    return "".join(
        character
        if character.isprintable()
        # Line ends and other spaces keep words apart; the rest of what is not printable goes.
        else " "
        if character.isspace() or unicodedata.category(character) in {"Zs", "Zl", "Zp"}
        else ""
        for character in without_escapes
    )


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(_CUT)].rstrip() + _CUT
