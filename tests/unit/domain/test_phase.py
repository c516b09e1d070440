# SPDX-License-Identifier: GPL-2.0-or-later
"""Phases of a boot, and what is usual."""

from __future__ import annotations

import pytest

from kwatch.domain.boot.phase import (
    BootPhase,
    Deadlines,
    after,
    durations,
    goal,
    longest_idle,
    usual,
)
from kwatch.domain.milestone import Milestone


def test_every_phase_has_a_deadline_and_a_goal() -> None:
    for phase in BootPhase:
        assert Deadlines().of(phase) > 0
        assert goal(phase).startswith("to ")


@pytest.mark.parametrize(
    ("milestone", "phase"),
    [
        (Milestone.LINKED, BootPhase.KERNEL),
        (Milestone.KERNEL, BootPhase.INIT),
        (Milestone.INIT, BootPhase.TESTS),
        (Milestone.TESTED, BootPhase.COLLECT),
        (Milestone.COLLECTED, BootPhase.COLLECT),
    ],
)
def test_a_milestone_begins_a_phase(milestone: Milestone, phase: BootPhase) -> None:
    assert after(milestone) is phase


def test_a_phase_lasts_from_one_milestone_to_the_next() -> None:
    reached = [(Milestone.KERNEL, 1.0), (Milestone.INIT, 3.5), (Milestone.TESTED, 10.0),
               (Milestone.COLLECTED, 10.5)]  # fmt: skip
    assert durations(reached) == {"kernel": 1.0, "init": 2.5, "tests": 6.5, "collect": 0.5}


def test_what_was_jumped_over_ends_nothing() -> None:
    # A guest without a console: its first word is the first that is heard.
    assert durations([(Milestone.INIT, 3.5), (Milestone.TESTED, 10.0)]) == {"tests": 6.5}


def test_what_is_usual_takes_some_boots() -> None:
    boots = [{"init": float(number)} for number in range(1, 101)]
    assert usual(boots) == {BootPhase.INIT: 99.0}
    assert usual(boots[:4]) == {}
    assert usual([{"dancing": 1.0}] * 9) == {}


def test_an_idle_guest_gets_a_minute_at_least() -> None:
    assert longest_idle(BootPhase.INIT, {}) is None
    assert longest_idle(BootPhase.INIT, {BootPhase.INIT: 2.0}) == 60.0
    assert longest_idle(BootPhase.TESTS, {BootPhase.TESTS: 100.0}) == 500.0
