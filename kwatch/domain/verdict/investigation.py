# SPDX-License-Identifier: GPL-2.0-or-later
"""Investigations: what must be observed before anybody is told anything.

:func:`plan` is pure: all evidence goes in, and out comes what to observe next, or the answer. The
evidence is read again at every wake-up, so an investigation has no state of its own and a restart
loses nothing. The phases of a cause: CONFIRM (the bad tag fails again, the good one passes again),
BLAME (the control, without our series), BISECT, VERIFY (the culprit and its parents, rebuilt from
nothing). INFRA is never evidence: the same question is asked again, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from kwatch.domain.finding import Finding
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.observation import Outcome, Trial
from kwatch.domain.verdict.bisect.commits import Ambiguous, Culprit, Mark, Probe, halve
from kwatch.domain.verdict.blame import Blame

# Repeats beyond the one that is asked for: what INFRA may cost before a question is given up.
SPARE_REPEATS = 2


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
class Evidence:
    """What a settled trial showed."""

    outcome: Outcome
    milestone: Milestone
    finding: Finding | None = None

    @property
    def fingerprint(self) -> str | None:
        """The identity of what went wrong."""
        return self.finding.fingerprint if self.finding else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A regression as an investigation sees it. ``variant`` and ``control`` are digests.

    ``fixed`` is the tagged commit that passes again (Goal.FIX only); ``fingerprint`` and
    ``milestone`` name the problem; ``suspects`` maps each commit that ``bad`` has and ``good``
    lacks to its parents, newest first.
    """

    goal: Goal
    good: str
    bad: str
    variant: str
    control: str
    fingerprint: str
    milestone: Milestone
    suspects: Mapping[str, Sequence[str]]
    fixed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Observe these. ``confirmed`` says on whom the blame lies, once that is known."""

    phase: Phase
    trials: tuple[Trial, ...]
    remaining: int | None = None
    confirmed: Blame | None = None


class Verdict(StrEnum):
    """How an investigation ends."""

    FOUND = "found"
    AMBIGUOUS = "ambiguous"
    CONTRADICTED = "contradicted"
    NOT_REPRODUCED = "not reproduced"
    BASELINE_FAILS = "baseline fails"
    FIXED = "fixed"
    NOT_FIXED = "not fixed"
    NO_EVIDENCE = "no evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of an investigation, with the trials that prove it.

    ``commits`` holds the culprit (FOUND), the candidates (AMBIGUOUS, CONTRADICTED) or nothing.
    """

    verdict: Verdict
    blame: Blame | None = None
    commits: tuple[str, ...] = ()
    proof: tuple[Trial, ...] = ()


def plan(question: Question, evidence: Mapping[Trial, Evidence]) -> Ask | Answer:
    """What to observe next, or what was found. Trials not in ``evidence`` are not settled yet."""
    if question.goal is Goal.FIX:
        return _plan_fix(question, evidence)
    return _plan_cause(question, evidence)


def _plan_fix(question: Question, evidence: Mapping[Trial, Evidence]) -> Ask | Answer:
    assert question.fixed is not None  # noqa: S101 - a fix is asked of the tag that passes
    again = _sample(Trial(commit=question.fixed, variant=question.variant, repeat=1), evidence)
    if isinstance(again, Trial):
        return Ask(phase=Phase.CONFIRM, trials=(again,))
    trial, seen = again
    match seen.outcome:
        case Outcome.PASS:
            return Answer(verdict=Verdict.FIXED, proof=(trial,))
        case Outcome.FAIL:
            return Answer(verdict=Verdict.NOT_FIXED, proof=(trial,))
        case Outcome.INFRA:
            return Answer(verdict=Verdict.NO_EVIDENCE, proof=(trial,))
        case _:
            assert_never(seen.outcome)


def _plan_cause(question: Question, evidence: Mapping[Trial, Evidence]) -> Ask | Answer:
    bad = _sample(_again(question.bad, question), evidence)
    good = _sample(_again(question.good, question), evidence)
    control = _sample(Trial(commit=question.bad, variant=question.control), evidence)
    missing = tuple(found for found in (bad, good, control) if isinstance(found, Trial))
    if isinstance(bad, Trial) or isinstance(good, Trial):
        return Ask(phase=Phase.CONFIRM, trials=missing)
    doubt = _doubt(question, bad, good)
    if doubt is not None:
        return doubt
    if isinstance(control, Trial):
        return Ask(phase=Phase.BLAME, trials=missing)
    if control[1].outcome is Outcome.INFRA:
        return Answer(verdict=Verdict.NO_EVIDENCE, proof=(control[0],))
    blame = Blame.TREE if control[1].outcome is Outcome.FAIL else Blame.SERIES
    return _search(question, evidence, blame, proof=(bad[0], good[0], control[0]))


def _doubt(
    question: Question, bad: tuple[Trial, Evidence], good: tuple[Trial, Evidence]
) -> Answer | None:
    """Why the regression should not be believed, if there is a reason."""
    if Outcome.INFRA in (bad[1].outcome, good[1].outcome):
        return Answer(verdict=Verdict.NO_EVIDENCE, proof=(bad[0], good[0]))
    if bad[1].fingerprint != question.fingerprint:
        return Answer(verdict=Verdict.NOT_REPRODUCED, proof=(bad[0],))
    if good[1].outcome is Outcome.FAIL:
        return Answer(verdict=Verdict.BASELINE_FAILS, proof=(good[0],))
    return None


def _search(
    question: Question,
    evidence: Mapping[Trial, Evidence],
    blame: Blame,
    proof: tuple[Trial, ...],
) -> Ask | Answer:
    """BISECT by halving, then VERIFY."""
    marks: dict[str, Mark] = {}
    for commit in question.suspects:
        seen = _sample(Trial(commit=commit, variant=question.variant), evidence)
        if not isinstance(seen, Trial):
            marks[commit] = _mark(question, seen[1])
    found = halve(question.suspects, question.bad, marks)
    match found:
        case Probe():
            next_trial = _sample(Trial(commit=found.commit, variant=question.variant), evidence)
            assert isinstance(next_trial, Trial)  # noqa: S101 - a marked commit is never chosen
            return Ask(
                phase=Phase.BISECT,
                trials=(next_trial,),
                remaining=found.remaining,
                confirmed=blame,
            )
        case Ambiguous():
            return Answer(
                verdict=Verdict.AMBIGUOUS, blame=blame, commits=found.commits, proof=proof
            )
        case Culprit():
            return _verify(question, evidence, blame, found.commit, proof)
        case _:
            assert_never(found)


def _verify(
    question: Question,
    evidence: Mapping[Trial, Evidence],
    blame: Blame,
    culprit: str,
    proof: tuple[Trial, ...],
) -> Ask | Answer:
    """The culprit must not pass, and no parent fail, when rebuilt from nothing.

    What shows nothing (INFRA, another failure before) contradicts nothing: the search has proven
    its point without it, and the report says that this proof is missing.
    """
    commits = (culprit, *question.suspects[culprit])
    samples = [
        _sample(Trial(commit=commit, variant=question.variant, rebuild=1), evidence)
        for commit in commits
    ]
    missing = tuple(sample for sample in samples if isinstance(sample, Trial))
    if missing:
        return Ask(phase=Phase.VERIFY, trials=missing, remaining=1, confirmed=blame)
    seen = [sample for sample in samples if not isinstance(sample, Trial)]
    proof = proof + tuple(trial for trial, _ in seen)
    marks = [_mark(question, shown) for _, shown in seen]
    is_contradicted = marks[0] is Mark.GOOD or Mark.BAD in marks[1:]
    return Answer(
        verdict=Verdict.CONTRADICTED if is_contradicted else Verdict.FOUND,
        blame=blame,
        commits=(culprit,),
        proof=proof,
    )


def _again(commit: str, question: Question) -> Trial:
    """The trial that repeats what was seen: another boot, or build where it never booted."""
    if question.milestone < Milestone.LINKED:
        return Trial(commit=commit, variant=question.variant, rebuild=1)
    return Trial(commit=commit, variant=question.variant, repeat=1)


def _sample(trial: Trial, evidence: Mapping[Trial, Evidence]) -> tuple[Trial, Evidence] | Trial:
    """The first trial of its kind that is evidence, or the one to ask for next.

    Where all repeats ended as INFRA, the last of them.
    """
    for spare in range(SPARE_REPEATS + 1):
        candidate = replace(trial, repeat=trial.repeat + spare * 10)
        seen = evidence.get(candidate)
        if seen is None:
            return candidate
        if seen.outcome is not Outcome.INFRA or spare == SPARE_REPEATS:
            return candidate, seen
    raise AssertionError


def _mark(question: Question, seen: Evidence) -> Mark:
    """What a suspect's outcome says of the problem.

    Failing otherwise but later proves that the problem is absent; failing otherwise and earlier
    hides it.
    """
    match seen.outcome:
        case Outcome.PASS:
            return Mark.GOOD
        case Outcome.INFRA:
            return Mark.UNTESTABLE
        case Outcome.FAIL:
            if seen.fingerprint == question.fingerprint:
                return Mark.BAD
            return Mark.GOOD if seen.milestone > question.milestone else Mark.UNTESTABLE
        case _:
            assert_never(seen.outcome)
