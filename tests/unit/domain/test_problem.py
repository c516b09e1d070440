# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.case_results import case_fingerprint
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen, fingerprints_of
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.problem import Facet, Problem
from tests.unit.domain.trials import COMPILE, HANG, LAB_FAILED, PANIC, PASSED, failed

SPLAT = Finding(kind=FindingKind.LOCKDEP, title="possible deadlock in f", severity=Severity.WARNING)
HANGS = Problem(facet=Facet.FAILURE, fingerprints=fingerprints_of(HANG), milestone=Milestone.KERNEL)
WARNS = Problem(
    facet=Facet.WARNING, fingerprints=fingerprints_of(SPLAT), milestone=Milestone.COLLECTED
)
ERRATIC = replace(HANGS, is_erratic=True)


@pytest.mark.parametrize("problem", [HANGS, WARNS, ERRATIC])
@pytest.mark.parametrize(
    "seen", [LAB_FAILED, Seen(outcome=Outcome.REFUSED, milestone=Milestone.NOTHING)]
)
def test_what_says_nothing_of_a_kernel_says_nothing_of_a_problem(
    problem: Problem, seen: Seen
) -> None:
    assert problem.mark(seen) is Mark.UNTESTABLE


@pytest.mark.parametrize("problem", [HANGS, ERRATIC])
def test_a_trial_that_passes_is_free_of_a_failure(problem: Problem) -> None:
    assert problem.mark(PASSED) is Mark.GOOD
    assert problem.mark(replace(PASSED, others=(HANG,))) is Mark.GOOD


@pytest.mark.parametrize(
    ("milestone", "mark"),
    [
        (Milestone.NOTHING, Mark.UNTESTABLE),
        (Milestone.CONFIG, Mark.UNTESTABLE),
        (Milestone.LINKED, Mark.UNTESTABLE),
        (Milestone.KERNEL, Mark.UNTESTABLE),
        (Milestone.INIT, Mark.GOOD),
        (Milestone.TESTED, Mark.GOOD),
    ],
)
def test_another_failure_is_good_only_past_the_place(milestone: Milestone, mark: Mark) -> None:
    assert HANGS.mark(failed(PANIC, milestone)) is mark


@pytest.mark.parametrize("milestone", Milestone)
def test_the_same_failure_is_bad_wherever_it_shows(milestone: Milestone) -> None:
    assert HANGS.mark(failed(HANG, milestone)) is Mark.BAD


def test_a_failure_goes_by_all_its_names() -> None:
    stall = replace(HANG, alternatives=("rcu detected stall in f",))
    other = replace(PANIC, kind=HANG.kind, alternatives=("rcu detected stall in f",))
    problem = replace(HANGS, fingerprints=fingerprints_of(stall))
    assert problem.mark(failed(other, Milestone.KERNEL)) is Mark.BAD


def test_a_failure_of_many_names_is_still_told_from_others() -> None:
    stall = replace(HANG, alternatives=("rcu detected stall in f", "task f blocked for N seconds"))
    problem = replace(HANGS, fingerprints=fingerprints_of(stall))
    assert problem.mark(failed(PANIC, Milestone.KERNEL)) is Mark.UNTESTABLE
    assert problem.mark(failed(PANIC, Milestone.INIT)) is Mark.GOOD


@pytest.mark.parametrize(
    ("milestone", "mark"),
    [
        (Milestone.CONFIG, Mark.UNTESTABLE),
        (Milestone.COMPILED, Mark.UNTESTABLE),
        (Milestone.LINKED, Mark.BAD),
        (Milestone.KERNEL, Mark.BAD),
        (Milestone.TESTED, Mark.BAD),
    ],
)
def test_where_a_kernel_fails_in_many_ways_every_failure_of_a_boot_counts(
    milestone: Milestone, mark: Mark
) -> None:
    assert ERRATIC.mark(failed(PANIC, milestone)) is mark


def test_a_build_never_fails_erratically() -> None:
    problem = Problem(
        facet=Facet.FAILURE,
        fingerprints=fingerprints_of(COMPILE),
        milestone=Milestone.CONFIG,
        is_erratic=True,
    )
    assert problem.mark(failed(PANIC, Milestone.KERNEL)) is Mark.GOOD


def test_a_warning_is_looked_for_in_trials_that_pass() -> None:
    assert WARNS.mark(replace(PASSED, others=(COMPILE, SPLAT))) is Mark.BAD
    assert WARNS.mark(replace(PASSED, others=(COMPILE,))) is Mark.GOOD


@pytest.mark.parametrize("milestone", Milestone)
def test_a_trial_that_fails_may_have_died_before_the_warning(milestone: Milestone) -> None:
    seen = failed(PANIC, milestone)
    assert WARNS.mark(seen) is Mark.UNTESTABLE
    assert WARNS.mark(replace(seen, others=(SPLAT,))) is Mark.BAD
    assert WARNS.mark(failed(SPLAT, milestone)) is Mark.BAD


@pytest.mark.parametrize("fails_boot", [False, True])
def test_a_test_is_good_where_it_passed_and_bad_where_it_failed(fails_boot: bool) -> None:
    finding = Finding(kind=FindingKind.TEST, title="a.b fails")
    problem = Problem(
        facet=Facet.TEST, fingerprints=fingerprints_of(finding), milestone=Milestone.COLLECTED
    )
    base = failed(PANIC, Milestone.TESTED) if fails_boot else PASSED
    names = {name: case_fingerprint(name) for name in ("a", "a.b", "c")}
    ran = replace(base, cases_run=frozenset(names.values()))
    assert problem.mark(ran) is Mark.GOOD
    assert problem.mark(replace(ran, cases_failed=frozenset({names["c"]}))) is Mark.GOOD
    assert problem.mark(replace(ran, cases_failed=frozenset({names["a.b"]}))) is Mark.BAD
    # Skipped, or not reached.
    assert problem.mark(replace(base, cases_run=frozenset({names["c"]}))) is Mark.UNTESTABLE
    assert problem.mark(base) is Mark.UNTESTABLE
    assert problem.mark(replace(ran, outcome=Outcome.INFRA)) is Mark.UNTESTABLE


@pytest.mark.parametrize(
    ("milestone", "until"),
    [
        (Milestone.NOTHING, Milestone.CHECKOUT),
        (Milestone.CHECKOUT, Milestone.LINKED),
        (Milestone.CONFIG, Milestone.LINKED),
        (Milestone.COMPILED, Milestone.LINKED),
        (Milestone.LINKED, Milestone.COLLECTED),
        (Milestone.TESTED, Milestone.COLLECTED),
    ],
)
def test_a_problem_is_looked_for_no_further_than_it_shows(
    milestone: Milestone, until: Milestone
) -> None:
    problem = replace(HANGS, milestone=milestone)
    assert problem.until is until
    assert problem.is_deterministic == (until < Milestone.COLLECTED)
    # A warning may show anywhere.
    assert replace(problem, facet=Facet.WARNING).until is Milestone.COLLECTED


@given(
    st.sampled_from(Facet),
    st.sampled_from(Milestone),
    st.sampled_from(Milestone),
    st.sampled_from([HANG, PANIC, COMPILE, SPLAT]),
    st.booleans(),
)
def test_only_what_shows_a_problem_or_can_be_any_failure_is_bad(
    facet: Facet, place: Milestone, reached: Milestone, finding: Finding, is_erratic: bool
) -> None:
    problem = Problem(
        facet=facet, fingerprints=fingerprints_of(HANG), milestone=place, is_erratic=is_erratic
    )
    mark = problem.mark(failed(finding, reached))
    if facet is Facet.TEST:
        # No case gave a result.
        assert mark is Mark.UNTESTABLE
    elif finding == HANG:
        assert mark is Mark.BAD
    elif mark is Mark.BAD:
        assert is_erratic
        assert facet is Facet.FAILURE
    elif mark is Mark.GOOD:
        assert facet is Facet.FAILURE
        assert reached > place
