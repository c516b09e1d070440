# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.finding import FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.trial.route import Outcome, Settled, Step, next_step
from kwatch.domain.trial.steps import Steps, boot_key, build_key, checkout_key, keys_of
from kwatch.domain.trial.trial import Trial
from tests.unit.domain import trials
from tests.unit.domain.trials import CONTROL, VARIANT

if TYPE_CHECKING:
    from kwatch.domain.trial.variant import Variant

TRIAL = Trial(commit="a" * 40, variant=VARIANT.digest)
OF_CONTROL = Trial(commit="a" * 40, variant=CONTROL.digest)


@pytest.mark.parametrize(
    ("until", "following"),
    [
        (JobKind.CHECKOUT, JobKind.BUILD),
        (JobKind.BUILD, JobKind.BOOT),
        (JobKind.BOOT, JobKind.COLLECT),
    ],
)
def test_each_step_leads_to_the_next(until: JobKind, following: JobKind) -> None:
    steps = trials.steps(TRIAL, VARIANT, until=until)
    assert next_step(TRIAL, VARIANT, steps) == Step(
        kind=following, key=keys_of(TRIAL, VARIANT, steps)[following]
    )


def test_the_route_begins_with_the_checkout() -> None:
    assert next_step(TRIAL, VARIANT, Steps()) == Step(
        kind=JobKind.CHECKOUT, key=checkout_key(TRIAL, VARIANT)
    )


def test_the_route_ends_with_coverage() -> None:
    steps = trials.steps(TRIAL, VARIANT, until=JobKind.COLLECT)
    assert next_step(TRIAL, VARIANT, steps) == Settled(
        outcome=Outcome.PASS, milestone=Milestone.COLLECTED
    )


@pytest.mark.parametrize("profile", [True, False])
def test_a_control_has_no_coverage_to_collect(profile: bool) -> None:
    steps = trials.steps(OF_CONTROL, CONTROL, until=JobKind.BOOT, profile=profile)
    assert next_step(OF_CONTROL, CONTROL, steps) == Settled(
        outcome=Outcome.PASS, milestone=Milestone.TESTED
    )


def test_a_kernel_with_counters_but_no_profile_has_failed() -> None:
    steps = trials.steps(TRIAL, VARIANT, until=JobKind.BOOT, profile=False)
    end = next_step(TRIAL, VARIANT, steps)
    assert isinstance(end, Settled)
    assert (end.outcome, end.milestone) == (Outcome.FAIL, Milestone.TESTED)
    assert end.finding is not None
    assert end.finding.kind is FindingKind.COVERAGE


def test_a_series_that_does_not_apply_ends_at_the_checkout() -> None:
    steps = Steps(checkout=trials.checkout(checkout_key(TRIAL, VARIANT), None))
    assert next_step(TRIAL, VARIANT, steps) == Settled(
        outcome=Outcome.FAIL, milestone=Milestone.NOTHING, finding=trials.APPLY
    )
    assert set(keys_of(TRIAL, VARIANT, steps)) == {JobKind.CHECKOUT}


def test_a_build_that_fails_ends_there() -> None:
    steps = trials.steps(TRIAL, VARIANT, until=JobKind.CHECKOUT)
    key = keys_of(TRIAL, VARIANT, steps)[JobKind.BUILD]
    steps = replace(steps, build=trials.build(key, finding=trials.COMPILE))
    assert next_step(TRIAL, VARIANT, steps) == Settled(
        outcome=Outcome.FAIL, milestone=Milestone.CONFIG, finding=trials.COMPILE
    )


def test_a_failed_build_is_not_made_again_for_an_image_it_never_had() -> None:
    steps = trials.steps(TRIAL, VARIANT, until=JobKind.BUILD)
    assert steps.build is not None
    steps = replace(steps, build=replace(steps.build, finding=trials.COMPILE, available=False))
    assert isinstance(next_step(TRIAL, VARIANT, steps), Settled)


@pytest.mark.parametrize("milestone", [Milestone.LINKED, Milestone.KERNEL, Milestone.TESTED])
@pytest.mark.parametrize("variant", [VARIANT, CONTROL])
def test_a_boot_that_fails_ends_there(milestone: Milestone, variant: Variant) -> None:
    trial = replace(TRIAL, variant=variant.digest)
    steps = trials.steps(trial, variant, until=JobKind.BOOT, profile=False)
    assert steps.boot is not None
    steps = replace(steps, boot=replace(steps.boot, finding=trials.PANIC, milestone=milestone))
    assert next_step(trial, variant, steps) == Settled(
        outcome=Outcome.FAIL, milestone=milestone, finding=trials.PANIC
    )


def test_the_failure_of_a_boot_comes_before_that_of_its_coverage() -> None:
    steps = trials.steps(TRIAL, VARIANT, until=JobKind.BOOT)
    assert steps.boot is not None
    steps = replace(
        steps,
        boot=replace(steps.boot, finding=trials.PANIC),
        collection=trials.collection(steps.boot.key, finding=trials.NO_COVERAGE),
    )
    end = next_step(TRIAL, VARIANT, steps)
    assert isinstance(end, Settled)
    assert end.finding == trials.PANIC


def test_a_profile_that_is_no_good_ends_the_route() -> None:
    steps = trials.steps(TRIAL, VARIANT, until=JobKind.BOOT)
    assert steps.boot is not None
    steps = replace(steps, collection=trials.collection(steps.boot.key, finding=trials.NO_COVERAGE))
    assert next_step(TRIAL, VARIANT, steps) == Settled(
        outcome=Outcome.FAIL, milestone=Milestone.TESTED, finding=trials.NO_COVERAGE
    )


def gone(steps: Steps) -> Steps:
    assert steps.build is not None
    return replace(steps, build=replace(steps.build, available=False))


def test_an_image_that_the_budget_took_is_built_again() -> None:
    steps = gone(trials.steps(TRIAL, VARIANT, until=JobKind.BUILD))
    assert next_step(TRIAL, VARIANT, steps) == Step(
        kind=JobKind.BUILD, key=keys_of(TRIAL, VARIANT, steps)[JobKind.BUILD]
    )


def test_coverage_needs_the_image_too() -> None:
    steps = gone(trials.steps(TRIAL, VARIANT, until=JobKind.BOOT))
    assert next_step(TRIAL, VARIANT, steps) == Step(
        kind=JobKind.BUILD, key=keys_of(TRIAL, VARIANT, steps)[JobKind.BUILD]
    )


@pytest.mark.parametrize(
    ("variant", "until"), [(VARIANT, JobKind.COLLECT), (CONTROL, JobKind.BOOT)]
)
def test_an_image_that_nobody_needs_any_more_stays_gone(variant: Variant, until: JobKind) -> None:
    trial = replace(TRIAL, variant=variant.digest)
    steps = gone(trials.steps(trial, variant, until=until))
    assert isinstance(next_step(trial, variant, steps), Settled)


CHANGED_VARIANTS = {
    "series": replace(VARIANT, series=replace(trials.SERIES, digest="f" * 64)),
    "control": CONTROL,
    "arch": replace(VARIANT, arch="arm64"),
    "toolchain": replace(VARIANT, toolchain=replace(trials.TOOLCHAIN, linker="mold")),
    "kconfig": replace(
        VARIANT,
        kconfig=KconfigRecipe(base="defconfig", fragments=(Fragment(name="x", text="CONFIG_A=y"),)),
    ),
    "profile": replace(VARIANT, profile=BootProfile(recipe=BootRecipe(cpus=2))),
    "name": replace(VARIANT, name="another name"),
}
CHANGED_TRIALS = {
    "commit": replace(TRIAL, commit="b" * 40),
    "rebuild": replace(TRIAL, rebuild=1),
    "repeat": replace(TRIAL, repeat=1),
    "host": replace(TRIAL, host="lab-2"),
}
# Which key changes with which input; the tree stays the same, as it does in a merge of nothing.
CHANGES = {
    "series": {JobKind.CHECKOUT},
    "control": {JobKind.CHECKOUT},
    "arch": {JobKind.BUILD, JobKind.BOOT},
    "toolchain": {JobKind.BUILD, JobKind.BOOT},
    "kconfig": {JobKind.BUILD, JobKind.BOOT},
    "profile": {JobKind.BOOT},
    "name": set(),
    "commit": {JobKind.CHECKOUT},
    "rebuild": {JobKind.BUILD, JobKind.BOOT},
    "repeat": {JobKind.BOOT},
    "host": {JobKind.BOOT},
}


def three_keys(trial: Trial, variant: Variant) -> dict[JobKind, str]:
    build = build_key("t" * 40, trial, variant)
    return {
        JobKind.CHECKOUT: checkout_key(trial, variant),
        JobKind.BUILD: build,
        JobKind.BOOT: boot_key(build, trial, variant),
    }


@pytest.mark.parametrize("what", CHANGES)
def test_a_key_differs_exactly_where_an_input_does(what: str) -> None:
    trial = CHANGED_TRIALS.get(what, TRIAL)
    variant = CHANGED_VARIANTS.get(what, VARIANT)
    before, after = three_keys(TRIAL, VARIANT), three_keys(trial, variant)
    assert {kind for kind in before if before[kind] != after[kind]} == CHANGES[what]


def test_the_digest_of_a_variant_is_what_makes_it_comparable() -> None:
    digests = {name: variant.digest for name, variant in CHANGED_VARIANTS.items()}
    assert digests.pop("name") == VARIANT.digest
    assert len({VARIANT.digest, *digests.values()}) == len(digests) + 1
