# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a console: what went wrong in it, in the order in which it happened.

One pass over chunks of any size, in linear time and bounded memory. A multi-pattern search finds
the lines that may announce something; only these, and those of a report that is open, are read.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log import ktap
from kwatch.domain.log.ktap import CaseStatus, KtapReader
from kwatch.domain.log.line import read_line
from kwatch.domain.log.progress import CONFIRMING, LEAVING, STEPS, Progress
from kwatch.domain.log.report import Report, is_asked_for
from kwatch.domain.log.scan import Reading, Scanner, Words
from kwatch.domain.log.splats import SPLATS

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence

    from kwatch.domain.log.ktap import Case
    from kwatch.domain.log.line import Line
    from kwatch.domain.log.splats import Splat

MAX_SPAN = 600
"""Lines of a log that one report may spread over, with what others say in between."""

CONFIRMED_WITHIN = 8
"""Lines from a kernel's version to its command line."""

MAX_FINDINGS = 1000
"""Findings of one log that are kept; of the others only the number."""


_INIT_DIED = "Attempted to kill init!"
_DEADLY = {FindingKind.OOPS, FindingKind.BUG, FindingKind.KASAN}
_PANIC = "Kernel panic - not syncing"
_PANIC_END = "---[ end Kernel panic"

_WORDS = Words(
    [
        *(word for splat in SPLATS for word in splat.words),
        *(word for words in STEPS.values() for word in words),
        *LEAVING,
        *CONFIRMING,
        *ktap.WORDS,
        _PANIC,
        _PANIC_END,
    ]
)


def _numbers(words: Iterable[str]) -> frozenset[int]:
    return frozenset(_WORDS.words.index(word) for word in words)


_LEAVING_WORDS = _numbers(LEAVING)
_CONFIRMING_WORDS = _numbers(CONFIRMING)
_RESULT_WORDS = _numbers(ktap.WORDS)
_FIRST_RESULT_WORD = _WORDS.words.index(ktap.WORDS[0])
_STEP_OF = {number: step for step, words in STEPS.items() for number in _numbers(words)}
# A kernel that begins where another one was is a reboot.
_BEGINNINGS = (Progress.DECOMPRESSOR, Progress.KERNEL)
_SPLAT_WORDS = _numbers(word for splat in SPLATS for word in splat.words)
# Which rows a word can begin.
_ROWS = tuple(
    tuple(row for row, splat in enumerate(SPLATS) if word in splat.words) for word in _WORDS.words
)


@cache
def _unwanted(progress: Progress, *, has_tests: bool) -> frozenset[int]:
    """A step matters once but for a new beginning, and results only where there are tests."""
    reached = {
        word
        for word, step in _STEP_OF.items()
        if step <= progress and step not in _BEGINNINGS and word not in _SPLAT_WORDS
    }
    return frozenset(reached if has_tests else reached | _RESULT_WORDS - {_FIRST_RESULT_WORD})


class ConsoleReader:
    """Feed it bytes as they come, then ask for the reading."""

    def __init__(self) -> None:
        self._scanner = Scanner(_WORDS)
        self._open: dict[str | None, Report] = {}
        self._oldest = 0
        self._findings: dict[str, Finding] = {}
        self._left_out = 0
        self._tests = KtapReader()
        self._started: int | None = None
        self._is_stamped = False
        self._is_leaving = False
        self._version: Line | None = None
        self.unwanted = _unwanted(Progress.NOTHING, has_tests=False)
        self.progress = Progress.NOTHING
        """How far the machine got since it last began."""
        self.has_panicked = False
        self.is_panic_over = False
        """The kernel said all it had to say of its panic."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._scanner.feed(data, self)

    def end_line(self) -> None:
        """The last line has no end and gets none."""
        self._scanner.finish(self)

    def finish(self) -> Reading:
        """Everything was fed."""
        self.end_line()
        for report in dict.fromkeys(self._open.values()):
            self._close(report)
        found = sorted(self._findings.values(), key=lambda one: one.first_line or 0)
        if found and found[0].severity is Severity.INFO:
            # A consequence of what the log does not show is all there is to tell.
            found[0] = replace(found[0], severity=Severity.ERROR)
        found = _without_consequences(found)
        if self._started is not None and self.progress < Progress.INIT:
            found.append(_incomplete(self._started, self._scanner.lines))
        cases = self._tests.finish()
        found = [_as_provoked(finding, cases) for finding in found]
        return Reading(
            findings=tuple(found),
            left_out=self._left_out,
            cases=cases,
            progress=self.progress,
            last_lines=self._scanner.last_lines(),
        )

    def wants_all(self) -> bool:
        """Every line may belong to a report that is open."""
        return bool(self._open)

    def take(self, raw: bytes, number: int, words: Sequence[int]) -> None:
        """One line that may matter."""
        line = read_line(raw, number)
        if words:
            self._note_progress(line, words)
            self.unwanted = _unwanted(self.progress, has_tests=self._tests.is_active)
        if self._open:
            self._end_old(number)
        announced = announcement(line.text, words) if words else None
        if self._open or announced:
            self._take(line, announced)

    def _take(self, line: Line, announced: tuple[Splat, re.Match[str]] | None) -> None:
        report = self._open.get(line.caller)
        if report is None and announced is None and is_asked_for(line.text):
            # A CPU prints its stack because another one that reports a stall asked for it.
            report = next((one for one in self._open.values() if one.is_of_stall), None)
            if report is not None:
                self._open[line.caller] = report
        if announced is not None and (report is None or not report.takes(announced[0])):
            if report is not None:
                self._close(report)
            splat, match = announced
            report = Report(splat, match, line.number)
            if not self._open:
                self._oldest = line.number
            self._open[line.caller] = report
        if report is None:
            return
        report.add(line)
        if report.is_over:
            self._close(report)

    def _note_progress(self, line: Line, words: Sequence[int]) -> None:
        if not _RESULT_WORDS.isdisjoint(words):
            self._tests.take(line.text, line.number)
            if self._tests.is_active and self.progress >= Progress.INIT:
                self.progress = max(self.progress, Progress.TESTS)
        if not _LEAVING_WORDS.isdisjoint(words):
            self._is_leaving = True
        self.has_panicked |= line.text.startswith(_PANIC)
        self.is_panic_over |= line.text.startswith(_PANIC_END)
        if self._version and not _CONFIRMING_WORDS.isdisjoint(words):
            if line.number - self._version.number < CONFIRMED_WITHIN:
                self._start_anew(self._version, Progress.KERNEL)
            self._version = None
        steps = [_STEP_OF[word] for word in words if word in _STEP_OF]
        if begun := [step for step in steps if step in _BEGINNINGS]:
            self._begin(line, max(begun))
        elif steps:
            # "Welcome to GRUB" is a boot loader.
            self.progress = max(self.progress, min(steps))

    def _begin(self, line: Line, step: Progress) -> None:
        """A kernel begins, and has to arrive as well if it is not the first."""
        is_plain = step is Progress.KERNEL and not line.is_stamped
        if is_plain and self._is_stamped:
            return  # Somebody prints /proc/version.
        if is_plain and self.progress >= Progress.INIT:
            self._version = line  # The same, or a kernel without time stamps.
            return
        self._start_anew(line, step)

    def _start_anew(self, line: Line, step: Progress) -> None:
        if self.progress >= Progress.INIT and not self._is_leaving:
            self._keep(partial(_rebooted, line.number))
        if step is Progress.KERNEL:
            self._is_stamped = line.is_stamped
        self._started, self._is_leaving, self.progress = line.number, False, step

    def _end_old(self, number: int) -> None:
        """What a task or CPU says long after is about something else."""
        if number <= self._oldest + MAX_SPAN:
            return
        for report in dict.fromkeys(self._open.values()):
            if number - report.first > MAX_SPAN:
                self._close(report)
        self._oldest = min((one.first for one in self._open.values()), default=number)

    def _close(self, report: Report) -> None:
        self._open = {caller: one for caller, one in self._open.items() if one is not report}
        self._keep(report.finding)

    def _keep(self, make: Callable[[], Finding]) -> None:
        """What is said once more, as stalls are, is counted."""
        if len(self._findings) >= MAX_FINDINGS:
            self._left_out += 1
            return
        finding = make()
        key = f"{finding.severity} {finding.title}"
        if known := self._findings.get(key):
            finding = replace(known, count=known.count + 1)
        self._findings[key] = finding


def _without_consequences(found: list[Finding]) -> list[Finding]:
    """A task that an oops ended may have been init, of which the kernel then dies."""
    first = next((at for at, one in enumerate(found) if one.kind in _DEADLY), len(found))
    return [
        replace(one, severity=Severity.INFO) if at > first and _INIT_DIED in one.title else one
        for at, one in enumerate(found)
    ]


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


def read_console(console: bytes) -> Reading:
    """What a whole console says."""
    reader = ConsoleReader()
    reader.feed(console)
    return reader.finish()
