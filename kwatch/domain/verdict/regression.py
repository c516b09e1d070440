# SPDX-License-Identifier: GPL-2.0-or-later
"""Regressions: what got worse between two tags, and what history says about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.observation import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RegressionState(StrEnum):
    """How far we are with a regression. FIXED and INVALID end it."""

    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    BISECTED = "bisected"
    FIXED = "fixed"
    INVALID = "invalid"


class RegressionEvent(StrEnum):
    """What happens to a regression; its timeline is made of these."""

    OPENED = "opened"
    CONFIRM = "confirm"
    BISECT = "bisect"
    INCONCLUSIVE = "inconclusive"
    FIX = "fix"
    RETRACT = "retract"


_S, _E = RegressionState, RegressionEvent
TRANSITIONS: Mapping[tuple[RegressionState, RegressionEvent], RegressionState] = {
    (_S.SUSPECTED, _E.CONFIRM): _S.CONFIRMED,
    (_S.SUSPECTED, _E.RETRACT): _S.INVALID,
    (_S.CONFIRMED, _E.BISECT): _S.BISECTED,
    (_S.CONFIRMED, _E.INCONCLUSIVE): _S.CONFIRMED,
    (_S.CONFIRMED, _E.FIX): _S.FIXED,
    (_S.CONFIRMED, _E.RETRACT): _S.INVALID,
    (_S.BISECTED, _E.FIX): _S.FIXED,
    (_S.BISECTED, _E.RETRACT): _S.INVALID,
}

OPEN_STATES = (_S.SUSPECTED, _S.CONFIRMED, _S.BISECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagResult:
    """What one tag gave in one variant. ``commit`` is the tagged one."""

    tag: str
    commit: str
    outcome: Outcome
    milestone: Milestone
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A problem that one tag has and an earlier, comparable one had not.

    ``variant`` is the digest, ``variant_name`` what the operator calls it.
    """

    id: int
    tree: str
    variant: str
    variant_name: str
    finding: Finding
    milestone: Milestone
    good: TagResult
    bad: TagResult
    state: RegressionState
    opened_at: float

    @property
    def fingerprint(self) -> str:
        """The identity of the problem."""
        return self.finding.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Worse:
    """The newest tag fails in a way no open regression explains."""

    good: TagResult
    bad: TagResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Better:
    """The newest tag passes although a regression is open: is it fixed?"""

    regression: int
    fixed: TagResult


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBaseline:
    """The newest tag fails, but nothing comparable ever passed: recorded, not mailed."""

    bad: TagResult


Judgement = Worse | Better | NoBaseline


def judge(history: Sequence[TagResult], regressions: Sequence[Regression]) -> tuple[Judgement, ...]:
    """Compare the newest result with the last good one.

    ``history`` is in the order of the tags, of one tree and variant, and may hold INFRA, which
    says nothing. ``regressions`` are those that are open for the same tree and variant.
    """
    evidence = [result for result in history if result.outcome is not Outcome.INFRA]
    if not evidence:
        return ()
    newest = evidence[-1]
    if newest.outcome is Outcome.PASS:
        return tuple(
            Better(regression=regression.id, fixed=newest)
            for regression in regressions
            if regression.state is not RegressionState.SUSPECTED
        )
    if newest.finding is None:
        return ()
    if any(known.fingerprint == newest.finding.fingerprint for known in regressions):
        return ()
    good = next((old for old in reversed(evidence) if old.outcome is Outcome.PASS), None)
    if good is None:
        return (NoBaseline(bad=newest),)
    return (Worse(good=good, bad=newest),)


def judge_key(tree: str, variant: str) -> str:
    """The key of a judge job: a tree, and a variant's digest."""
    return f"{tree}:{variant}"


def judged_by(key: str) -> tuple[str, str]:
    """The tree and the variant's digest of a judge job."""
    tree, _, variant = key.rpartition(":")
    return tree, variant
