# SPDX-License-Identifier: GPL-2.0-or-later
"""A problem as something that a trial can show, or be free of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.bisect.commits import Mark

if TYPE_CHECKING:
    from kwatch.domain.trial.seen import Seen


class Facet(StrEnum):
    """On which side of a result a problem shows."""

    FAILURE = "failure"
    """The trial fails."""
    WARNING = "warning"
    """The kernel reports something, whether the trial passes or not."""
    TEST = "test"
    """A test case fails, whether that fails the trial or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What to look for. ``milestone`` is how far a trial gets that has it.

    ``fingerprints`` are all names of it. ``is_erratic``: the same kernel was seen to fail in
    different ways, so every failure at or after the boot of the kernel counts.
    """

    facet: Facet
    fingerprints: frozenset[str]
    milestone: Milestone
    is_erratic: bool = False

    @property
    def until(self) -> Milestone:
        """How far a trial must go to show it."""
        if self.facet is Facet.FAILURE and self.milestone < Milestone.CHECKOUT:
            return Milestone.CHECKOUT
        if self.facet is Facet.FAILURE and self.milestone < Milestone.LINKED:
            return Milestone.LINKED
        return Milestone.COLLECTED

    @property
    def is_deterministic(self) -> bool:
        """Whether one sample is as good as many: the same source builds in the same way."""
        return self.until < Milestone.COLLECTED

    def mark(self, seen: Seen) -> Mark:
        """BAD: it shows the problem. GOOD: it would have, and does not. Else UNTESTABLE."""
        match seen.outcome:
            case Outcome.INFRA | Outcome.REFUSED:
                return Mark.UNTESTABLE
            case Outcome.PASS | Outcome.FAIL if self.facet is Facet.TEST:
                return self._mark_case(seen)
            case Outcome.PASS:
                is_bad = self.facet is Facet.WARNING and self.fingerprints & seen.fingerprints
                return Mark.BAD if is_bad else Mark.GOOD
            case Outcome.FAIL:
                return self._mark_failure(seen)
            case _:
                assert_never(seen.outcome)

    def _mark_case(self, seen: Seen) -> Mark:
        """A case that was skipped, or not reached, has neither passed nor failed."""
        if self.fingerprints & seen.cases_failed:
            return Mark.BAD
        return Mark.GOOD if self.fingerprints & seen.cases_run else Mark.UNTESTABLE

    def _mark_failure(self, seen: Seen) -> Mark:
        if self.facet is Facet.WARNING:
            # Without the finding it may just have died before it.
            return Mark.BAD if self.fingerprints & seen.fingerprints else Mark.UNTESTABLE
        if self.fingerprints & seen.causes:
            return Mark.BAD
        if self.is_erratic and min(seen.milestone, self.milestone) >= Milestone.LINKED:
            return Mark.BAD
        return Mark.GOOD if seen.milestone > self.milestone else Mark.UNTESTABLE
