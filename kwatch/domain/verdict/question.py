# SPDX-License-Identifier: GPL-2.0-or-later
"""What an investigation is asked, what it asks for, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import CleanBuilds, Grade
from kwatch.domain.verdict.lane import Epoch
from kwatch.domain.verdict.problem import Problem


class Goal(StrEnum):
    """What an investigation is to find out."""

    CAUSE = "cause"
    FIX = "fix"


class Phase(StrEnum):
    """Where an investigation stands."""

    CONFIRM = "confirm"
    BLAME = "blame"
    BISECT = "bisect"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. ``problem`` is what trials are searched for.

    ``subject`` is the trial of the bad commit that showed it, with the tools that it was built by;
    all other trials are neighbours of it. ``good`` is a commit that was free of it, in ``epoch``.
    ``suspects`` maps each commit that the bad one has and the good one lacks to its parents, newest
    first. ``fixed`` is the tagged commit that is free of it again (Goal.FIX only).
    """

    goal: Goal
    problem: Problem
    subject: Trial
    good: str
    epoch: Epoch
    suspects: Mapping[str, Sequence[str]]
    fixed: str | None = None

    @property
    def bad(self) -> str:
        """The commit that shows the problem."""
        return self.subject.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Try these. ``confirmed`` says on whom the blame lies, once that is known.

    ``remaining`` is how many suspects a search has left, ``seconds_left`` about how long it takes.
    """

    phase: Phase
    trials: tuple[Trial, ...]
    remaining: int | None = None
    seconds_left: float | None = None
    confirmed: Blame | None = None


class Verdict(StrEnum):
    """How an investigation ends.

    CHANGED: the good commit fails too under what the bad one was tried with, so not a commit is to
    blame but what changed between them (Answer.blame).
    """

    FOUND = "found"
    AMBIGUOUS = "ambiguous"
    CONTRADICTED = "contradicted"
    CHANGED = "changed"
    NOT_REPRODUCED = "not reproduced"
    BASELINE_FAILS = "baseline fails"
    NO_BASELINE = "no baseline"
    FIXED = "fixed"
    NOT_FIXED = "not fixed"
    NO_EVIDENCE = "no evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of an investigation, with the trials that prove it.

    ``commits`` holds the culprit (FOUND), the candidates (AMBIGUOUS, CONTRADICTED) or nothing.
    ``doubts`` are reasons why a culprit is not verified, each as the rest of a sentence.
    """

    verdict: Verdict
    blame: Blame | None = None
    grade: Grade | None = None
    commits: tuple[str, ...] = ()
    proof: tuple[Trial, ...] = ()
    clean: CleanBuilds | None = None
    doubts: tuple[str, ...] = ()

    def doubted(self, doubts: Sequence[str]) -> Answer:
        """The answer with more reasons against its culprit, if there are any."""
        if not doubts or self.grade is not Grade.VERIFIED:
            return self
        return replace(self, grade=Grade.LIKELY, doubts=(*self.doubts, *doubts))
