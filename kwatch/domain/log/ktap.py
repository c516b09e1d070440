# SPDX-License-Identifier: GPL-2.0-or-later
"""Test results as the kernel prints them: KTAP, nested, with whatever else is on the console.

See Documentation/dev-tools/ktap.rst. A subtest is indented under its parent and ends before the
parent's own result line; what stands in between belongs to no test and is passed by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_CASES = 20_000
"""Results that are kept; all of KUnit has some thousand."""

MAX_DEPTH = 16

WORDS = ("TAP version ", "ok ", "# Subtest: ")
"""What a line of KTAP has in it; the first alone says that there is any."""

_VERSION = re.compile(r"^\s*K?TAP version \d+\s*$")
_SUBTEST = re.compile(r"^(?P<indent>\s*)# Subtest: (?P<name>\S.*?)\s*$")
_RESULT = re.compile(
    r"^(?P<indent>\s*)(?P<failed>not )?ok (?P<number>\d{1,9})(?: -)?(?: (?P<name>[^#]*?))?"
    r"\s*(?:# ?(?P<directive>SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:? ?(?P<reason>.*))?(?:#.*)?$"
)


class CaseStatus(StrEnum):
    """What became of a test case. TODO and XFAIL were expected to fail."""

    PASS = "pass"  # noqa: S105 - a result
    FAIL = "fail"
    SKIP = "skip"
    XFAIL = "xfail"


class CaseUse(StrEnum):
    """What becomes of the results that a console tells of."""

    RECORD = "record"
    """They are told, and fail no boot."""
    JUDGE = "judge"
    """A case that fails, and was not expected to, fails the boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One result. ``path`` is the names from the outermost test on; ``first_line`` and
    ``last_line`` are where it ran, as far as the log tells.
    """

    path: tuple[str, ...]
    status: CaseStatus
    reason: str
    first_line: int
    last_line: int

    @property
    def name(self) -> str:
        """The path as one word, as kunit.py shows it."""
        return ".".join(self.path)


class KtapReader:
    """Give it the lines that have one of the words; results come out in order."""

    def __init__(self) -> None:
        self.is_active = False
        self.left_out = 0
        self._cases: list[Case] = []
        self._open: list[tuple[int, str]] = []
        self._since = 0

    def take(self, text: str, number: int) -> None:
        """One line of the console, freed from what transport put before it."""
        if _VERSION.match(text):
            self.is_active = True
            self._since = number + 1
        elif not self.is_active:
            return
        elif found := _SUBTEST.match(text):
            indent = len(found["indent"])
            self._leave(indent)
            if len(self._open) < MAX_DEPTH:
                self._open.append((indent, found["name"]))
            self._since = number + 1
        elif found := _RESULT.match(text):
            self._result(found, number)

    def finish(self) -> tuple[Case, ...]:
        """All results."""
        return tuple(self._cases)

    def _leave(self, indent: int) -> None:
        """A line at this depth ends what is deeper."""
        while self._open and self._open[-1][0] >= indent:
            self._open.pop()

    def _result(self, found: re.Match[str], number: int) -> None:
        indent = len(found["indent"])
        # A parent's result stands one level above its subtest line.
        while self._open and self._open[-1][0] > indent:
            self._open.pop()
        name = (found["name"] or "").strip() or found["number"]
        if len(self._cases) < MAX_CASES:
            self._cases.append(
                Case(
                    path=(*(name for _, name in self._open), name),
                    status=_status(found),
                    reason=(found["reason"] or "").strip(),
                    first_line=min(self._since, number),
                    last_line=number,
                )
            )
        else:
            self.left_out += 1
        self._since = number + 1


def _status(found: re.Match[str]) -> CaseStatus:
    directive = found["directive"]
    if directive == "SKIP":
        return CaseStatus.SKIP
    if directive in {"TODO", "XFAIL"} and found["failed"]:
        return CaseStatus.XFAIL
    return CaseStatus.FAIL if found["failed"] else CaseStatus.PASS
