# SPDX-License-Identifier: GPL-2.0-or-later
"""Strangers' text made fit for a mail: consoles, commit subjects, names, tags.

Whoever writes a commit or a line of a log writes into our mail. What comes out of here has no
line end, no control or invisible character, and no order to a robot.
"""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|\][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\)"
    r"|[()][0-9AB]|[=>78DEHMNOZc])"
)
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
