# SPDX-License-Identifier: GPL-2.0-or-later
"""Regressions: one bug each, wherever it is seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.seen import fingerprints_of
from kwatch.domain.verdict.lane import Lane, Line, TagRun
from kwatch.domain.verdict.problem import Facet, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class RegressionState(StrEnum):
    """How far we are with a regression. FIXED and INVALID close it; FIXED may open again."""

    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    FIXED = "fixed"
    INVALID = "invalid"


class RegressionEvent(StrEnum):
    """What happened to a regression; its timeline is made of these.

    SPREAD: it shows in one more line. GONE: a line is free of it, and others are not. FIXED: no
    line has it any more.
    """

    OPENED = "opened"
    CONFIRMED = "confirmed"
    BISECTED = "bisected"
    INCONCLUSIVE = "inconclusive"
    SPREAD = "spread"
    GONE = "gone"
    FIXED = "fixed"
    REAPPEARED = "reappeared"
    RETRACTED = "retracted"
    EARLIER = "earlier"
    MASKED = "masked"


_S, _E = RegressionState, RegressionEvent
# A culprit is found whether or not a later tag passes meanwhile: BISECTED changes no state.
TRANSITIONS: Mapping[tuple[RegressionState, RegressionEvent], RegressionState] = {
    (_S.SUSPECTED, _E.CONFIRMED): _S.CONFIRMED,
    (_S.SUSPECTED, _E.RETRACTED): _S.INVALID,
    (_S.CONFIRMED, _E.BISECTED): _S.CONFIRMED,
    (_S.CONFIRMED, _E.INCONCLUSIVE): _S.CONFIRMED,
    (_S.SUSPECTED, _E.SPREAD): _S.SUSPECTED,
    (_S.CONFIRMED, _E.SPREAD): _S.CONFIRMED,
    (_S.FIXED, _E.SPREAD): _S.CONFIRMED,
    (_S.CONFIRMED, _E.GONE): _S.CONFIRMED,
    (_S.CONFIRMED, _E.FIXED): _S.FIXED,
    (_S.CONFIRMED, _E.RETRACTED): _S.INVALID,
    (_S.FIXED, _E.BISECTED): _S.FIXED,
    (_S.FIXED, _E.INCONCLUSIVE): _S.FIXED,
    (_S.CONFIRMED, _E.REAPPEARED): _S.CONFIRMED,
    (_S.FIXED, _E.REAPPEARED): _S.CONFIRMED,
    (_S.SUSPECTED, _E.EARLIER): _S.SUSPECTED,
    (_S.CONFIRMED, _E.EARLIER): _S.CONFIRMED,
    (_S.SUSPECTED, _E.MASKED): _S.SUSPECTED,
    (_S.CONFIRMED, _E.MASKED): _S.CONFIRMED,
}

OPEN_STATES = (_S.SUSPECTED, _S.CONFIRMED)
CLOSED_STATES = (_S.FIXED, _S.INVALID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A regression in one line.

    ``bad`` is the first tag of the line that has it, ``good`` the last one before that has not, if
    there is one; ``gone`` is the number of the revision that is free of it again.
    """

    line: Line
    good: TagRun | None
    bad: TagRun
    gone: int | None = None


def is_news(line: Line, others: Iterable[Presence]) -> bool:
    """Whether it is news that a regression is in ``line`` now, or is gone from it.

    It is not where another variant of the same tree and branch has it.
    """
    having = {one.line.place for one in others if one.gone is None}
    return line.place not in having


def ended(others: Iterable[Presence]) -> RegressionEvent:
    """What happened to a regression that is gone from a line, with its presences in others."""
    is_left = any(one.gone is None for one in others)
    return RegressionEvent.GONE if is_left else RegressionEvent.FIXED


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A problem that one tag has and an earlier one of the same line had not.

    ``lane``, ``good`` and ``bad`` are where it was seen first; sightings in other tags, lanes and
    trees belong to the same regression. ``finding`` is that of ``bad``.
    """

    id: int
    lane: Lane
    facet: Facet
    finding: Finding
    milestone: Milestone
    good: TagRun
    bad: TagRun
    state: RegressionState
    opened_at: float

    @property
    def home(self) -> Line:
        """The line where it was seen first."""
        return Line(lane=self.lane, branch=self.bad.branch)

    @property
    def tree(self) -> str:
        """The name of the tree where it was seen first."""
        return self.lane.tree

    @property
    def variant_name(self) -> str:
        """The name of the variant in which it was seen first."""
        return self.lane.variant

    @property
    def fingerprint(self) -> str:
        """The identity of the problem."""
        return self.finding.fingerprint

    @property
    def problem(self) -> Problem:
        """What a trial shows that has it."""
        return Problem(
            facet=self.facet,
            fingerprints=fingerprints_of(self.finding),
            milestone=self.milestone,
        )
