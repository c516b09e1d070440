# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.case import GIVE_UP, evidence_for
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.investigation import CONFIRMATIONS, plan
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Ask, Phase, Verdict
from tests.unit.domain import trials
from tests.unit.domain.histories import next_histories
from tests.unit.domain.investigations import (
    GOOD_TAG,
    World,
    chain,
    in_environment,
    investigate,
    worlds,
)
from tests.unit.domain.trials import APPLY, COMPILE, HANG, LAB_FAILED, PANIC, PASSED, failed

if TYPE_CHECKING:
    from kwatch.domain.trial.seen import Seen

SETTINGS = settings(max_examples=30, deadline=None)
OOPS = Finding(kind=FindingKind.OOPS, title="unable to handle page fault in f")
SPLAT = Finding(kind=FindingKind.LOCKDEP, title="possible deadlock in f", severity=Severity.WARNING)
GIVEN_UP = replace(LAB_FAILED, tries=GIVE_UP)


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
    assert len(run.probes()) == len(steady.probes())
    # Which boots come first decides how many are needed.
    assert replace(run.answer, clean=None) == replace(steady.answer, clean=None)


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
        if masked.intersection(world.history.parents[world.culprit]):
            assert run.answer.grade is Grade.LIKELY
    else:
        assert run.answer.verdict is Verdict.AMBIGUOUS
        assert run.answer.grade is Grade.SET
        assert world.culprit in run.answer.commits
        assert masked.intersection(run.answer.commits)


@pytest.mark.parametrize("count", [16, 64, 200])
def test_what_cannot_be_tested_costs_each_commit_once_and_no_more(count: int) -> None:
    masked = frozenset(f"c{n}" for n in range(count // 4, count // 2))
    world = replace(chain(count, culprit=f"c{count // 4 - 1}"), masked=masked)
    run = investigate(world)
    assert len(run.probes()) <= len(masked) + math.ceil(math.log2(count)) + 2
    remaining = [ask.remaining for ask in run.asked if ask.phase is Phase.BISECT]
    assert all(left is not None for left in remaining)
    assert remaining == sorted(remaining, key=lambda left: -(left or 0))


@given(worlds(flaky=True), st.sampled_from([PASSED, failed(PANIC, Milestone.NOTHING)]))
@SETTINGS
def test_nobody_is_blamed_for_what_does_not_come_again(world: World, second: Seen) -> None:
    world = replace(world, finding=HANG, milestone=Milestone.LINKED)
    bad = world.history.bad
    world.lies.update({world.trial(bad, repeat=n): second for n in range(1, CONFIRMATIONS + 1)})
    run = investigate(world)
    # What fails before the place says nothing, so nothing is said of the bug either.
    is_evidence = second == PASSED
    assert run.answer.verdict is (Verdict.NOT_REPRODUCED if is_evidence else Verdict.NO_EVIDENCE)
    assert run.answer.blame is None
    assert run.answer.commits == ()
    assert all(ask.confirmed is None for ask in run.asked)


@given(worlds())
@SETTINGS
def test_a_build_that_fails_once_is_not_reproduced(world: World) -> None:
    world = replace(world, finding=COMPILE, milestone=Milestone.CONFIG)
    world.lies[world.trial(world.history.bad, rebuild=1)] = PASSED
    assert investigate(world).answer.verdict is Verdict.NOT_REPRODUCED


@given(worlds(flaky=True))
@SETTINGS
def test_nobody_is_blamed_where_the_good_tag_fails_as_well(world: World) -> None:
    for again in (world.trial(GOOD_TAG, repeat=1), world.trial(GOOD_TAG, rebuild=1)):
        world.lies[again] = world.bad
    run = investigate(world)
    assert run.answer.verdict is Verdict.BASELINE_FAILS
    assert run.answer.blame is None
    assert all(ask.confirmed is None for ask in run.asked)


@pytest.mark.parametrize(
    ("commit", "verdict"), [(GOOD_TAG, Verdict.NO_BASELINE), ("c1", Verdict.NO_EVIDENCE)]
)
@pytest.mark.parametrize("shown", [GIVEN_UP, failed(APPLY, Milestone.NOTHING)])
def test_a_lab_that_never_answers_blames_nobody(commit: str, verdict: Verdict, shown: Seen) -> None:
    world = chain(2, culprit="c1")
    world.lies[world.trial(commit, repeat=1)] = shown
    run = investigate(world)
    assert (run.answer.verdict, run.answer.blame) == (verdict, None)
    assert all(ask.confirmed is None for ask in run.asked)


def test_a_lab_that_failed_is_asked_again_until_it_is_given_up() -> None:
    world = chain(2, culprit="c1")
    question = world.question()
    settled = world.tags()
    again = world.trial("c1", repeat=1)
    for tries in range(GIVE_UP):
        settled[again] = replace(LAB_FAILED, tries=tries)
        result = plan(question, evidence_for(question, settled))
        assert isinstance(result, Ask)
        assert again in result.trials
    settled[again] = replace(LAB_FAILED, tries=GIVE_UP)
    result = plan(question, evidence_for(question, settled))
    assert isinstance(result, Ask)
    assert again not in result.trials


@pytest.mark.parametrize(
    ("shown", "blame"),
    [
        (GIVEN_UP, Blame.UNKNOWN),
        (failed(APPLY, Milestone.NOTHING), Blame.UNKNOWN),
        (failed(COMPILE, Milestone.CONFIG), Blame.UNKNOWN),
        (failed(PANIC, Milestone.KERNEL), Blame.UNKNOWN),
        (failed(PANIC, Milestone.TESTED), Blame.SERIES),
        (PASSED, Blame.SERIES),
        (failed(HANG, Milestone.INIT), Blame.TREE),
        (failed(HANG, Milestone.NOTHING), Blame.TREE),
    ],
)
def test_only_a_control_that_fails_in_the_same_way_blames_the_tree(
    shown: Seen, blame: Blame
) -> None:
    world = replace(chain(4, culprit="c1"), milestone=Milestone.INIT)
    world.lies[world.trial("c3", control=True)] = shown
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c1",))
    assert run.answer.blame is blame
    assert {ask.confirmed for ask in run.asked} == {None, blame}


def test_a_control_that_fails_otherwise_is_no_proof_though_the_hang_has_other_names() -> None:
    world = chain(4, culprit="c1")
    world = replace(world, finding=replace(HANG, alternatives=("rcu detected stall in f",)))
    world.lies[world.trial("c3", control=True)] = failed(PANIC, Milestone.LINKED)
    assert investigate(world).answer.blame is Blame.UNKNOWN


def test_a_failure_that_comes_later_proves_that_the_problem_is_absent() -> None:
    world = chain(8, culprit="c4")
    world.lies.update({world.trial(f"c{n}"): failed(PANIC, Milestone.INIT) for n in range(1, 4)})
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c4",))


@pytest.mark.parametrize("place", [Milestone.LINKED, Milestone.KERNEL, Milestone.TESTED])
def test_another_failure_at_the_confirmation_is_the_same_problem(place: Milestone) -> None:
    world = chain(8, culprit="c4")
    others = (failed(PANIC, place), failed(OOPS, Milestone.KERNEL))
    world.lies.update({world.trial("c7", repeat=n): others[0] for n in range(1, 4)})
    world.lies.update({world.trial("c5", repeat=n): others[1] for n in range(10)})
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c4",))
    assert run.answer.blame is Blame.TREE


def test_a_failure_that_the_good_tag_shows_too_is_another_problem() -> None:
    world = chain(8, culprit="c4")
    panics = failed(PANIC, Milestone.INIT)
    world.lies.update({world.trial("c7", repeat=n): panics for n in range(1, 4)})
    world.lies[world.trial(GOOD_TAG, repeat=1)] = panics
    run = investigate(world)
    assert (run.answer.verdict, run.answer.blame) == (Verdict.NOT_REPRODUCED, None)


def test_a_build_that_fails_otherwise_does_not_widen_the_problem() -> None:
    world = chain(8, culprit="c4")
    world.lies[world.trial("c7", repeat=1)] = failed(COMPILE, Milestone.CONFIG)
    assert investigate(world).answer.verdict is Verdict.NO_EVIDENCE


@pytest.mark.parametrize("finding", [HANG, COMPILE])
def test_a_good_tag_that_fails_with_the_new_tools_blames_the_tools(finding: Finding) -> None:
    place = Milestone.LINKED if finding == HANG else Milestone.CONFIG
    world = replace(chain(8, culprit="c4"), finding=finding, milestone=place)
    world = replace(world, good_environment="0" * 16)
    for again in (world.trial(GOOD_TAG, repeat=1), world.trial(GOOD_TAG, rebuild=1)):
        world.lies[again] = world.bad
    run = investigate(world)
    assert (run.answer.verdict, run.answer.blame) == (Verdict.CHANGED, Blame.TOOLCHAIN)
    assert run.answer.commits == ()
    assert run.probes() == []
    # All trials are by the tools that the bad tag was built by.
    asked = {trial.sample.environment for ask in run.asked for trial in ask.trials}
    assert asked == {trials.ENVIRONMENT}


def test_a_good_tag_that_passes_with_the_new_tools_blames_a_commit() -> None:
    world = replace(chain(8, culprit="c4"), good_environment="0" * 16)
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c4",))
    assert run.answer.blame is Blame.TREE


@pytest.mark.parametrize(
    ("changes", "blame"),
    [
        ({"series": "0" * 64}, Blame.SERIES),
        ({"build": "0" * 64}, Blame.CONFIG),
        ({"boot": "0" * 64}, Blame.CONFIG),
        ({"build": "0" * 64, "series": "0" * 64}, Blame.UNKNOWN),
    ],
)
def test_a_good_tag_that_fails_with_what_is_new_blames_what_is_new(
    changes: dict[str, str], blame: Blame
) -> None:
    world = chain(8, culprit="c4")
    question = world.question()
    question = replace(question, epoch=replace(question.epoch, **changes))
    world.lies[world.trial(GOOD_TAG, repeat=1)] = world.bad
    answer = investigate(world, question).answer
    assert (answer.verdict, answer.blame) == (Verdict.CHANGED, blame)


@pytest.mark.parametrize("blame", [Blame.TREE, Blame.SERIES])
def test_the_commit_that_brought_a_warning_is_found(blame: Blame) -> None:
    world = replace(
        chain(16, culprit="c5"),
        finding=SPLAT,
        milestone=Milestone.COLLECTED,
        facet=Facet.WARNING,
        blame=blame,
        masked=frozenset({"c8", "c4"}),
    )
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.AMBIGUOUS, ("c5", "c4"))
    run = investigate(replace(world, masked=frozenset({"c8"})))
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c5",))
    assert (run.answer.blame, run.answer.grade) == (blame, Grade.VERIFIED)


def test_a_bad_tag_that_adds_nothing_to_the_good_one_has_no_culprit() -> None:
    world = chain(1, culprit="c0")
    run = investigate(world, replace(world.question(), suspects={}))
    assert (run.answer.verdict, run.answer.commits) == (Verdict.AMBIGUOUS, ())
    assert run.answer.grade is None


@pytest.mark.parametrize("milestone", [Milestone.NOTHING, Milestone.CONFIG, Milestone.COMPILED])
def test_what_never_booted_is_confirmed_by_building_again(milestone: Milestone) -> None:
    world = replace(chain(2, culprit="c1"), finding=COMPILE, milestone=milestone)
    question = world.question()
    first = plan(question, evidence_for(question, world.tags()))
    assert isinstance(first, Ask)
    assert set(first.trials) == {
        world.trial("c1", rebuild=1),
        world.trial(GOOD_TAG, rebuild=1),
        world.trial("c1", control=True),
    }


@pytest.mark.parametrize("milestone", [Milestone.LINKED, Milestone.KERNEL, Milestone.TESTED])
def test_what_booted_is_confirmed_by_booting_again(milestone: Milestone) -> None:
    world = replace(chain(2, culprit="c1"), milestone=milestone)
    question = world.question()
    first = plan(question, evidence_for(question, world.tags()))
    assert isinstance(first, Ask)
    assert set(first.trials) == {
        world.trial("c1", repeat=1),
        world.trial(GOOD_TAG, repeat=1),
        world.trial("c1", control=True),
    }


def test_one_boot_clears_neither_the_good_tag_nor_the_control_of_a_flaky_bug() -> None:
    world = chain(4, culprit="c1")
    question, settled = world.question(), world.tags()

    def asked() -> Ask:
        found = plan(question, evidence_for(question, settled))
        assert isinstance(found, Ask)
        return found

    # It fails in one boot of two.
    bad = in_environment(world.bad, trials.ENVIRONMENT)
    good = in_environment(PASSED, trials.ENVIRONMENT)
    settled[world.trial("c3", repeat=1)] = good
    settled[world.trial("c3", repeat=2)] = bad
    settled[world.trial(GOOD_TAG, repeat=1)] = good
    settled[world.trial("c3", control=True)] = good
    assert asked().phase is Phase.CONFIRM
    more = asked().trials
    assert len(more) >= 2
    assert {trial.commit for trial in more} == {GOOD_TAG}
    settled |= dict.fromkeys(more, good)
    assert asked().phase is Phase.BLAME
    more = asked().trials
    assert len(more) >= 2
    assert all(trial.is_control for trial in more)
    settled[more[0]] = bad
    # It shows less often than it seemed, so the good tag is tried a few times more.
    while asked().phase is Phase.CONFIRM:
        assert {trial.commit for trial in asked().trials} == {GOOD_TAG}
        settled |= dict.fromkeys(asked().trials, good)
    assert (asked().phase, asked().confirmed) == (Phase.BISECT, Blame.TREE)


def test_trials_of_earlier_searches_are_not_asked_for_again() -> None:
    world = chain(64, culprit="c20")
    first = investigate(world)
    known = {
        trial: seen
        for trial, seen in first.evidence.items()
        if (trial.sample.rebuild, trial.sample.repeat) == (0, 0)
    }
    second = investigate(world, evidence=known)
    assert second.answer == first.answer
    assert second.probes() == []


def test_the_trial_of_a_tag_says_what_it_showed_with_the_tools_that_it_had() -> None:
    world = replace(chain(2, culprit="c1"), finding=COMPILE, milestone=Milestone.CONFIG)
    question = world.question()
    old = replace(PASSED, environment="0" * 16)
    found = evidence_for(question, {trials.trial("c0"): old, trials.trial("c1"): world.bad})
    named = world.trial("c0")
    assert named not in found
    assert found[replace(named, sample=replace(named.sample, environment="0" * 16))] == old
    # What was never built had no tools.
    assert found[world.trial("c1")] == world.bad


def test_a_trial_that_was_asked_for_comes_before_that_of_a_tag() -> None:
    world = chain(2, culprit="c1")
    of_tag, asked = trials.trial("c1"), world.trial("c1")
    settled = {asked: world.bad, of_tag: replace(PASSED, environment=trials.ENVIRONMENT)}
    for order in (settled, dict(reversed(settled.items()))):
        assert evidence_for(world.question(), order)[asked] == world.bad
