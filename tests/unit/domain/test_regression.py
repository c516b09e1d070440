# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.lane import TagRun
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.regression import (
    CLOSED_STATES,
    OPEN_STATES,
    TRANSITIONS,
    Regression,
    RegressionEvent,
    RegressionState,
)
from tests.unit.domain import trials
from tests.unit.domain.trials import HANG, LANE, PASSED, failed


def after(state: RegressionState, *events: RegressionEvent) -> RegressionState:
    for event in events:
        state = TRANSITIONS[state, event]
    return state


def test_every_open_state_can_end_and_a_false_alarm_never_goes_on() -> None:
    for state in RegressionState:
        leaves = {
            end for (before, _), end in TRANSITIONS.items() if before is state and end != state
        }
        if state in OPEN_STATES:
            assert leaves & set(CLOSED_STATES)
    assert all(before is not RegressionState.INVALID for before, _ in TRANSITIONS)
    assert {event for _, event in TRANSITIONS} == set(RegressionEvent) - {RegressionEvent.OPENED}


def test_every_state_is_open_or_closed() -> None:
    assert sorted((*OPEN_STATES, *CLOSED_STATES)) == sorted(RegressionState)


def test_what_is_fixed_opens_again_only_where_it_shows_again() -> None:
    opens = {
        event
        for (before, event), end in TRANSITIONS.items()
        if before in CLOSED_STATES and end in OPEN_STATES
    }
    assert opens == {RegressionEvent.REAPPEARED, RegressionEvent.SPREAD}


def test_a_culprit_is_told_though_a_tag_passed_before_it_was_found() -> None:
    event = RegressionEvent
    start = RegressionState.SUSPECTED
    assert after(start, event.CONFIRMED, event.FIXED, event.BISECTED) is RegressionState.FIXED
    assert after(start, event.CONFIRMED, event.FIXED, event.INCONCLUSIVE) is RegressionState.FIXED
    assert after(start, event.CONFIRMED, event.BISECTED, event.FIXED) is RegressionState.FIXED
    assert (
        after(start, event.CONFIRMED, event.FIXED, event.REAPPEARED, event.BISECTED)
        is RegressionState.CONFIRMED
    )


def test_what_was_never_confirmed_is_neither_bisected_nor_fixed() -> None:
    events = {event for before, event in TRANSITIONS if before is RegressionState.SUSPECTED}
    assert not events & {
        RegressionEvent.BISECTED,
        RegressionEvent.INCONCLUSIVE,
        RegressionEvent.FIXED,
        RegressionEvent.REAPPEARED,
    }


def test_a_regression_goes_by_all_names_of_its_finding() -> None:
    stall = replace(HANG, alternatives=("rcu detected stall in f",))
    good = TagRun(revision=1, tag="next-1", number=1, trial=trials.trial("a" * 40), seen=PASSED)
    bad = replace(
        good,
        revision=2,
        tag="next-2",
        trial=trials.trial("b" * 40),
        seen=failed(stall, Milestone.LINKED),
    )
    regression = Regression(
        id=7,
        lane=LANE,
        facet=Facet.FAILURE,
        finding=stall,
        milestone=Milestone.LINKED,
        good=good,
        bad=bad,
        state=RegressionState.SUSPECTED,
        opened_at=0.0,
    )
    assert bad.seen is not None
    assert regression.problem.fingerprints == bad.seen.causes
    assert len(regression.problem.fingerprints) == 2
    assert not regression.problem.is_erratic
    assert (regression.tree, regression.variant_name) == (LANE.tree, LANE.variant)
    assert regression.fingerprint == HANG.fingerprint
