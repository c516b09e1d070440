# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a console: what went wrong in it, in the order in which it happened.

One pass over chunks of any size, in linear time and bounded memory. A multi-pattern search finds
the lines that may announce something; only these, and those of a report that is open, are read.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log import ktap
from kwatch.domain.log.build import clean
from kwatch.domain.log.ktap import CaseStatus, KtapReader
from kwatch.domain.log.line import read_line
from kwatch.domain.log.report import Report
from kwatch.domain.log.scan import Reading, Scanner, Words
from kwatch.domain.log.splats import SPLATS

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence

    from kwatch.domain.log.ktap import Case
    from kwatch.domain.log.line import Line
    from kwatch.domain.log.splats import Splat

EXCERPT_LINES = 30
MAX_SPAN = 600
"""Lines of a log that one report may spread over, with what others say in between."""

MAX_FINDINGS = 1000
"""Findings of one log that are kept; of the others only the number."""


# How a boot begins, and what is said only once it got as far as user space.
_STARTED = ("Linux version ", "Booting Linux on", "Starting kernel ...", "Booting the kernel")
# Who says so before starts anew on purpose.
_LEFT = ("reboot: ", "Restarting system", "Starting new kernel", "sysrq: Resetting")
_ARRIVED = (
    " as init process", "Freeing unused kernel", "Freeing init memory", "systemd[1]:", " login: ",
    "Welcome to ", "can't access tty", "Starting init: ", "INIT: version", "init started: ",
)  # fmt: skip


_WORDS = Words(
    [
        *(word for splat in SPLATS for word in splat.words),
        *_STARTED,
        *_ARRIVED,
        *_LEFT,
        *ktap.WORDS,
    ]
)
_LEAVING_WORDS = frozenset(_WORDS.words.index(word) for word in _LEFT)
_RESULT_WORDS = frozenset(_WORDS.words.index(word) for word in ktap.WORDS)
_FIRST_RESULT_WORD = _WORDS.words.index(ktap.WORDS[0])
_START_WORDS = frozenset(_WORDS.words.index(word) for word in _STARTED)
_ARRIVAL_WORDS = frozenset(_WORDS.words.index(word) for word in _ARRIVED)
# Which rows a word can begin.
_ROWS = tuple(
    tuple(row for row, splat in enumerate(SPLATS) if word in splat.words) for word in _WORDS.words
)


class ConsoleReader:
    """Feed it bytes as they come, then ask for the reading."""

    def __init__(self) -> None:
        self._scanner = Scanner(_WORDS)
        self._open: dict[str | None, Report] = {}
        self._findings: list[Finding] = []
        self._left_out = 0
        self._started: int | None = None
        self._has_arrived = False
        self._is_leaving = False
        self._tests = KtapReader()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._scanner.feed(data, self)

    def finish(self) -> Reading:
        """Everything was fed."""
        self._scanner.finish(self)
        for report in self._open.values():
            self._close(report)
        self._open.clear()
        found = sorted(self._findings, key=lambda one: one.first_line or 0)
        if found and found[0].severity is Severity.INFO:
            # A consequence of what the log does not show is all there is to tell.
            found[0] = replace(found[0], severity=Severity.ERROR)
        if self._started is not None and not self._has_arrived:
            found.append(_incomplete(self._started, self._scanner.lines))
        cases = self._tests.finish()
        found = [_as_provoked(finding, cases) for finding in found]
        return Reading(findings=tuple(found), left_out=self._left_out, cases=cases)

    def wants_all(self) -> bool:
        """Every line may belong to a report that is open."""
        return bool(self._open)

    def wants(self, word: int) -> bool:
        """That user space is there matters once, and results only where there are tests."""
        if word in _RESULT_WORDS:
            return self._tests.is_active or word == _FIRST_RESULT_WORD
        return not self._has_arrived or word not in _ARRIVAL_WORDS

    def take(self, raw: bytes, number: int, words: Sequence[int]) -> None:
        """One line that may matter."""
        if words:
            self._note_progress(words, number)
        if self._open:
            self._end_old(number)
        line = read_line(raw, number)
        if not _RESULT_WORDS.isdisjoint(words):
            self._tests.take(line.text, number)
        announced = announcement(line.text, words) if words else None
        if self._open or announced:
            self._take(line, announced)

    def _take(self, line: Line, announced: tuple[Splat, re.Match[str]] | None) -> None:
        report = self._open.get(line.caller)
        if announced is not None and (report is None or not report.takes(announced[0])):
            if report is not None:
                self._close(report)
            splat, match = announced
            report = Report(splat, match, line.number)
            self._open[line.caller] = report
        if report is None:
            return
        report.add(line)
        if report.is_over:
            del self._open[line.caller]
            self._close(report)

    def _note_progress(self, words: Sequence[int], number: int) -> None:
        if not _START_WORDS.isdisjoint(words):
            if self._has_arrived and not self._is_leaving:
                self._keep(partial(_rebooted, number))
            # The kernel after a reboot has to arrive as well.
            self._started, self._has_arrived, self._is_leaving = number, False, False
        elif not _LEAVING_WORDS.isdisjoint(words):
            self._is_leaving = True
        elif not _ARRIVAL_WORDS.isdisjoint(words):
            self._has_arrived = True

    def _end_old(self, number: int) -> None:
        """What a task or CPU says long after is about something else."""
        for caller, report in list(self._open.items()):
            if number - report.first > MAX_SPAN:
                del self._open[caller]
                self._close(report)

    def _close(self, report: Report) -> None:
        self._keep(report.finding)

    def _keep(self, finding: Callable[[], Finding]) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding())
        else:
            self._left_out += 1


def _as_provoked(finding: Finding, cases: Sequence[Case]) -> Finding:
    """What came while a test ran that passed, the test had asked for."""
    line = finding.first_line or 0
    # Cases are in the order of their last lines, and a parent's begins after its last child's.
    place = bisect_left(cases, line, key=lambda case: case.last_line)
    if place < len(cases) and cases[place].first_line <= line:
        case = cases[place]
        if case.status is CaseStatus.PASS and len(case.path) > 1:
            return replace(finding, severity=Severity.INFO)
    return finding


def _rebooted(number: int) -> Finding:
    return Finding(
        kind=FindingKind.RESET,
        title="unexpected kernel reboot",
        first_line=number,
        last_line=number,
        rule="a kernel begins anew",
    )


def _incomplete(first: int, lines: int) -> Finding:
    return Finding(
        kind=FindingKind.BOOT_INCOMPLETE,
        title="boot did not finish: user space was never reached",
        first_line=first,
        last_line=max(first, lines - 1),
        rule="a kernel begins and user space does not",
    )


def announcement(text: str, words: Sequence[int]) -> tuple[Splat, re.Match[str]] | None:
    """The first row of the grammar that a line with these ``words`` begins a report of."""
    for row in sorted({row for word in words for row in _ROWS[word]}):
        if match := SPLATS[row].pattern.search(text):
            return SPLATS[row], match
    return None


def read_console(console: bytes) -> tuple[Finding, ...]:
    """What went wrong in a whole console, in the order in which it happened."""
    reader = ConsoleReader()
    reader.feed(console)
    return reader.finish().findings


def last_lines(console: bytes, count: int = EXCERPT_LINES) -> tuple[str, ...]:
    """The last lines of a console, as they may stand in a mail."""
    return tuple(console_lines(console[-64 * 1024 :])[-count:])


def console_lines(console: bytes) -> list[str]:
    """The lines of a console as text, without terminal controls; empty ones are left out."""
    text = console.decode("utf-8", "replace").replace("\r", "\n")
    return [line for raw in text.split("\n") if (line := clean(raw))]
