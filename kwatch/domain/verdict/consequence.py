# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy: what follows from an answer, and which events are worth a mail. Tables only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.verdict.question import Goal, Verdict
from kwatch.domain.verdict.regression import RegressionEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

# What an answer makes of its regression. A fix that is not confirmed changes nothing: the next tag
# that passes is tried again.
EVENTS: Mapping[tuple[Goal, Verdict], RegressionEvent] = {
    (Goal.CAUSE, Verdict.FOUND): RegressionEvent.BISECTED,
    (Goal.CAUSE, Verdict.AMBIGUOUS): RegressionEvent.INCONCLUSIVE,
    (Goal.CAUSE, Verdict.CONTRADICTED): RegressionEvent.INCONCLUSIVE,
    (Goal.CAUSE, Verdict.NOT_REPRODUCED): RegressionEvent.RETRACTED,
    (Goal.CAUSE, Verdict.BASELINE_FAILS): RegressionEvent.RETRACTED,
    (Goal.CAUSE, Verdict.NO_BASELINE): RegressionEvent.RETRACTED,
    (Goal.CAUSE, Verdict.NO_EVIDENCE): RegressionEvent.RETRACTED,
    (Goal.FIX, Verdict.FIXED): RegressionEvent.FIXED,
}
# The same of a regression that was confirmed before: the boot environment in which it was is gone
# from all hosts, and what was tried in another one says neither who is to blame nor that nobody is.
LATER_EVENTS: Mapping[tuple[Goal, Verdict], RegressionEvent] = {
    **EVENTS,
    (Goal.CAUSE, Verdict.CHANGED): RegressionEvent.INCONCLUSIVE,
    (Goal.CAUSE, Verdict.NO_BASELINE): RegressionEvent.INCONCLUSIVE,
    (Goal.CAUSE, Verdict.NO_EVIDENCE): RegressionEvent.INCONCLUSIVE,
}
