# SPDX-License-Identifier: GPL-2.0-or-later
"""One report of the kernel about one trouble, from its first line to a finding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, Severity
from kwatch.domain.log.line import Line
from kwatch.domain.log.source import source_path
from kwatch.domain.log.splats import Blamed, Role, Splat
from kwatch.domain.log.stack import (
    PASSED_OVER,
    Frame,
    blamed,
    dispatched,
    display_name,
    plain_name,
    read_frame,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_LINES = 400
"""Lines of a report that are read; what a machine with many tasks prints after it says no more."""

EXCERPT_LINES = 40
MAX_TITLE = 200

_TRACE = re.compile(
    r"^\s*(?:Call [Tt]race|Backtrace|backtrace|stack backtrace|page last allocated)\b"
)
# Stacks of others than the one at fault, and what is not about the fault any more.
_OTHERS = re.compile(
    r"^\s*(?:Allocated by|Freed by|The buggy address|Last potentially|Second to last|Uninit was"
    r"|Local variable|Object was|Memory state around|page last free|Showing all locks"
    r"|INFO: lockdep is|Kernel Offset|Dumping ftrace)"
)
_ACCESS = re.compile(r"^(Read|Write) (?:of size|at addr)", re.IGNORECASE)
_AT = re.compile(
    r"\bat: (?:\[<(?:0x)?[0-9a-f]+>\] )?(?P<name>[A-Za-z_$][\w$.]*)(?:\+0x| [\w./-]+:\d)"
)
_TAKES = re.compile(
    r"is trying to (?:acquire|lock)|^\S+ takes:|takes:$|locks? held by|with locks still held"
)
_OTHER_LOCK = re.compile(r"^(?:other info|and this task|but (?:task|this)|which (?:would|already))")
_CALLER = re.compile(r"^\s*(?:last function:|caller is) (?P<name>[\w.]+)")
_CPU = re.compile(
    r"\bCPU: (?P<cpu>\d+) (?:UID: \d+ )?PID: \d+ Comm: (?P<process>.+?)"
    r" (?P<taint>Not tainted|Tainted: [A-Z ]+?)(?: \S*\d|$)"
)
_BYSTANDER = re.compile(r"grace-period kthread stack dump")
_NEXT_CPU = re.compile(r"NMI backtrace for cpu|Task dump for CPU|GP kthread last ran")
_END = re.compile(r"---\[ end (?:trace|Kernel panic)|^Rebooting in \d+ seconds|^={60}$")
_MESSAGE_NUMBERS = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,16}\b")


# One check, which the kernel has worded in three ways.
_FREES = {"double-free or invalid-free": "invalid-free", "double-free": "invalid-free"}


@dataclass(slots=True, eq=False)
class Report:
    """The lines of one report, while they come in."""

    splat: Splat
    match: re.Match[str]
    first: int
    lines: list[Line] = field(default_factory=list)
    last: int = 0
    is_over: bool = False

    def add(self, line: Line) -> None:
        """Take one more line."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
            self.last = line.number
        else:
            self.is_over = True
        if _END.search(line.text):
            self.is_over = True

    @property
    def is_of_stall(self) -> bool:
        """Whether CPUs are asked for their stacks for it."""
        return self.splat.blamed is Blamed.DISPATCH

    def takes(self, splat: Splat) -> bool:
        """Whether an announcement belongs to this report rather than begins one of its own."""
        if splat.severity is Severity.INFO:
            return True
        if splat.role is Role.START_OR_PART:
            # What is only told for the record has no part that is an error.
            return self.splat.severity is not Severity.INFO
        if self.splat.role is Role.LEAD:
            return len(self.lines) < 12
        if splat is self.splat and self.lines[-1].text.endswith("[inline]"):
            # A symbolised announcement is repeated for each function that was inlined.
            return True
        # A stall is announced for each CPU.
        return splat is self.splat and splat.blamed is Blamed.DISPATCH and len(self.lines) < 3

    def finding(self) -> Finding:
        """What the report says."""
        texts = [line.text for line in self.lines]
        groups = {key: value or "" for key, value in self.match.groupdict().items()}
        frame = self._blamed(texts)
        name = display_name(frame.name) if frame else groups.get("function", "")
        machine = next((found for text in texts if (found := _CPU.search(text))), None)
        number = groups.get("line") or (frame.line if frame else None)
        file = groups.get("file") or (frame.file if frame else None)
        return Finding(
            kind=self.splat.kind,
            title=self._title(texts, groups, name),
            function=name or None,
            file=source_path(file) if file else None,
            line=int(number) if number else None,
            place=_place(texts, frame) if frame else None,
            module=frame.module if frame else None,
            severity=self.splat.severity,
            first_line=self.first,
            last_line=self.last,
            process=machine["process"] if machine else None,
            cpu=int(machine["cpu"]) if machine else None,
            taint=machine["taint"] if machine else None,
            is_corrupted="{function}" in self.splat.title and not name,
            excerpt=tuple(texts[:EXCERPT_LINES]),
            rule=self.splat.title,
        )

    def _title(self, texts: Sequence[str], groups: Mapping[str, str], name: str) -> str:
        template = self.splat.title if name else self.splat.anonymous
        access = next((found[1] for text in texts[:12] if (found := _ACCESS.match(text))), "")
        what = groups.get("what") or next((text for text in texts[1:3] if text), "")
        kind = groups.get("type", "")
        words = {
            **groups,
            "function": name,
            "access": f" {access.capitalize()}" if access else "",
            "type": _FREES.get(kind, kind),
            "what": _MESSAGE_NUMBERS.sub("ADDR", what),
        }
        return " ".join(template.format(**words).split())[:MAX_TITLE]

    def _blamed(self, texts: Sequence[str]) -> Frame | None:
        splat = self.splat
        match splat.blamed:
            case Blamed.NOBODY | Blamed.HEADER:
                return None
            case Blamed.HEADER_FIRST:
                frame = Frame(plain_name(self.match["function"]))
                return blamed([frame, *_frames(texts)], splat.passed_over)
            case Blamed.LOCK:
                taking = _locking(texts, splat.passed_over)
                return taking or blamed(list(_frames(texts)), splat.passed_over)
            case Blamed.DISPATCH:
                found = (
                    dispatched(trace) or blamed(trace, splat.passed_over)
                    for trace in _traces(texts)
                )
                return next((frame for frame in found if frame is not None), None)
            case Blamed.TRACE:
                return self._traced(texts)

    def _traced(self, texts: Sequence[str]) -> Frame | None:
        passed_over = self.splat.passed_over
        for text in texts[:4]:
            caller = _CALLER.search(text)
            if caller and not PASSED_OVER[passed_over].match(caller["name"]):
                return Frame(plain_name(caller["name"]))
        frames = list(_frames(texts))
        named = plain_name(self.match.groupdict().get("function") or "")
        if named and frames and named not in {frame.name for frame in frames}:
            # The trace is of somebody else, whose lines came in between.
            return Frame(named)
        return blamed(frames, passed_over)


def _place(texts: Sequence[str], blamed_frame: Frame) -> str | None:
    """Where in the blamed function: the first line that tells."""
    if blamed_frame.place:
        return blamed_frame.place
    frames = (read_frame(text) for text in texts)
    return next((one.place for one in frames if one and one.name == blamed_frame.name), None)


def is_asked_for(text: str) -> bool:
    """Whether a line begins what another CPU asked this one to print."""
    return _NEXT_CPU.match(text) is not None


def _traces(texts: Sequence[str]) -> Iterator[list[Frame]]:
    """The traces of a stall one by one, but for that of the thread that waits for the others."""
    trace: list[Frame] = []
    is_bystander = False
    for text in texts[1:]:
        is_next_bystander = _BYSTANDER.search(text) is not None
        # The bystander's own trace begins after the line that names it.
        is_after_bystander = is_bystander and bool(trace) and _TRACE.match(text) is not None
        if is_next_bystander or is_after_bystander or _NEXT_CPU.search(text):
            if trace and not is_bystander:
                yield trace
            is_bystander, trace = is_next_bystander, []
        elif frame := read_frame(text):
            trace.append(frame)
    if trace and not is_bystander:
        yield trace


def _locking(texts: Sequence[str], passed_over: str) -> Frame | None:
    """Where the lock is taken that a report is about."""
    begins = next((number for number, text in enumerate(texts) if _TAKES.search(text)), None)
    if begins is None:
        return None
    for text in texts[begins : begins + 8]:
        if _OTHER_LOCK.match(text):
            return None
        found = _AT.search(text)
        if found and not PASSED_OVER[passed_over].match(found["name"]):
            return Frame(found["name"])
    return None


def _frames(texts: Sequence[str]) -> Iterator[Frame]:
    """Instruction pointer and first trace, in the order in which they are printed."""
    has_trace = any(_TRACE.match(text) for text in texts)
    in_trace = not has_trace
    seen = 0
    for text in texts[1:]:
        if _TRACE.match(text):
            if in_trace and has_trace and seen > 1:
                return
            in_trace = True
            continue
        if _OTHERS.match(text) and seen:
            return
        frame = read_frame(text)
        if frame is None:
            continue
        if frame.is_pointer or in_trace:
            seen += not frame.is_pointer
            yield frame
