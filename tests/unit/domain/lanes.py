# SPDX-License-Identifier: GPL-2.0-or-later
"""Tags of a lane and what they show, for tests of what is judged from them."""

from __future__ import annotations

from dataclasses import replace

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen
from kwatch.domain.verdict.lane import TagRun
from tests.unit.domain import trials
from tests.unit.domain.trials import COMPILE, HANG, PANIC, PASSED, failed

SPLAT = Finding(kind=FindingKind.LOCKDEP, title="possible deadlock in f", severity=Severity.WARNING)
UBSAN = Finding(kind=FindingKind.UBSAN, title="array-index-out-of-bounds in g")
FAIL = failed(HANG, Milestone.LINKED)
PANICS = failed(PANIC, Milestone.INIT)
BROKEN = failed(COMPILE, Milestone.CONFIG)
REFUSED = Seen(outcome=Outcome.REFUSED, milestone=Milestone.NOTHING)


def warned(*findings: Finding) -> Seen:
    return replace(PASSED, others=findings)


def run(number: int, seen: Seen | None, tag: str = "") -> TagRun:
    """The tag of this number of a lane; its revision has it too."""
    return TagRun(
        revision=number,
        tag=tag or f"next-2026{number:04}",
        number=1000 + number,
        trial=trials.trial(f"{number:040x}"),
        seen=seen,
    )


def lane(*seen: Seen | None) -> list[TagRun]:
    return [run(number, one) for number, one in enumerate(seen)]
