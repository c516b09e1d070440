# SPDX-License-Identifier: GPL-2.0-or-later
"""Investigations: what must be tried before anybody is told anything.

:func:`plan` is pure: all evidence goes in, and out comes what to try next, or the answer. The
evidence is read again at every wake-up, so an investigation has no state of its own and a restart
loses nothing. The phases of a cause: CONFIRM (the bad tag fails again, and the good one passes
under what the bad one was tried with), BLAME (the control, without our series), BISECT, VERIFY
(clean builds of the culprit and its parents). A trial that the lab failed is not evidence: it is
tried again, and counts as untestable after GIVE_UP tries. Where the boot environment of the bad tag
is gone from all hosts, everything is done in another one (see move).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.verdict.bisect.commits import Ambiguous, Culprit, Mark, Probe, halve
from kwatch.domain.verdict.blame import Blame, changed_axis
from kwatch.domain.verdict.case import weigh
from kwatch.domain.verdict.effort import Costs, seconds_left
from kwatch.domain.verdict.grade import Grade, runs_needed
from kwatch.domain.verdict.lane import epoch_of
from kwatch.domain.verdict.move import moved
from kwatch.domain.verdict.question import Answer, Ask, Goal, Phase, Question, Verdict
from kwatch.domain.verdict.verify import verify

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from kwatch.domain.trial.seen import Seen
    from kwatch.domain.trial.trial import Trial
    from kwatch.domain.verdict.case import Case
    from kwatch.domain.verdict.problem import Problem

TYPICAL = Costs()

CONFIRMATIONS = 3
"""Boots of the bad tag that may pass before its failure counts as not reproduced."""


def plan(
    question: Question,
    evidence: Mapping[Trial, Seen],
    *,
    pending: Collection[Trial] = (),
    slots: int = 1,
    costs: Costs = TYPICAL,
) -> Ask | Answer:
    """What to try next, or what was found. Trials not in ``evidence`` are not settled yet.

    Of these, the ``pending`` ones are asked for already. A search tests ``slots`` commits at a
    time, and what is left of it is estimated from ``costs``.
    """
    ask = _plan(question, evidence, pending, slots)
    if isinstance(ask, Ask) and ask.remaining is not None:
        boots = 0 if question.problem.is_deterministic else 1
        left = seconds_left(ask.remaining, slots=slots, boots=boots, costs=costs)
        return replace(ask, seconds_left=left)
    return ask


def _plan(
    question: Question, evidence: Mapping[Trial, Seen], pending: Collection[Trial], slots: int
) -> Ask | Answer:
    found = moved(question, evidence)
    if not isinstance(found, Question):
        return found
    case = replace(weigh(found, evidence), pending=frozenset(pending), slots=slots)
    if question.goal is Goal.FIX:
        return _plan_fix(case)
    if found != question:
        return _plan_moved(case)
    return _plan_cause(case)


def _plan_fix(case: Case) -> Ask | Answer:
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


def _plan_moved(case: Case) -> Ask | Answer:
    """The cause, where no host has the boot environment of the bad tag any more.

    The bad tag comes first: where it passes, the problem is of the environment that is gone.
    """
    again = _another(case.problem, case.question.subject, 1)
    if case.mark(again) is None:
        return Ask(phase=Phase.CONFIRM, trials=(again,))
    found = _confirm_bad(case, again)
    if found is None:
        return _plan_cause(case)
    if isinstance(found, Answer) and found.verdict is Verdict.NOT_REPRODUCED:
        return replace(found, verdict=Verdict.CHANGED, blame=Blame.HOST)
    return found


def _plan_cause(case: Case) -> Ask | Answer:
    """The good tag and the control pass as often as a bad kernel would not, by what was seen."""
    question, subject = case.question, case.question.subject
    needed = 1 if case.problem.is_deterministic else runs_needed(case.shown)
    again = _another(case.problem, subject, 1)
    goods = [
        _another(case.problem, subject.of(question.good), number) for number in range(1, needed + 1)
    ]
    bare = replace(subject, source=subject.source.bare)
    controls = [bare.again(repeat=number) for number in range(needed)]
    first = [trial for trial in (again, goods[0], controls[0]) if case.mark(trial) is None]
    if again in first or goods[0] in first:
        return Ask(phase=Phase.CONFIRM, trials=tuple(first))
    bad = _confirm_bad(case, again)
    if bad is not None:
        return bad
    mark = _settled(case, goods)
    if mark is None:
        return Ask(phase=Phase.CONFIRM, trials=_missing(case, goods))
    doubt = _doubt_good(case, mark, goods)
    if doubt is not None:
        return doubt
    if _settled(case, controls) is None:
        return Ask(phase=Phase.BLAME, trials=_missing(case, controls))
    # One control that fails is enough.
    tried = [trial for trial in controls if case.mark(trial) is not None]
    return _search(case, _blame(case, tried), proof=(again, *goods, *tried))


def _missing(case: Case, tries: Sequence[Trial]) -> tuple[Trial, ...]:
    return tuple(trial for trial in tries if case.mark(trial) is None)


def _confirm_bad(case: Case, again: Trial) -> Ask | Answer | None:
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


def _doubt_good(case: Case, mark: Mark, goods: Sequence[Trial]) -> Answer | None:
    """Whether the good tag is good under what the bad one was tried with; None if it is."""
    if mark is Mark.GOOD:
        return None
    question = case.question
    proof = tuple(trial for trial in goods if case.mark(trial) is not None)
    subject, sample = question.subject, question.subject.sample
    epoch = epoch_of(subject, sample.environment, sample.boot_environment, until=case.problem.until)
    if mark is Mark.UNTESTABLE:
        return Answer(verdict=Verdict.NO_BASELINE, proof=proof)
    if epoch == question.epoch:
        return Answer(verdict=Verdict.BASELINE_FAILS, proof=proof)
    return Answer(verdict=Verdict.CHANGED, blame=changed_axis(question.epoch, epoch), proof=proof)


def _blame(case: Case, controls: Sequence[Trial]) -> Blame:
    """What the control says: it must fail in the very same way, or always get past the place.

    Other ways in which the bad tag failed do not count here: they may be another bug's.
    """
    problem = case.question.problem
    marks = {problem.mark(case.evidence[one]) for one in controls}
    if Mark.BAD in marks:
        return Blame.TREE
    return Blame.SERIES if marks == {Mark.GOOD} else Blame.UNKNOWN


def _search(case: Case, blame: Blame, proof: tuple[Trial, ...]) -> Ask | Answer:
    """BISECT by halving, or cutting into more parts with more slots, then VERIFY."""
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
    found = halve(
        question.suspects,
        question.bad,
        marks,
        pending={commit for commit, tries in samples.items() if case.pending.intersection(tries)},
        slots=case.slots,
    )
    match found:
        case Probe():
            missing = [
                trial
                for commit in found.commits
                for trial in samples[commit]
                if case.mark(trial) is None
            ]
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
            return verify(case, blame, found.commit, proof)
        case _:
            assert_never(found)


def _settled(case: Case, tries: Sequence[Trial]) -> Mark | None:
    """The mark of a commit: bad with the first bad sample, good with the last good one."""
    marks = [case.mark(trial) for trial in tries]
    if Mark.BAD in marks:
        return Mark.BAD
    if None in marks:
        return None
    return Mark.GOOD if Mark.GOOD in marks else Mark.UNTESTABLE


def _another(problem: Problem, trial: Trial, number: int) -> Trial:
    """Sample ``number`` of a trial: another boot, or a clean build where it never boots."""
    if problem.is_deterministic:
        return trial.again(rebuild=number)
    return trial.again(repeat=number)
