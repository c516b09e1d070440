# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build log says: the first error, or that the lab was in the way."""

from __future__ import annotations

import re

from kwatch.domain.finding import Finding, FindingKind

EXCERPT_LINES = 12
# Colour and other terminal controls, and everything else that is no text.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

_COMPILER = re.compile(
    r"^(?P<file>[\w./+-]+):(?P<line>\d+)(?::\d+)?: (?:fatal )?error: (?P<text>.+)$"
)
_LINKER = re.compile(r"^(?:ld\.lld\S*|ld|mold)(?:-\d+)?: (?:error: )(?P<text>.+)$")
_MODPOST = re.compile(r"^ERROR: modpost: (?P<text>.+)$")
_KCONFIG = re.compile(
    r"^(?P<file>[\w./+-]*Kconfig[\w.]*):(?P<line>\d+): (?P<text>.*error.*)$", re.IGNORECASE
)
_TOOL = re.compile(r"^(?P<text>(?:Absolute reference to symbol|error:|Error:) .+)$")
_MAKE = re.compile(r"^make(?:\[\d+\])?: \*\*\* (?:\[(?P<where>[^\]]+)\] Error \d+|(?P<text>.+))$")

# What the lab did to the build; none of it says anything about a kernel.
_LAB = (
    (re.compile(r"No space left on device"), "no room left on the build host's disk"),
    (re.compile(r"(?:^|: |\d )Killed(?:$| )|signal 9|[Oo]ut of memory|Cannot allocate memory"),
     "the build host ran out of memory"),
    (re.compile(r"Input/output error"), "the build host's disk fails"),
    (re.compile(r"^bwrap: "), "the sandbox could not be made"),
)  # fmt: skip


def lab_trouble(log: str) -> str | None:
    """Why a failed build says nothing about the kernel, or None."""
    for line in log.splitlines():
        for pattern, reason in _LAB:
            if pattern.search(line):
                return f"{reason}: {clean(line)}"
    return None


def read_build_log(log: str) -> Finding:
    """The root cause of a failed build: the first error of a compiler, linker or tool.

    ``log`` is that of a build that failed; where no line says why, make's own last word is taken.
    """
    lines = [clean(line) for line in log.splitlines()]
    for number, line in enumerate(lines):
        finding = _read(line)
        if finding is not None:
            kind, title, file = finding
            return Finding(
                kind=kind,
                title=title,
                file=file,
                excerpt=tuple(lines[number : number + EXCERPT_LINES]),
            )
    for number, line in reversed(list(enumerate(lines))):
        if match := _MAKE.match(line):
            title = match["text"] or f"{match['where']} failed"
            return Finding(
                kind=FindingKind.COMPILE,
                title=title,
                excerpt=tuple(lines[max(0, number - EXCERPT_LINES) : number + 1]),
            )
    return Finding(
        kind=FindingKind.COMPILE,
        title="the build failed without saying why",
        excerpt=tuple(lines[-EXCERPT_LINES:]),
    )


def clean(line: str) -> str:
    """A line of a log without terminal controls, at most 400 characters."""
    return _CONTROL.sub("", line).rstrip()[:400]


def _read(line: str) -> tuple[FindingKind, str, str | None] | None:
    if match := _COMPILER.match(line):
        file = source_path(match["file"])
        return FindingKind.COMPILE, f"{file}: {match['text']}", file
    for pattern in (_LINKER, _MODPOST):
        if match := pattern.match(line):
            return FindingKind.LINK, match["text"], None
    if match := _KCONFIG.match(line):
        return FindingKind.KCONFIG, f"{match['file']}: {match['text']}", match["file"]
    if match := _TOOL.match(line):
        return FindingKind.COMPILE, match["text"], None
    return None


def source_path(path: str) -> str:
    """A path as the kernel's own people write it: relative to the top of the source."""
    for prefix in ("/build/src/", "../src/", "/build/out/"):
        path = path.removeprefix(prefix)
    return path.removeprefix("./")
