# SPDX-License-Identifier: GPL-2.0-or-later
"""What a boot that is over says about its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.boot import BootEnd
from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log.console import last_lines, read_console
from kwatch.domain.milestone import Milestone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kwatch.domain.boot import BootVerdict

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


def examine(verdict: BootVerdict, console: bytes, statuses: Mapping[int, int]) -> Finding | None:
    """The problem that a boot shows, or None for a good one.

    ``statuses`` are the exit statuses of the guest's commands. The lab's own failures
    (``verdict.end.is_infra``) are no findings and must be told apart before.
    """
    found = read_console(console)
    splat = _worst(found)
    match verdict.end:
        case BootEnd.DONE:
            # What the kernel only warns of is no reason to fail a boot that did all it should.
            is_error = splat and splat.severity is Severity.ERROR
            return splat if is_error else _tests(statuses, console)
        case BootEnd.PANIC:
            return splat or Finding(
                kind=FindingKind.PANIC, title="kernel panic", excerpt=last_lines(console)
            )
        case BootEnd.HANG | BootEnd.STALL | BootEnd.DEADLINE:
            # A hang that is proven and one that merely lasts are the same bug: they must have
            # the same name, for which of the two is seen depends on the host's mood.
            return _worst(one for one in found if one.kind not in _HANGS) or _stuck(
                verdict, console
            )
        case BootEnd.RESET:
            return splat or Finding(
                kind=FindingKind.RESET,
                title=f"the machine resets {_BETWEEN[verdict.milestone]}",
                excerpt=last_lines(console),
            )
        case BootEnd.OUTPUT_LIMIT:
            return splat or Finding(
                kind=FindingKind.OUTPUT_FLOOD,
                title="the guest floods its console",
                excerpt=last_lines(console),
            )
        case BootEnd.CONTROL_LOST | BootEnd.NEVER_STARTED:
            raise ValueError(f"{verdict.end} says nothing about a kernel")
        case _:
            assert_never(verdict.end)


def _worst(found: Iterable[Finding]) -> Finding | None:
    """The first error, or else the first warning."""
    told = [one for one in found if one.kind is not FindingKind.BOOT_INCOMPLETE]
    errors = [one for one in told if one.severity is Severity.ERROR]
    return next(iter(errors or [one for one in told if one.severity is Severity.WARNING]), None)


def _stuck(verdict: BootVerdict, console: bytes) -> Finding:
    if verdict.milestone < Milestone.KERNEL:
        return Finding(
            kind=FindingKind.SILENT_HANG,
            title=f"silent hang {_BETWEEN[Milestone.LINKED]}",
            excerpt=last_lines(console),
        )
    return Finding(
        kind=FindingKind.HANG,
        title=f"hang {_BETWEEN[verdict.milestone]}",
        excerpt=last_lines(console),
    )


def _tests(statuses: Mapping[int, int], console: bytes) -> Finding | None:
    failed = [number for number, status in sorted(statuses.items()) if status != 0]
    if not failed:
        return None
    return Finding(
        kind=FindingKind.TEST,
        title=f"test command {failed[0] + 1} fails with status {statuses[failed[0]]}",
        excerpt=last_lines(console),
    )
