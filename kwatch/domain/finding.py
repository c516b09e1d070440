# SPDX-License-Identifier: GPL-2.0-or-later
"""What a log, or a guest that died without one, tells about a problem."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class FindingKind(StrEnum):
    """The family of a problem, in the words kernel people use."""

    APPLY = "apply"
    KCONFIG = "kconfig"
    COMPILE = "compile"
    LINK = "link"
    SILENT_HANG = "silent hang"
    HANG = "hang"
    PANIC = "panic"
    OOPS = "oops"
    RESET = "reset"
    OUTPUT_FLOOD = "output flood"
    TEST = "test"
    COVERAGE = "coverage"
    BUG = "bug"
    WARNING = "warning"
    KASAN = "kasan"
    KMSAN = "kmsan"
    KCSAN = "kcsan"
    KFENCE = "kfence"
    UBSAN = "ubsan"
    LOCKDEP = "lockdep"
    ATOMIC_SLEEP = "atomic-sleep"
    RCU_STALL = "rcu-stall"
    SOFT_LOCKUP = "soft-lockup"
    HARD_LOCKUP = "hard-lockup"
    WORKQUEUE_LOCKUP = "workqueue-lockup"
    HUNG_TASK = "hung-task"
    MEMLEAK = "memleak"
    OUT_OF_MEMORY = "out-of-memory"
    BOOT_INCOMPLETE = "boot-incomplete"
    HOST = "host"
    """The build host was in the way: nothing that says anything about a kernel."""


class Area(StrEnum):
    """The part of a test that failed, in the word that a subject line has for it."""

    APPLY = "apply"
    CONFIG = "config"
    BUILD = "build"
    BOOT = "boot"
    TEST = "test"
    COVERAGE = "coverage"


AREA: Mapping[FindingKind, Area] = {
    **dict.fromkeys(FindingKind, Area.BOOT),
    FindingKind.APPLY: Area.APPLY,
    FindingKind.KCONFIG: Area.CONFIG,
    FindingKind.COMPILE: Area.BUILD,
    FindingKind.LINK: Area.BUILD,
    FindingKind.HOST: Area.BUILD,
    FindingKind.TEST: Area.TEST,
    FindingKind.COVERAGE: Area.COVERAGE,
}
"""What is not named here is seen in a guest, while it boots."""


class Severity(StrEnum):
    """What a finding means for the verdict on a kernel."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    """Told for the record: a consequence of another finding, or provoked by a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem.

    ``title`` is one line as a maintainer would write it in a subject. ``excerpt`` holds the lines
    that show it, at most 40. ``file`` with ``line``, ``function`` and ``module`` are known or None.
    ``place`` is where in the function (``f+0x12``), which a symbolizer turns into file and line.
    ``first_line`` and ``last_line`` count from 0 in the log. ``is_corrupted``: the report is cut
    off or mixed up, and the title says less than it could. ``rule`` names the row of the grammar
    that it was found by, and ``count`` is how many lines of a build log say it. ``evidence`` is
    the state of a guest that ended silently, as lines of text for a report. ``alternatives`` are
    other titles that the same problem may get in another run.
    """

    kind: FindingKind
    title: str
    function: str | None = None
    file: str | None = None
    line: int | None = None
    place: str | None = None
    module: str | None = None
    severity: Severity = Severity.ERROR
    first_line: int | None = None
    last_line: int | None = None
    process: str | None = None
    cpu: int | None = None
    taint: str | None = None
    is_corrupted: bool = False
    excerpt: tuple[str, ...] = ()
    rule: str | None = None
    count: int = 1
    evidence: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The identity of the problem over tags, hosts and addresses: 16 hex digits."""
        return fingerprint(self.kind, self.title)


_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{8,16}\b")
_OFFSET = re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?")
_NUMBER = re.compile(r"\d+")


def fingerprint(kind: FindingKind, title: str) -> str:
    """Hash of what stays the same when addresses, offsets, lines and counts change.

    The title of a TEST names a test, whose numbers are part of it.
    """
    if kind is FindingKind.TEST:
        return hashlib.sha256(f"{kind.value}\0{title}".encode(errors="replace")).hexdigest()[:16]
    stable = _NUMBER.sub("N", _ADDRESS.sub("ADDRESS", _OFFSET.sub("", title)))
    return hashlib.sha256(f"{kind.value}\0{stable}".encode(errors="replace")).hexdigest()[:16]
