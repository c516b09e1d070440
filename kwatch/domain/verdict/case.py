# SPDX-License-Identifier: GPL-2.0-or-later
"""A question with its evidence: what each trial says of the problem, and how often it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.grade import Count
from kwatch.domain.verdict.problem import Facet, Problem
from kwatch.domain.verdict.question import Question

if TYPE_CHECKING:
    from kwatch.domain.verdict.bisect.commits import Mark

GIVE_UP = 3
"""Times that the lab may fail at a trial before an investigation goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question with the evidence, and the problem as the evidence widens it.

    ``pending`` are trials that are asked for already, ``slots`` the commits that can be tested at
    a time.
    """

    question: Question
    problem: Problem
    evidence: Mapping[Trial, Seen]
    counts: Mapping[Trial, Count]
    pending: frozenset[Trial] = frozenset()
    slots: int = 1

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


def weigh(question: Question, evidence: Mapping[Trial, Seen]) -> Case:
    """The case of a question. Trials not in ``evidence`` are not settled yet."""
    problem = _widened(question, evidence)
    counts: dict[Trial, Count] = {}
    for trial, seen in evidence.items():
        what = trial.again()
        counts[what] = counts.get(what, Count()).plus(problem.mark(seen))
    return Case(question=question, problem=problem, evidence=evidence, counts=counts)


def evidence_for(question: Question, settled: Mapping[Trial, Seen]) -> Mapping[Trial, Seen]:
    """Settled trials as the question names them.

    The trial of a tag asks for no environment, and goes on to the end: its result also answers what
    it would have shown in the environments that it had, and up to where the problem shows. One that
    the lab failed had no boot environment.
    """
    subject, until = question.subject, question.problem.until
    found: dict[Trial, Seen] = {}
    for trial, seen in settled.items():
        environment = subject.sample.environment
        if environment:
            environment = trial.sample.environment or seen.environment or environment
        boot_environment = subject.sample.boot_environment
        if boot_environment:
            other = "" if seen.outcome is Outcome.INFRA else boot_environment
            boot_environment = trial.sample.boot_environment or seen.boot_environment or other
        named = replace(
            trial,
            until=min(until, trial.until),
            sample=replace(
                trial.sample, environment=environment, boot_environment=boot_environment
            ),
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
