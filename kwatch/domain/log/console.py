# SPDX-License-Identifier: GPL-2.0-or-later
"""What a console says about how a boot ended."""

from __future__ import annotations

import re

from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.log.build import clean

EXCERPT_LINES = 30
_STAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[[^\]]*\])?\s?")
_FUNCTION = re.compile(r"^RIP: \w+:(?P<function>[\w.]+)\+0x")
_SPLATS = (
    (FindingKind.OOPS, re.compile(r"^(?P<text>BUG: .+|Oops: .+|kernel BUG at .+)$")),
    (FindingKind.OOPS, re.compile(r"^(?P<text>general protection fault.*|divide error: .*)$")),
    (FindingKind.PANIC, re.compile(r"^Kernel panic - not syncing: (?P<text>.+)$")),
)


def read_console(console: bytes) -> Finding | None:
    """The first thing that went wrong, or None where the console tells of nothing."""
    lines = console_lines(console)
    for number, line in enumerate(lines):
        bare = _STAMP.sub("", line)
        for kind, pattern in _SPLATS:
            if match := pattern.match(bare):
                after = lines[number : number + EXCERPT_LINES]
                return Finding(
                    kind=kind,
                    title=match["text"],
                    function=_function(after),
                    excerpt=tuple(after),
                )
    return None


def last_lines(console: bytes, count: int = EXCERPT_LINES) -> tuple[str, ...]:
    """The last lines of a console, as they may stand in a mail."""
    return tuple(console_lines(console[-64 * 1024 :])[-count:])


def console_lines(console: bytes) -> list[str]:
    """The lines of a console as text, without terminal controls; empty ones are left out."""
    text = console.decode("utf-8", "replace").replace("\r", "\n")
    return [line for raw in text.split("\n") if (line := clean(raw))]


def _function(lines: list[str]) -> str | None:
    for line in lines:
        if match := _FUNCTION.match(_STAMP.sub("", line)):
            return match["function"]
    return None
