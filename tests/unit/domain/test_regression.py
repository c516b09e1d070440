# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.regression import (
    OPEN_STATES,
    TRANSITIONS,
    Better,
    NoBaseline,
    Regression,
    RegressionEvent,
    RegressionState,
    TagResult,
    Worse,
    judge,
    judge_key,
    judged_by,
)
from tests.unit.domain.trials import HANG, PANIC


def result(number: int, outcome: Outcome, finding: object = HANG) -> TagResult:
    assert finding in {HANG, PANIC}
    return TagResult(
        tag=f"next-{number}",
        commit=f"commit-{number}",
        outcome=outcome,
        milestone=Milestone.COLLECTED if outcome is Outcome.PASS else Milestone.LINKED,
        finding=(PANIC if finding == PANIC else HANG) if outcome is Outcome.FAIL else None,
    )


def history(*outcomes: Outcome) -> list[TagResult]:
    return [result(number, outcome) for number, outcome in enumerate(outcomes)]


def known(state: RegressionState = RegressionState.CONFIRMED) -> Regression:
    good, bad = history(Outcome.PASS, Outcome.FAIL)
    return Regression(
        id=7,
        tree="linux-next",
        variant="d" * 64,
        variant_name="x86_64",
        finding=HANG,
        milestone=Milestone.LINKED,
        good=good,
        bad=bad,
        state=state,
        opened_at=0.0,
    )


PASS, FAIL, INFRA = Outcome.PASS, Outcome.FAIL, Outcome.INFRA


@pytest.mark.parametrize("outcomes", [(), (INFRA,), (PASS,), (PASS, INFRA), (FAIL, PASS)])
def test_nothing_is_said_where_nothing_got_worse(outcomes: tuple[Outcome, ...]) -> None:
    assert judge(history(*outcomes), []) == ()


def test_the_last_good_tag_is_held_against_the_newest() -> None:
    results = history(PASS, PASS, FAIL)
    assert judge(results, []) == (Worse(good=results[1], bad=results[2]),)


def test_infra_says_nothing() -> None:
    results = history(PASS, INFRA, FAIL, INFRA)
    assert judge(results, []) == (Worse(good=results[0], bad=results[2]),)


def test_without_anything_that_ever_passed_there_is_no_baseline() -> None:
    results = history(FAIL, INFRA, FAIL)
    assert judge(results, []) == (NoBaseline(bad=results[2]),)


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_known_problem_is_opened_once(state: RegressionState) -> None:
    assert judge(history(PASS, FAIL, FAIL), [known(state)]) == ()


def test_another_problem_on_top_is_another_regression() -> None:
    results = [*history(PASS, FAIL), result(2, FAIL, PANIC)]
    assert judge(results, [known()]) == (Worse(good=results[0], bad=results[2]),)


def test_a_tag_that_passes_asks_of_each_open_regression_whether_it_is_fixed() -> None:
    results = history(PASS, FAIL, PASS)
    other = replace(known(RegressionState.BISECTED), id=9)
    assert judge(results, [known(), other]) == (
        Better(regression=7, fixed=results[2]),
        Better(regression=9, fixed=results[2]),
    )


def test_what_is_not_confirmed_cannot_be_fixed() -> None:
    assert judge(history(PASS, FAIL, PASS), [known(RegressionState.SUSPECTED)]) == ()


@given(st.lists(st.sampled_from(Outcome), max_size=8))
def test_infra_never_changes_a_judgement(outcomes: list[Outcome]) -> None:
    results = history(*outcomes)
    evidence = [one for one in results if one.outcome is not Outcome.INFRA]
    assert judge(results, []) == judge(evidence, [])


@given(st.lists(st.sampled_from(Outcome), max_size=8))
def test_a_regression_lies_between_a_tag_that_passes_and_a_later_one_that_fails(
    outcomes: list[Outcome],
) -> None:
    results = history(*outcomes)
    for judgement in judge(results, []):
        if isinstance(judgement, Worse):
            assert judgement.good.outcome is Outcome.PASS
            assert judgement.bad.outcome is Outcome.FAIL
            assert results.index(judgement.good) < results.index(judgement.bad)


def test_every_open_state_can_end_and_no_end_goes_on() -> None:
    for state in RegressionState:
        leaves = {after for (before, _), after in TRANSITIONS.items() if before is state}
        assert bool(leaves) == (state in OPEN_STATES)
    assert {event for _, event in TRANSITIONS} == set(RegressionEvent) - {RegressionEvent.OPENED}


@given(st.text(max_size=20), st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
def test_a_judge_key_is_read_back(tree: str, variant: str) -> None:
    assert judged_by(judge_key(tree, variant)) == (tree, variant)
