# SPDX-License-Identifier: GPL-2.0-or-later
"""What a boot that is over says about its kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.deadguest.autopsy import state_of_guest
from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log.console import read_console
from kwatch.domain.log.ktap import CaseUse
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.case_results import failures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kwatch.domain.deadguest.autopsy import Autopsy
    from kwatch.domain.log.scan import Reading

MOST_FINDINGS = 50
"""Of one log that are stored besides what failed it."""
SHOWN_MESSAGES = 12
"""Of the kernel's log that never reached a console."""

# Where a guest was that went no further, in the words of a report.
_BETWEEN = {
    Milestone.LINKED: "before the first line of the kernel",
    Milestone.KERNEL: "between the first line of the kernel and user space",
    Milestone.INIT: "during the tests",
    Milestone.TESTED: "after the tests, before the coverage was out",
    Milestone.COLLECTED: "after the coverage was out",
}

# What the kernel says of a hang if it is left alone for long enough: whether it is, is chance.
_HANGS = {
    FindingKind.RCU_STALL,
    FindingKind.SOFT_LOCKUP,
    FindingKind.HARD_LOCKUP,
    FindingKind.WORKQUEUE_LOCKUP,
    FindingKind.HUNG_TASK,
}


def examine(
    end: BootEnd,
    milestone: Milestone,
    console: Reading,
    statuses: Mapping[int, int],
    autopsy: Autopsy | None,
    *,
    test_results: CaseUse = CaseUse.RECORD,
) -> Finding | None:
    """The problem that a boot shows, or None for a good one.

    ``statuses`` are the exit statuses of the guest's commands; ``autopsy`` is there where the
    guest ended without a word and could be asked. The lab's own failures (``end.is_infra``) are no
    findings and must be told apart before.
    """
    splat = _worst(console.findings)
    match end:
        case BootEnd.DONE:
            # What the kernel only warns of is no reason to fail a boot that did all it should.
            is_error = splat and splat.severity is Severity.ERROR
            return splat if is_error else _tests(statuses, console, test_results)
        case BootEnd.PANIC:
            found = splat or _from_memory(autopsy)
            return found or _silent(FindingKind.PANIC, "kernel panic", console)
        case BootEnd.HANG | BootEnd.STALL | BootEnd.DEADLINE:
            # A hang that is proven and one that merely lasts are the same bug: they must have
            # the same name, for which of the two is seen depends on the host's mood.
            told = _worst(one for one in console.findings if one.kind not in _HANGS)
            stuck = told or _stuck(end, milestone, console, autopsy)
            reported = [one.title for one in console.findings if one.kind in _HANGS]
            return replace(stuck, alternatives=tuple(dict.fromkeys(reported)))
        case BootEnd.RESET:
            where = autopsy.cause if autopsy else _BETWEEN[milestone]
            reset = _silent(FindingKind.RESET, f"the machine resets {where}", console)
            return splat or _from_memory(autopsy) or _examined(reset, autopsy)
        case BootEnd.OUTPUT_LIMIT:
            title = "the guest floods its console"
            return splat or _silent(FindingKind.OUTPUT_FLOOD, title, console)
        case BootEnd.REFUSED:
            title = "QEMU does not take the image for a kernel"
            return splat or _silent(FindingKind.RESET, title, console)
        case BootEnd.CONTROL_LOST | BootEnd.NEVER_STARTED:
            raise ValueError(f"{end} says nothing about a kernel")
        case _:
            assert_never(end)


def others_of(
    cause: Finding | None, console: Reading, test_results: CaseUse
) -> tuple[Finding, ...]:
    """What a console reports besides the cause of a failure: test cases that failed come last."""
    return besides(cause, (*console.findings, *failures(console.cases, test_results)))


def besides(cause: Finding | None, found: Iterable[Finding]) -> tuple[Finding, ...]:
    """What a log reports besides the cause of a failure, each problem once, in its order."""
    known = {cause.fingerprint} if cause else set()
    others = []
    for one in found:
        if one.fingerprint not in known and one.kind is not FindingKind.BOOT_INCOMPLETE:
            known.add(one.fingerprint)
            others.append(one)
    return tuple(others[:MOST_FINDINGS])


def _silent(kind: FindingKind, title: str, console: Reading) -> Finding:
    """What no line of the console names."""
    return Finding(kind=kind, title=title, excerpt=console.last_lines)


def _worst(found: Iterable[Finding]) -> Finding | None:
    """The first error, or else the first warning."""
    told = [one for one in found if one.kind is not FindingKind.BOOT_INCOMPLETE]
    errors = [one for one in told if one.severity is Severity.ERROR]
    return next(iter(errors or [one for one in told if one.severity is Severity.WARNING]), None)


def _stuck(
    end: BootEnd, milestone: Milestone, console: Reading, autopsy: Autopsy | None
) -> Finding:
    found = _from_memory(autopsy)
    if found is not None and found.kind is FindingKind.PANIC:
        return found
    is_silent = milestone < Milestone.KERNEL
    kind = FindingKind.SILENT_HANG if is_silent else FindingKind.HANG
    where = _BETWEEN[Milestone.LINKED if is_silent else milestone]
    # Where a guest is that is only slow, is chance, and a name must not be.
    if autopsy and (autopsy.is_final or end is BootEnd.HANG):
        named = _silent(kind, f"{kind.value}: {autopsy.cause}", console)
        return _examined(replace(named, function=autopsy.function), autopsy)
    return _examined(_silent(kind, f"{kind.value} {where}", console), autopsy)


def _from_memory(autopsy: Autopsy | None) -> Finding | None:
    """What the kernel wrote into its log and no console ever showed."""
    if autopsy is None:
        return None
    written = "\n".join(autopsy.messages).encode("utf-8", "replace")
    found = _worst(read_console(written).findings)
    return found if found and found.severity is Severity.ERROR else None


def _examined(found: Finding, autopsy: Autopsy | None) -> Finding:
    """The finding with the evidence of an autopsy, if there was one."""
    if autopsy is None:
        return found
    return replace(found, evidence=state_of_guest(autopsy, SHOWN_MESSAGES))


def _tests(statuses: Mapping[int, int], console: Reading, test_results: CaseUse) -> Finding | None:
    if test_results is CaseUse.JUDGE and (failed := failures(console.cases, test_results)):
        return failed[0]
    commands = [number for number, status in sorted(statuses.items()) if status != 0]
    if not commands:
        return None
    title = f"test command {commands[0] + 1} fails with status {statuses[commands[0]]}"
    return _silent(FindingKind.TEST, title, console)
