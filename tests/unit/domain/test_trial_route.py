# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.finding import FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome, Settled, Step, next_step
from kwatch.domain.trial.steps import Collected, Steps, keys_of
from tests.unit.domain import trials

if TYPE_CHECKING:
    from kwatch.domain.trial.trial import Trial

TRIAL = trials.trial()
OF_CONTROL = trials.trial(series=None)


@pytest.mark.parametrize(
    ("until", "following"),
    [
        (JobKind.CHECKOUT, JobKind.BUILD),
        (JobKind.BUILD, JobKind.BOOT),
        (JobKind.BOOT, JobKind.COLLECT),
    ],
)
def test_each_step_leads_to_the_next(until: JobKind, following: JobKind) -> None:
    steps = trials.steps(TRIAL, until=until)
    assert next_step(TRIAL, steps) == Step(kind=following, key=keys_of(TRIAL, steps)[following])


def test_the_route_begins_with_the_checkout() -> None:
    assert next_step(TRIAL, Steps()) == Step(kind=JobKind.CHECKOUT, key=TRIAL.source.key)


def test_the_route_ends_with_coverage() -> None:
    steps = trials.steps(TRIAL, until=JobKind.COLLECT)
    assert next_step(TRIAL, steps) == Settled(outcome=Outcome.PASS, milestone=Milestone.COLLECTED)


@pytest.mark.parametrize(
    ("until", "last"),
    [(Milestone.CHECKOUT, JobKind.CHECKOUT), (Milestone.LINKED, JobKind.BUILD)],
)
@pytest.mark.parametrize("series", [trials.SERIES.digest, None])
def test_a_trial_goes_no_further_than_it_is_asked_to(
    until: Milestone, last: JobKind, series: str | None
) -> None:
    trial = replace(trials.trial(series=series), until=until)
    assert next_step(trial, trials.steps(trial, until=last)) == Settled(
        outcome=Outcome.PASS, milestone=until
    )


@pytest.mark.parametrize(
    ("until", "last"),
    [(Milestone.LINKED, JobKind.CHECKOUT), (Milestone.COLLECTED, JobKind.BUILD)],
)
def test_a_trial_goes_as_far_as_it_is_asked_to(until: Milestone, last: JobKind) -> None:
    trial = replace(TRIAL, until=until)
    assert isinstance(next_step(trial, trials.steps(trial, until=last)), Step)


@pytest.mark.parametrize("profile", [True, False])
def test_a_control_has_no_coverage_to_collect(profile: bool) -> None:
    steps = trials.steps(OF_CONTROL, until=JobKind.BOOT, profile=profile)
    assert next_step(OF_CONTROL, steps) == Settled(outcome=Outcome.PASS, milestone=Milestone.TESTED)


def test_a_kernel_with_counters_but_no_profile_has_failed() -> None:
    end = next_step(TRIAL, trials.steps(TRIAL, until=JobKind.BOOT, profile=False))
    assert isinstance(end, Settled)
    assert (end.outcome, end.milestone) == (Outcome.FAIL, Milestone.TESTED)
    assert end.finding is not None
    assert end.finding.kind is FindingKind.COVERAGE


def test_a_series_that_does_not_apply_ends_at_the_checkout() -> None:
    steps = Steps(checkout=trials.checkout(TRIAL.source.key, None))
    assert next_step(TRIAL, steps) == Settled(
        outcome=Outcome.FAIL, milestone=Milestone.NOTHING, finding=trials.APPLY
    )
    assert set(keys_of(TRIAL, steps)) == {JobKind.CHECKOUT}


def test_a_build_that_fails_ends_there() -> None:
    steps = trials.steps(TRIAL, until=JobKind.CHECKOUT)
    key = keys_of(TRIAL, steps)[JobKind.BUILD]
    steps = replace(steps, build=trials.build(key, finding=trials.COMPILE))
    assert next_step(TRIAL, steps) == Settled(
        outcome=Outcome.FAIL, milestone=Milestone.CONFIG, finding=trials.COMPILE
    )


def test_a_failed_build_is_not_made_again_for_an_image_it_never_had() -> None:
    steps = trials.steps(TRIAL, until=JobKind.BUILD)
    assert steps.build is not None
    steps = replace(steps, build=replace(steps.build, finding=trials.COMPILE, available=False))
    assert isinstance(next_step(TRIAL, steps), Settled)


@pytest.mark.parametrize("milestone", [Milestone.LINKED, Milestone.KERNEL, Milestone.TESTED])
@pytest.mark.parametrize("trial", [TRIAL, OF_CONTROL], ids=["series", "control"])
def test_a_boot_that_fails_ends_there(milestone: Milestone, trial: Trial) -> None:
    steps = trials.steps(trial, until=JobKind.BOOT, profile=False)
    assert steps.boot is not None
    steps = replace(steps, boot=replace(steps.boot, finding=trials.PANIC, milestone=milestone))
    assert next_step(trial, steps) == Settled(
        outcome=Outcome.FAIL, milestone=milestone, finding=trials.PANIC
    )


def test_the_failure_of_a_boot_comes_before_that_of_its_coverage() -> None:
    steps = trials.steps(TRIAL, until=JobKind.BOOT)
    assert steps.boot is not None
    steps = replace(
        steps,
        boot=replace(steps.boot, finding=trials.PANIC),
        collection=Collected(finding=trials.NO_COVERAGE),
    )
    end = next_step(TRIAL, steps)
    assert isinstance(end, Settled)
    assert end.finding == trials.PANIC


def test_a_profile_that_is_no_good_ends_the_route() -> None:
    steps = trials.steps(TRIAL, until=JobKind.BOOT)
    steps = replace(steps, collection=Collected(finding=trials.NO_COVERAGE))
    assert next_step(TRIAL, steps) == Settled(
        outcome=Outcome.FAIL, milestone=Milestone.TESTED, finding=trials.NO_COVERAGE
    )


def gone(steps: Steps) -> Steps:
    assert steps.build is not None
    return replace(steps, build=replace(steps.build, available=False))


def test_an_image_that_the_budget_took_is_built_again() -> None:
    steps = gone(trials.steps(TRIAL, until=JobKind.BUILD))
    assert next_step(TRIAL, steps) == Step(
        kind=JobKind.BUILD, key=keys_of(TRIAL, steps)[JobKind.BUILD]
    )


def test_coverage_needs_the_image_too() -> None:
    steps = gone(trials.steps(TRIAL, until=JobKind.BOOT))
    assert next_step(TRIAL, steps) == Step(
        kind=JobKind.BUILD, key=keys_of(TRIAL, steps)[JobKind.BUILD]
    )


@pytest.mark.parametrize(
    ("trial", "until"),
    [
        (TRIAL, JobKind.COLLECT),
        (OF_CONTROL, JobKind.BOOT),
        (replace(TRIAL, until=Milestone.LINKED), JobKind.BUILD),
    ],
    ids=["series", "control", "build"],
)
def test_an_image_that_nobody_needs_any_more_stays_gone(trial: Trial, until: JobKind) -> None:
    assert isinstance(next_step(trial, gone(trials.steps(trial, until=until))), Settled)
