# SPDX-License-Identifier: GPL-2.0-or-later
"""The phrases that all parts of a report share."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, assert_never
from urllib.parse import quote

from kwatch.domain.finding import FindingKind
from kwatch.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.mail.story import CommitInfo

WIDTH = 78
_MAX_NAME = 60
_MAX_ROWS = 20


def area(kind: FindingKind) -> str:
    """The part of a test that failed, as it stands in a subject."""
    match kind:
        case FindingKind.APPLY:
            return "apply"
        case FindingKind.KCONFIG:
            return "config"
        case FindingKind.COMPILE | FindingKind.LINK | FindingKind.HOST:
            return "build"
        case FindingKind.TEST:
            return "test"
        case FindingKind.COVERAGE:
            return "coverage"
        case (
            FindingKind.SILENT_HANG
            | FindingKind.HANG
            | FindingKind.PANIC
            | FindingKind.OOPS
            | FindingKind.RESET
            | FindingKind.OUTPUT_FLOOD
            | FindingKind.BUG
            | FindingKind.WARNING
            | FindingKind.KASAN
            | FindingKind.KMSAN
            | FindingKind.KCSAN
            | FindingKind.KFENCE
            | FindingKind.UBSAN
            | FindingKind.LOCKDEP
            | FindingKind.ATOMIC_SLEEP
            | FindingKind.RCU_STALL
            | FindingKind.SOFT_LOCKUP
            | FindingKind.HARD_LOCKUP
            | FindingKind.WORKQUEUE_LOCKUP
            | FindingKind.HUNG_TASK
            | FindingKind.MEMLEAK
            | FindingKind.OUT_OF_MEMORY
            | FindingKind.BOOT_INCOMPLETE
        ):
            return "boot"
        case _:
            assert_never(kind)


def listed(rows: Sequence[str]) -> list[str]:
    """Rows of a table, and how many more there are."""
    if len(rows) <= _MAX_ROWS:
        return list(rows)
    shown = _MAX_ROWS - 1
    return [*rows[:shown], f"  [{len(rows) - shown} more]"]


def short_name(commit: str) -> str:
    """A commit's 12 hex digits, as the kernel abbreviates them."""
    return one_line(commit, 40)[:12]


def label(text: str) -> str:
    """A name from a configuration or a repository: a tree, a tag, a person."""
    return one_line(text, _MAX_NAME)


def archived(archive: str, message_id: str) -> str:
    """Where a mail can be read."""
    return f"{archive.rstrip('/')}/{quote(one_line(message_id, 250), safe='@')}/"


def paragraph(text: str) -> str:
    """Our own sentences, filled."""
    return textwrap.fill(text, WIDTH - 4, break_on_hyphens=False)


def reference(commit: CommitInfo) -> str:
    """A commit as kernel people cite it; its subject is never cut where git would show it whole."""
    return f'{short_name(commit.commit)} ("{one_line(commit.subject, 160)}")'
