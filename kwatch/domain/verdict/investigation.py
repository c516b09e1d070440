# SPDX-License-Identifier: GPL-2.0-or-later
"""Investigations: what must be tried before anybody is told anything.

:func:`plan` is pure: all evidence goes in, and out comes what to try next, or the answer. The
evidence is read again at every wake-up, so an investigation has no state of its own and a restart
loses nothing. The phases of a cause: CONFIRM (the bad tag fails again, and the good one passes
under what the bad one was tried with), BLAME (the control, without our series), BISECT, VERIFY
(clean builds of the culprit and its parents). A trial that the lab failed is not evidence: it is
tried again, and counts as untestable after GIVE_UP tries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.bisect.commits import Ambiguous, Culprit, Mark, Probe, halve
from kwatch.domain.verdict.blame import Blame, changed_axis
from kwatch.domain.verdict.grade import (
    LUCK,
    MOST_SAMPLES,
    CleanBuilds,
    Count,
    Grade,
    luck,
    runs_needed,
    samples_needed,
)
from kwatch.domain.verdict.lane import Epoch, epoch_of
from kwatch.domain.verdict.problem import Facet, Problem

GIVE_UP = 3
"""Times that the lab may fail at a trial before an investigation goes on without it."""

CONFIRMATIONS = 3
"""Boots of the bad tag that may pass before its failure counts as not reproduced."""


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
    """Try these. ``confirmed`` says on whom the blame lies, once that is known."""

    phase: Phase
    trials: tuple[Trial, ...]
    remaining: int | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A question with the evidence, and the problem as the evidence widens it."""

    question: Question
    problem: Problem
    evidence: Mapping[Trial, Seen]
    counts: Mapping[Trial, Count]

    def mark(self, trial: Trial) -> Mark | None:
        """What a trial says of the problem; None while it is not settled."""
        seen = self.evidence.get(trial)
        if seen is None or (seen.outcome is Outcome.INFRA and seen.tries < GIVE_UP):
            return None
        return self.problem.mark(seen)

    def count(self, trial: Trial) -> Count:
        """All samples of what ``trial`` tries."""
        return self.counts.get(trial.again(), Count())

    def clean(self, trial: Trial) -> Count:
        """The samples of what ``trial`` tries that were built from nothing."""
        found = Count()
        for other, seen in self.evidence.items():
            if other.sample.rebuild and other.again() == trial.again():
                found = found.plus(self.problem.mark(seen))
        return found

    @property
    def shown(self) -> Count:
        """All samples of kernels that have the problem: how often it shows."""
        commits = {self.question.bad, *self.question.suspects}
        having = [one for trial, one in self.counts.items() if one.bad and trial.commit in commits]
        return Count(bad=sum(one.bad for one in having), good=sum(one.good for one in having))


def plan(question: Question, evidence: Mapping[Trial, Seen]) -> Ask | Answer:
    """What to try next, or what was found. Trials not in ``evidence`` are not settled yet."""
    problem = _widened(question, evidence)
    counts: dict[Trial, Count] = {}
    for trial, seen in evidence.items():
        what = trial.again()
        counts[what] = counts.get(what, Count()).plus(problem.mark(seen))
    case = _Case(question=question, problem=problem, evidence=evidence, counts=counts)
    if question.goal is Goal.FIX:
        return _plan_fix(case)
    return _plan_cause(case)


def evidence_for(question: Question, settled: Mapping[Trial, Seen]) -> Mapping[Trial, Seen]:
    """Settled trials as the question names them.

    The trial of a tag asks for no environment, and goes on to the end: its result also answers what
    it would have shown in the environment that it had, and up to where the problem shows.
    """
    subject, until = question.subject, question.problem.until
    found: dict[Trial, Seen] = {}
    for trial, seen in settled.items():
        environment = subject.sample.environment
        if environment:
            environment = trial.sample.environment or seen.environment or environment
        named = replace(
            trial,
            until=min(until, trial.until),
            sample=replace(trial.sample, environment=environment),
        )
        if named == trial or named not in settled:
            found[named] = seen
    return found


def _widened(question: Question, evidence: Mapping[Trial, Seen]) -> Problem:
    """The problem under all the names that the very same kernel failed by.

    Memory corruption panics somewhere else each time. A failure that the good commit shows as well
    is no name of the problem.
    """
    problem = question.problem
    if problem.facet is not Facet.FAILURE or problem.milestone < Milestone.LINKED:
        return problem
    shown, known = [], set[str]()
    for trial, seen in evidence.items():
        if seen.outcome is not Outcome.FAIL or seen.milestone < Milestone.LINKED:
            continue
        if trial.again() == question.subject.again():
            shown.append(seen.causes)
        elif trial.commit == question.good:
            known |= seen.causes
    return replace(
        problem,
        fingerprints=frozenset().union(*shown) - known | problem.fingerprints,
        is_erratic=any(not one & problem.fingerprints and one - known for one in shown),
    )


def _plan_fix(case: _Case) -> Ask | Answer:
    """A bug that shows one time in three is not fixed because it stays away once."""
    question = case.question
    assert question.fixed is not None  # noqa: S101 - a fix is asked of the tag that passes
    subject = question.subject.of(question.fixed)
    needed = 1 if case.problem.is_deterministic else runs_needed(case.shown)
    tries = [_another(case.problem, subject, number) for number in range(1, needed + 1)]
    marks = {trial: case.mark(trial) for trial in tries}
    if Mark.BAD in marks.values():
        bad = tuple(trial for trial, mark in marks.items() if mark is Mark.BAD)
        return Answer(verdict=Verdict.NOT_FIXED, proof=bad)
    missing = tuple(trial for trial, mark in marks.items() if mark is None)
    if missing:
        return Ask(phase=Phase.CONFIRM, trials=missing)
    if Mark.UNTESTABLE in marks.values():
        return Answer(verdict=Verdict.NO_EVIDENCE, proof=tuple(tries))
    return Answer(verdict=Verdict.FIXED, proof=tuple(tries))


def _plan_cause(case: _Case) -> Ask | Answer:
    question = case.question
    again = _another(case.problem, question.subject, 1)
    good = _another(case.problem, question.subject.of(question.good), 1)
    control = replace(question.subject, source=question.subject.source.bare)
    first = [trial for trial in (again, good, control) if case.mark(trial) is None]
    if again in first or good in first:
        return Ask(phase=Phase.CONFIRM, trials=tuple(first))
    bad = _confirm_bad(case, again)
    if bad is not None:
        return bad
    doubt = _confirm_good(case, good)
    if doubt is not None:
        return doubt
    if control in first:
        return Ask(phase=Phase.BLAME, trials=(control,))
    return _search(case, _blame(case, control), proof=(again, good, control))


def _confirm_bad(case: _Case, again: Trial) -> Ask | Answer | None:
    """Whether the bad tag shows the problem again; None if it does."""
    if case.mark(again) is Mark.BAD:
        return None
    if case.mark(again) is Mark.UNTESTABLE:
        return Answer(verdict=Verdict.NO_EVIDENCE, proof=(again,))
    if case.problem.is_deterministic:
        return Answer(verdict=Verdict.NOT_REPRODUCED, proof=(again,))
    more = [
        _another(case.problem, case.question.subject, number)
        for number in range(2, CONFIRMATIONS + 1)
    ]
    if any(case.mark(trial) is Mark.BAD for trial in more):
        return None
    missing = tuple(trial for trial in more if case.mark(trial) is None)
    if missing:
        return Ask(phase=Phase.CONFIRM, trials=missing)
    return Answer(verdict=Verdict.NOT_REPRODUCED, proof=(again, *more))


def _confirm_good(case: _Case, good: Trial) -> Answer | None:
    """Whether the good tag is good under what the bad one was tried with; None if it is."""
    question = case.question
    mark = case.mark(good)
    if mark is Mark.GOOD:
        return None
    subject = question.subject
    epoch = epoch_of(subject, subject.sample.environment, until=case.problem.until)
    if mark is Mark.UNTESTABLE:
        return Answer(verdict=Verdict.NO_BASELINE, proof=(good,))
    if epoch == question.epoch:
        return Answer(verdict=Verdict.BASELINE_FAILS, proof=(good,))
    return Answer(verdict=Verdict.CHANGED, blame=changed_axis(question.epoch, epoch), proof=(good,))


def _blame(case: _Case, control: Trial) -> Blame:
    """What the control says: it must fail in the very same way, or get past the place.

    Other ways in which the bad tag failed do not count here: they may be another bug's.
    """
    match case.question.problem.mark(case.evidence[control]):
        case Mark.BAD:
            return Blame.TREE
        case Mark.GOOD:
            return Blame.SERIES
        case _:
            return Blame.UNKNOWN


def _search(case: _Case, blame: Blame, proof: tuple[Trial, ...]) -> Ask | Answer:
    """BISECT by halving, then VERIFY."""
    question = case.question
    needed = 1 if case.problem.is_deterministic else runs_needed(case.shown)
    samples = {
        commit: [question.subject.of(commit).again(repeat=number) for number in range(needed)]
        for commit in question.suspects
    }
    marks = {
        commit: mark
        for commit, tries in samples.items()
        if (mark := _settled(case, tries)) is not None
    }
    found = halve(question.suspects, question.bad, marks)
    match found:
        case Probe():
            missing = [trial for trial in samples[found.commit] if case.mark(trial) is None]
            return Ask(
                phase=Phase.BISECT,
                trials=tuple(missing),
                remaining=found.remaining,
                confirmed=blame,
            )
        case Ambiguous():
            return Answer(
                verdict=Verdict.AMBIGUOUS,
                blame=blame,
                grade=Grade.SET if found.commits else None,
                commits=found.commits,
                proof=proof,
            )
        case Culprit():
            return _verify(case, blame, found.commit, proof)
        case _:
            assert_never(found)


def _settled(case: _Case, tries: Sequence[Trial]) -> Mark | None:
    """The mark of a commit: bad with the first bad sample, good with the last good one."""
    marks = [case.mark(trial) for trial in tries]
    if Mark.BAD in marks:
        return Mark.BAD
    if None in marks:
        return None
    return Mark.GOOD if Mark.GOOD in marks else Mark.UNTESTABLE


def _verify(case: _Case, blame: Blame, culprit: str, proof: tuple[Trial, ...]) -> Ask | Answer:
    """Clean builds: the culprit must fail in the same way, and each parent must not.

    What shows nothing (INFRA, another failure before) contradicts nothing, but proves nothing
    either: then the culprit is no more than likely.
    """
    question = case.question
    parents = tuple(question.suspects[culprit])
    sides = {commit: question.subject.of(commit).again(rebuild=1) for commit in (culprit, *parents)}
    missing = tuple(trial for trial in sides.values() if case.mark(trial) is None)
    if missing:
        return Ask(phase=Phase.VERIFY, trials=missing, remaining=1, confirmed=blame)
    marks = {commit: case.mark(trial) for commit, trial in sides.items()}
    bad_parents = [one for one in parents if case.count(sides[one]).bad]
    is_contradicted = marks[culprit] is Mark.GOOD or bool(bad_parents)
    more = () if is_contradicted else _more_samples(case, culprit, parents)
    if more:
        return Ask(phase=Phase.VERIFY, trials=more, remaining=1, confirmed=blame)
    counts = {commit: case.clean(trial) for commit, trial in sides.items()}
    clean = CleanBuilds(
        culprit=counts[culprit],
        parents=Count(
            bad=sum(counts[one].bad for one in parents),
            good=sum(counts[one].good for one in parents),
        ),
    )
    proof += tuple(sides.values())
    if is_contradicted:
        return Answer(
            verdict=Verdict.CONTRADICTED,
            blame=blame,
            grade=Grade.SET,
            commits=(culprit,),
            proof=proof,
            clean=clean,
        )
    return Answer(
        verdict=Verdict.FOUND,
        blame=blame,
        grade=Grade.VERIFIED,
        commits=(culprit,),
        proof=proof,
        clean=clean,
    ).doubted(_doubts(case, culprit, parents))


def _doubts(case: _Case, culprit: str, parents: Sequence[str]) -> list[str]:
    """Why the trials do not prove a culprit."""
    subject = case.question.subject
    own = case.count(subject.of(culprit).again(rebuild=1))
    found = []
    if case.mark(subject.of(culprit).again(rebuild=1)) is not Mark.BAD:
        found.append("a clean build of this commit does not fail in the same way")
    if not parents or any(
        case.mark(subject.of(one).again(rebuild=1)) is not Mark.GOOD for one in parents
    ):
        found.append("a clean build of its parent does not pass")
    elif case.shown.good or own.good:
        found.append("the failure does not show in every boot")
    elif case.problem != case.question.problem:
        # Two bugs in one kernel look like one that fails in different ways.
        found.append("it fails in different ways")
    elif not _is_beyond_luck(case, parents):
        found.append("there are too few boots to rule out that its parent passes by luck")
    return found


def _more_samples(case: _Case, culprit: str, parents: Sequence[str]) -> tuple[Trial, ...]:
    """More boots of the clean builds, until nothing is left to luck or enough was spent on it."""
    if case.problem.is_deterministic or not parents:
        return ()
    subject = case.question.subject
    if case.problem != case.question.problem:
        return ()
    if case.shown.good or case.mark(subject.of(culprit).again(rebuild=1)) is not Mark.BAD:
        return ()
    passing = min(case.count(subject.of(one)).good for one in parents)
    more, also = samples_needed(case.shown.bad, passing)
    found = _unspent(case, culprit, more, Mark.BAD)
    for parent in parents:
        if case.mark(subject.of(parent).again(rebuild=1)) is Mark.GOOD:
            found += _unspent(case, parent, also, Mark.GOOD)
    return tuple(found)


def _unspent(case: _Case, commit: str, wanted: int, expected: Mark) -> list[Trial]:
    """The next ``wanted`` boots of a clean build; none once one of them was not as expected."""
    found: list[Trial] = []
    for number in range(1, MOST_SAMPLES + 1):
        again = case.question.subject.of(commit).again(rebuild=1, repeat=number)
        mark = case.mark(again)
        if mark is None and len(found) < wanted:
            found.append(again)
        elif mark is not None and mark is not expected:
            return []
    return found


def _is_beyond_luck(case: _Case, parents: Sequence[str]) -> bool:
    if case.problem.is_deterministic:
        return True
    subject = case.question.subject
    if case.shown.good:
        # Kernels that have it pass at times.
        return False
    passing = min(case.count(subject.of(one)).good for one in parents)
    return luck(case.shown.bad, passing) < LUCK


def _another(problem: Problem, trial: Trial, number: int) -> Trial:
    """Sample ``number`` of a trial: another boot, or a clean build where it never boots."""
    if problem.is_deterministic:
        return trial.again(rebuild=number)
    return trial.again(repeat=number)
