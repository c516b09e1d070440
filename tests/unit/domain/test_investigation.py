# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.finding import Finding
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.bisect.commits import ancestors
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import (
    SPARE_REPEATS,
    Answer,
    Ask,
    Evidence,
    Goal,
    Phase,
    Question,
    Verdict,
    plan,
)
from tests.unit.domain.histories import History, histories, next_histories
from tests.unit.domain.trials import APPLY, COMPILE, HANG, LAB_FAILED, PANIC, PASSED, failed

VARIANT, CONTROL, GOOD_TAG = "variant", "control", "last-good-tag"
SETTINGS = settings(max_examples=30, deadline=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true, and how often the lab stands in the way.

    ``masked`` fail otherwise, and earlier; ``flaky`` is how many in ten first attempts at a
    question end as INFRA (the last one never does).
    """

    history: History
    culprit: str
    blame: Blame = Blame.TREE
    finding: Finding = HANG
    milestone: Milestone = Milestone.LINKED
    masked: frozenset[str] = frozenset()
    flaky: int = 0
    seed: int = 0
    lies: dict[Trial, Evidence] = field(default_factory=dict)

    def question(self) -> Question:
        return Question(
            goal=Goal.CAUSE,
            good=GOOD_TAG,
            bad=self.history.bad,
            variant=VARIANT,
            control=CONTROL,
            fingerprint=self.finding.fingerprint,
            milestone=self.milestone,
            suspects=self.history.parents,
        )

    def tags(self) -> dict[Trial, Evidence]:
        """What made somebody ask."""
        return {
            Trial(commit=GOOD_TAG, variant=VARIANT): PASSED,
            Trial(commit=self.history.bad, variant=VARIANT): failed(self.finding, self.milestone),
        }

    def try_out(self, trial: Trial) -> Evidence:
        if trial in self.lies:
            return self.lies[trial]
        dice = random.Random(f"{self.seed}{trial}")  # noqa: S311 - a test wants to be repeatable
        if dice.randrange(10) < self.flaky and trial.repeat // 10 < SPARE_REPEATS:
            return LAB_FAILED
        if trial.commit in self.masked:
            return failed(APPLY, Milestone.NOTHING)
        if trial.variant == CONTROL and self.blame is Blame.SERIES:
            return PASSED
        if self.culprit in ancestors(self.history.parents, trial.commit):
            return failed(self.finding, self.milestone)
        return PASSED


@dataclass(slots=True, kw_only=True)
class Run:
    """An investigation from the first question to the answer."""

    answer: Answer
    evidence: dict[Trial, Evidence]
    asked: list[Ask]

    def probes(self) -> list[str]:
        return [
            trial.commit for ask in self.asked if ask.phase is Phase.BISECT for trial in ask.trials
        ]


def investigate(
    world: World, question: Question | None = None, evidence: dict[Trial, Evidence] | None = None
) -> Run:
    """Answer what is asked, one trial at a time and in any order, as a lab would."""
    question = question or world.question()
    evidence = dict(world.tags() if evidence is None else evidence)
    order = random.Random(world.seed)  # noqa: S311 - a test wants to be repeatable
    asked: list[Ask] = []
    for _ in range(40 + 20 * len(question.suspects)):
        result = plan(question, evidence)
        assert result == plan(question, dict(reversed(evidence.items())))
        if isinstance(result, Answer):
            assert all(trial in evidence for trial in result.proof)
            return Run(answer=result, evidence=evidence, asked=asked)
        assert result.trials
        assert not evidence.keys() & set(result.trials), "a settled trial was asked for again"
        asked.append(result)
        trial = order.choice(result.trials)
        evidence[trial] = world.try_out(trial)
    raise AssertionError("the investigation has no end")


@st.composite
def worlds(
    draw: st.DrawFn, *, of: st.SearchStrategy[History] | None = None, flaky: bool = False
) -> World:
    history = draw(histories() if of is None else of)
    finding, milestone = draw(
        st.sampled_from(
            [(HANG, Milestone.LINKED), (PANIC, Milestone.INIT), (COMPILE, Milestone.CONFIG)]
        )
    )
    return World(
        history=history,
        culprit=draw(st.sampled_from(history.reachable())),
        blame=draw(st.sampled_from([Blame.TREE, Blame.SERIES])),
        finding=finding,
        milestone=milestone,
        flaky=draw(st.integers(0, 7)) if flaky else 0,
        seed=draw(st.integers(0, 1000)),
    )


@given(st.one_of(worlds(), worlds(of=next_histories())))
@SETTINGS
def test_the_culprit_is_found_and_proven(world: World) -> None:
    run = investigate(world)
    assert run.answer.verdict is Verdict.FOUND
    assert run.answer.commits == (world.culprit,)
    assert run.answer.blame is world.blame
    rebuilt = {trial.commit for trial in run.answer.proof if trial.rebuild}
    assert {world.culprit, *world.history.parents[world.culprit]} <= rebuilt
    assert CONTROL in {trial.variant for trial in run.answer.proof}


@given(worlds(of=next_histories()))
@SETTINGS
def test_a_day_of_linux_next_takes_few_probes(world: World) -> None:
    count = len(world.history.parents)
    assert len(investigate(world).probes()) <= math.ceil(math.log2(count)) + 2


@given(worlds(flaky=True))
@SETTINGS
def test_a_lab_that_fails_now_and_then_comes_to_the_same_answer(world: World) -> None:
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits, run.answer.blame) == (
        Verdict.FOUND,
        (world.culprit,),
        world.blame,
    )
    steady = investigate(replace(world, flaky=0))
    assert len(dict.fromkeys(run.probes())) == len(steady.probes())


@given(worlds(flaky=True), st.data())
@SETTINGS
def test_commits_that_fail_otherwise_never_hide_the_culprit(
    world: World, data: st.DataObject
) -> None:
    others = sorted({*world.history.reachable()} - {world.history.bad, world.culprit})
    masked = data.draw(st.sets(st.sampled_from(others)) if others else st.just(set()))
    run = investigate(replace(world, masked=frozenset(masked)))
    assert run.answer.blame is world.blame
    if run.answer.verdict is Verdict.FOUND:
        assert run.answer.commits == (world.culprit,)
    else:
        assert run.answer.verdict is Verdict.AMBIGUOUS
        assert world.culprit in run.answer.commits
        assert masked.intersection(run.answer.commits)


@given(worlds(flaky=True), st.sampled_from([PASSED, failed(PANIC, Milestone.NOTHING)]))
@SETTINGS
def test_nobody_is_blamed_for_what_does_not_come_again(world: World, second: Evidence) -> None:
    world = replace(world, finding=HANG, milestone=Milestone.LINKED)
    bad = world.history.bad
    world.lies.update({Trial(commit=bad, variant=VARIANT, repeat=n): second for n in (1, 11, 21)})
    run = investigate(world)
    assert run.answer.verdict is Verdict.NOT_REPRODUCED
    assert run.answer.blame is None
    assert run.answer.commits == ()
    assert all(ask.confirmed is None for ask in run.asked)


@given(worlds(flaky=True))
@SETTINGS
def test_nobody_is_blamed_where_the_good_tag_fails_as_well(world: World) -> None:
    for again in (Trial(commit=GOOD_TAG, variant=VARIANT, repeat=n) for n in (1, 11, 21)):
        world.lies[again] = failed(world.finding, world.milestone)
        rebuilt = replace(again, rebuild=1, repeat=again.repeat - 1)
        world.lies[rebuilt] = failed(world.finding, world.milestone)
    run = investigate(world)
    assert run.answer.verdict is Verdict.BASELINE_FAILS
    assert run.answer.blame is None
    assert all(ask.confirmed is None for ask in run.asked)


@pytest.mark.parametrize("commit", [GOOD_TAG, "c1"])
def test_a_lab_that_never_answers_blames_nobody(commit: str) -> None:
    world = chain(4, culprit="c1")
    question = replace(world.question(), bad="c1" if commit == "c1" else world.history.bad)
    world.lies.update({Trial(commit=commit, variant=VARIANT, repeat=n): LAB_FAILED for n in
                       (1, 11, 21)})  # fmt: skip
    run = investigate(world, question)
    assert (run.answer.verdict, run.answer.blame) == (Verdict.NO_EVIDENCE, None)


def test_without_the_control_nobody_is_blamed() -> None:
    world = chain(4, culprit="c1")
    world.lies.update({Trial(commit="c3", variant=CONTROL, repeat=n): LAB_FAILED for n in
                       (0, 10, 20)})  # fmt: skip
    run = investigate(world)
    assert (run.answer.verdict, run.answer.blame) == (Verdict.NO_EVIDENCE, None)


def chain(count: int, *, culprit: str) -> World:
    """A row of commits c0 to c(count-1), the newest of which is the bad tag."""
    parents = {f"c{n}": (f"c{n - 1}" if n else "base",) for n in reversed(range(count))}
    return World(history=History(parents=parents, bad=f"c{count - 1}"), culprit=culprit)


def rebuilt(commit: str) -> Trial:
    return Trial(commit=commit, variant=VARIANT, rebuild=1)


@pytest.mark.parametrize(
    ("trial", "shown"),
    [
        (rebuilt("c2"), PASSED),
        (rebuilt("c1"), failed(HANG, Milestone.LINKED)),
    ],
)
def test_a_rebuild_that_shows_otherwise_contradicts(trial: Trial, shown: Evidence) -> None:
    world = chain(8, culprit="c2")
    world.lies[trial] = shown
    run = investigate(world)
    assert run.answer.verdict is Verdict.CONTRADICTED
    assert run.answer.commits == ("c2",)
    assert trial in run.answer.proof


@pytest.mark.parametrize(
    "shown", [failed(APPLY, Milestone.NOTHING), LAB_FAILED], ids=["masked", "infra"]
)
@pytest.mark.parametrize("commit", ["c1", "c2"])
def test_a_rebuild_that_shows_nothing_contradicts_nothing(commit: str, shown: Evidence) -> None:
    world = chain(8, culprit="c2")
    world.lies.update({replace(rebuilt(commit), repeat=n): shown for n in (0, 10, 20)})
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c2",))


def test_a_failure_that_comes_later_proves_that_the_problem_is_absent() -> None:
    world = chain(8, culprit="c4")
    world.lies.update(
        {Trial(commit=f"c{n}", variant=VARIANT): failed(PANIC, Milestone.INIT) for n in range(1, 4)}
    )
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c4",))


def test_a_bad_tag_that_adds_nothing_to_the_good_one_has_no_culprit() -> None:
    world = chain(1, culprit="c0")
    question = replace(world.question(), suspects={})
    run = investigate(world, question)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.AMBIGUOUS, ())


@pytest.mark.parametrize("milestone", [Milestone.NOTHING, Milestone.CONFIG, Milestone.COMPILED])
def test_what_never_booted_is_confirmed_by_building_again(milestone: Milestone) -> None:
    world = replace(chain(2, culprit="c1"), finding=COMPILE, milestone=milestone)
    first = plan(world.question(), world.tags())
    assert isinstance(first, Ask)
    again = [trial for trial in first.trials if trial.variant == VARIANT]
    assert {(trial.commit, trial.rebuild, trial.repeat) for trial in again} == {
        ("c1", 1, 0),
        (GOOD_TAG, 1, 0),
    }


@pytest.mark.parametrize("milestone", [Milestone.LINKED, Milestone.KERNEL, Milestone.TESTED])
def test_what_booted_is_confirmed_by_booting_again(milestone: Milestone) -> None:
    world = replace(chain(2, culprit="c1"), milestone=milestone)
    first = plan(world.question(), world.tags())
    assert isinstance(first, Ask)
    assert set(first.trials) == {
        Trial(commit="c1", variant=VARIANT, repeat=1),
        Trial(commit=GOOD_TAG, variant=VARIANT, repeat=1),
        Trial(commit="c1", variant=CONTROL),
    }


def test_trials_of_earlier_searches_are_not_asked_for_again() -> None:
    world = chain(64, culprit="c20")
    first = investigate(world)
    known = {
        trial: seen
        for trial, seen in first.evidence.items()
        if (trial.rebuild, trial.repeat) == (0, 0)
    }
    second = investigate(world, evidence=known)
    assert second.answer == first.answer
    assert second.probes() == []


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (PASSED, Verdict.FIXED),
        (failed(HANG, Milestone.LINKED), Verdict.NOT_FIXED),
        (LAB_FAILED, Verdict.NO_EVIDENCE),
    ],
)
def test_a_fix_is_believed_when_it_comes_again(shown: Evidence, verdict: Verdict) -> None:
    world = chain(2, culprit="c1")
    question = replace(world.question(), goal=Goal.FIX, fixed="next-tag")
    world.lies.update({Trial(commit="next-tag", variant=VARIANT, repeat=n): shown for n in
                       (1, 11, 21)})  # fmt: skip
    run = investigate(world, question)
    assert (run.answer.verdict, run.answer.blame, run.answer.commits) == (verdict, None, ())
    trials = [trial for ask in run.asked for trial in ask.trials]
    assert len(trials) == (3 if shown.outcome is Outcome.INFRA else 1)
