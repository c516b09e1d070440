# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.case import GIVE_UP
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.investigation import CONFIRMATIONS
from kwatch.domain.verdict.question import Phase, Verdict
from tests.unit.domain.histories import next_histories
from tests.unit.domain.investigations import World, chain, investigate, worlds
from tests.unit.domain.trials import APPLY, COMPILE, HANG, LAB_FAILED, PANIC, PASSED, failed

if TYPE_CHECKING:
    from kwatch.domain.trial.seen import Seen
    from kwatch.domain.trial.trial import Trial

SETTINGS = settings(max_examples=30, deadline=None)
OOPS = Finding(kind=FindingKind.OOPS, title="unable to handle page fault in f")
HANGS = failed(HANG, Milestone.LINKED)
GIVEN_UP = replace(LAB_FAILED, tries=GIVE_UP)


@given(st.one_of(worlds(), worlds(of=next_histories())))
@SETTINGS
def test_the_culprit_is_found_and_proven(world: World) -> None:
    run = investigate(world)
    assert run.answer.verdict is Verdict.FOUND
    assert run.answer.commits == (world.culprit,)
    assert run.answer.blame is world.blame
    assert (run.answer.grade, run.answer.doubts) == (Grade.VERIFIED, ())
    rebuilt = {trial.commit for trial in run.answer.proof if trial.sample.rebuild}
    assert {world.culprit, *world.history.parents[world.culprit]} <= rebuilt
    assert any(trial.is_control for trial in run.answer.proof)


@pytest.mark.parametrize("last", range(2, CONFIRMATIONS + 1))
def test_a_bug_that_shows_at_times_is_confirmed_by_one_of_some_boots(last: int) -> None:
    world = chain(4, culprit="c1")
    world.lies.update({world.trial("c3", repeat=n): PASSED for n in range(1, last)})
    run = investigate(world)
    assert (run.answer.verdict, run.answer.commits) == (Verdict.FOUND, ("c1",))
    assert run.answer.grade is Grade.LIKELY
    assert run.answer.doubts == ("the failure does not show in every boot",)


def rebuilt(world: World, commit: str, repeat: int = 0) -> Trial:
    return world.trial(commit, rebuild=1, repeat=repeat)


@pytest.mark.parametrize(("commit", "shown"), [("c2", PASSED), ("c1", HANGS)])
def test_a_rebuild_that_shows_otherwise_contradicts(commit: str, shown: Seen) -> None:
    world = chain(8, culprit="c2")
    trial = rebuilt(world, commit)
    world.lies[trial] = shown
    run = investigate(world)
    assert run.answer.verdict is Verdict.CONTRADICTED
    assert run.answer.commits == ("c2",)
    assert run.answer.grade is Grade.SET
    assert trial in run.answer.proof


@pytest.mark.parametrize("culprit", ["c0", "c2"])
def test_a_parent_that_fails_in_a_later_boot_contradicts_too(culprit: str) -> None:
    world = chain(8, culprit=culprit)
    parent = world.history.parents[culprit][0]
    world.lies[rebuilt(world, parent, repeat=1)] = HANGS
    answer = investigate(world).answer
    assert answer.verdict is Verdict.CONTRADICTED
    assert answer.clean is not None
    assert answer.clean.parents.bad == 1


@pytest.mark.parametrize(
    "shown",
    [
        failed(APPLY, Milestone.NOTHING),
        failed(COMPILE, Milestone.CONFIG),
        failed(PANIC, Milestone.LINKED),
        GIVEN_UP,
    ],
    ids=["apply", "compile", "panic", "infra"],
)
@pytest.mark.parametrize("commit", ["c1", "c2"])
def test_a_rebuild_that_shows_nothing_contradicts_nothing_and_proves_nothing(
    commit: str, shown: Seen
) -> None:
    world = chain(8, culprit="c2")
    world.lies[rebuilt(world, commit)] = shown
    answer = investigate(world).answer
    assert (answer.verdict, answer.commits) == (Verdict.FOUND, ("c2",))
    assert answer.grade is Grade.LIKELY
    side = "this commit does not fail in the same way" if commit == "c2" else "its parent"
    assert any(side in doubt for doubt in answer.doubts)


@given(worlds(), st.integers(1, 9))
@SETTINGS
def test_a_bug_that_shows_at_times_is_never_verified(world: World, shows: int) -> None:
    world = replace(world, finding=HANG, milestone=Milestone.LINKED, shows=shows)
    run = investigate(world)
    has_passed = any(
        seen.outcome is Outcome.PASS and not trial.is_control
        for trial, seen in run.evidence.items()
        if trial.commit == world.history.bad
    )
    assert not (has_passed and run.answer.grade is Grade.VERIFIED)


def test_one_boot_of_each_side_is_not_beyond_luck() -> None:
    world = chain(1, culprit="c0")
    run = investigate(world)
    clean = run.answer.clean
    assert run.answer.grade is Grade.VERIFIED
    assert clean is not None
    assert clean.culprit.bad > 1
    assert clean.parents.good > 1
    # A lab that gives up at more boots leaves it to luck.
    lucky = chain(1, culprit="c0")
    for commit in ("c0", "base"):
        lies = {rebuilt(lucky, commit, repeat=n): GIVEN_UP for n in range(1, 10)}
        lucky.lies.update(lies)
    answer = investigate(lucky).answer
    assert answer.grade is Grade.LIKELY
    assert answer.doubts == ("there are too few boots to rule out that its parent passes by luck",)


def test_clean_builds_are_counted_without_the_others() -> None:
    world = chain(8, culprit="c2")
    run = investigate(world)
    clean = run.answer.clean
    assert clean is not None
    for side, commits in ((clean.culprit, ("c2",)), (clean.parents, ("c1",))):
        assert side.runs == sum(
            1
            for trial in run.evidence
            if trial.commit in commits and trial.sample.rebuild and not trial.is_control
        )


def test_a_build_is_proven_by_one_rebuild_of_each_side() -> None:
    world = replace(chain(8, culprit="c2"), finding=COMPILE, milestone=Milestone.CONFIG)
    run = investigate(world)
    assert run.answer.grade is Grade.VERIFIED
    assert [trial.commit for ask in run.asked if ask.phase is Phase.VERIFY for trial in ask.trials]
    assert run.answer.clean is not None
    assert (str(run.answer.clean.culprit), str(run.answer.clean.parents)) == ("1/1", "0/1")
    assert all(trial.until is Milestone.LINKED for ask in run.asked for trial in ask.trials)


def test_doubts_take_the_proof_away_and_add_up() -> None:
    answer = investigate(chain(2, culprit="c1")).answer
    assert answer.doubted(()) == answer
    doubted = answer.doubted(("it is a merge",))
    assert (doubted.grade, doubted.doubts) == (Grade.LIKELY, ("it is a merge",))
