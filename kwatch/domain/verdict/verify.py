# SPDX-License-Identifier: GPL-2.0-or-later
"""Clean builds of a culprit and its parents: proof, contradiction, or more samples first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.grade import (
    LUCK,
    MOST_SAMPLES,
    CleanBuilds,
    Count,
    Grade,
    luck,
    samples_needed,
)
from kwatch.domain.verdict.question import Answer, Ask, Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.trial.trial import Trial
    from kwatch.domain.verdict.blame import Blame
    from kwatch.domain.verdict.case import Case


def verify(case: Case, blame: Blame, culprit: str, proof: tuple[Trial, ...]) -> Ask | Answer:
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


def _doubts(case: Case, culprit: str, parents: Sequence[str]) -> list[str]:
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


def _more_samples(case: Case, culprit: str, parents: Sequence[str]) -> tuple[Trial, ...]:
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


def _unspent(case: Case, commit: str, wanted: int, expected: Mark) -> list[Trial]:
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


def _is_beyond_luck(case: Case, parents: Sequence[str]) -> bool:
    if case.problem.is_deterministic:
        return True
    subject = case.question.subject
    if case.shown.good:
        # Kernels that have it pass at times.
        return False
    passing = min(case.count(subject.of(one)).good for one in parents)
    return luck(case.shown.bad, passing) < LUCK
