# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.case import GIVE_UP
from kwatch.domain.verdict.question import Answer, Goal, Verdict
from tests.unit.domain.investigations import World, chain, investigate
from tests.unit.domain.trials import APPLY, COMPILE, HANG, LAB_FAILED, PASSED, failed

if TYPE_CHECKING:
    from kwatch.domain.trial.seen import Seen
    from kwatch.domain.trial.trial import Trial

OOPS = Finding(kind=FindingKind.OOPS, title="unable to handle page fault in f")
HANGS = failed(HANG, Milestone.LINKED)
GIVEN_UP = replace(LAB_FAILED, tries=GIVE_UP)


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (PASSED, Verdict.FIXED),
        (HANGS, Verdict.NOT_FIXED),
        (GIVEN_UP, Verdict.NO_EVIDENCE),
        (failed(APPLY, Milestone.NOTHING), Verdict.NO_EVIDENCE),
    ],
)
def test_a_fix_is_believed_when_it_comes_again(shown: Seen, verdict: Verdict) -> None:
    world = chain(2, culprit="c1")
    question = replace(world.question(), goal=Goal.FIX, fixed="next-tag")
    world.lies[world.trial("next-tag", repeat=1)] = shown
    run = investigate(world, question)
    assert (run.answer.verdict, run.answer.blame, run.answer.commits) == (verdict, None, ())
    assert [trial for ask in run.asked for trial in ask.trials] == [
        world.trial("next-tag", repeat=1)
    ]


def flaky_case() -> tuple[World, dict[Trial, Seen]]:
    """A bug that showed one time in three."""
    world = chain(2, culprit="c1")
    settled = world.tags()
    settled |= {world.trial("c1", repeat=n): PASSED for n in (1, 2)}
    return world, settled


def test_a_bug_that_shows_one_time_in_three_is_fixed_after_many_passes_only() -> None:
    world, settled = flaky_case()
    question = replace(world.question(), goal=Goal.FIX, fixed="next-tag")
    run = investigate(world, question, settled)
    assert run.answer.verdict is Verdict.FIXED
    assert len(run.answer.proof) == 8
    assert {trial.sample.repeat for trial in run.answer.proof} == set(range(1, 9))


@pytest.mark.parametrize("number", [1, 4, 8])
def test_a_bug_that_shows_once_in_many_boots_is_not_fixed(number: int) -> None:
    world, settled = flaky_case()
    question = replace(world.question(), goal=Goal.FIX, fixed="next-tag")
    world.lies[world.trial("next-tag", repeat=number)] = HANGS
    run = investigate(world, question, settled)
    assert run.answer.verdict is Verdict.NOT_FIXED
    assert world.trial("next-tag", repeat=number) in run.answer.proof


def test_a_build_is_fixed_by_one_clean_build() -> None:
    world = replace(chain(2, culprit="c1"), finding=COMPILE, milestone=Milestone.CONFIG)
    question = replace(world.question(), goal=Goal.FIX, fixed="next-tag")
    run = investigate(world, question)
    assert run.answer == Answer(verdict=Verdict.FIXED, proof=(world.trial("next-tag", rebuild=1),))
