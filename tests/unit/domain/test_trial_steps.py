# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.steps import (
    Steps,
    boot_key,
    boot_row,
    build_key,
    build_row,
    environment_of,
    inputs_of,
    keys_of,
)
from kwatch.domain.trial.trial import Sample, Trial
from tests.unit.domain import trials
from tests.unit.domain.trials import BOOT, BUILD, VARIANT

if TYPE_CHECKING:
    from kwatch.domain.trial.variant import Variant

TRIAL = trials.trial()


def trial_in(variant: Variant, series: str | None = trials.SERIES.digest) -> Trial:
    """The trial of a commit that a row of the matrix asks for."""
    return Trial(
        source=with_series(TRIAL.commit, series),
        build=variant.build.digest,
        boot=variant.boot.recipe.digest,
    )


def recipe(*fragments: Fragment, base: str | Fragment = "defconfig") -> KconfigRecipe:
    return KconfigRecipe(base=base, fragments=fragments)


SYMBOL = Fragment(name="lab.config", text="CONFIG_A=y\n")
CHANGED_TRIALS = {
    "series": trial_in(VARIANT, "f" * 64),
    "control": trial_in(VARIANT, None),
    "commit": TRIAL.of("b" * 40),
    "rebuild": TRIAL.again(rebuild=1),
    "repeat": TRIAL.again(repeat=1),
    "host": replace(TRIAL, sample=Sample(host="lab-2")),
    "environment": replace(TRIAL, sample=Sample(environment="f" * 16)),
    "boot environment": replace(TRIAL, sample=Sample(boot_environment="f" * 16)),
    "until": replace(TRIAL, until=Milestone.LINKED),
    "arch": trial_in(replace(VARIANT, build=replace(BUILD, arch="arm64"))),
    "toolchain": trial_in(
        replace(VARIANT, build=replace(BUILD, toolchain=replace(trials.TOOLCHAIN, linker="mold")))
    ),
    "kconfig": trial_in(replace(VARIANT, build=replace(BUILD, kconfig=recipe(SYMBOL)))),
    "options": trial_in(replace(VARIANT, build=replace(BUILD, options=(("A", "n"),)))),
    "boot": trial_in(replace(VARIANT, boot=BootProfile(recipe=replace(BOOT, cpus=2)))),
    "care": trial_in(
        replace(
            VARIANT,
            boot=BootProfile(
                recipe=BOOT, care=BootCare(dump_limit=1 << 30, deadlines=Deadlines(kernel=1.0))
            ),
        )
    ),
    "name of the variant": trial_in(replace(VARIANT, name="another name")),
    "name of the toolchain": trial_in(
        replace(VARIANT, build=replace(BUILD, toolchain=replace(trials.TOOLCHAIN, name="other")))
    ),
    "labels": trial_in(replace(VARIANT, build_labels=frozenset({"big"}))),
}
# Which key changes with which input; the tree stays the same, as it does in a merge of nothing.
CHANGES = {
    "series": {JobKind.CHECKOUT},
    "control": {JobKind.CHECKOUT},
    "commit": {JobKind.CHECKOUT},
    "rebuild": {JobKind.BUILD, JobKind.BOOT},
    "repeat": {JobKind.BOOT},
    "host": {JobKind.BOOT},
    "environment": set(),
    "boot environment": set(),
    "until": set(),
    "arch": {JobKind.BUILD},
    "toolchain": {JobKind.BUILD},
    "kconfig": {JobKind.BUILD},
    "options": {JobKind.BUILD},
    "boot": {JobKind.BOOT},
    "care": set(),
    "name of the variant": set(),
    "name of the toolchain": set(),
    "labels": set(),
}


def three_keys(trial: Trial) -> dict[JobKind, str]:
    """The keys where the tree and the image are the same."""
    return {
        JobKind.CHECKOUT: trial.source.key,
        JobKind.BUILD: build_key("t" * 40, trial),
        JobKind.BOOT: boot_key("i" * 64, trial),
    }


def test_every_change_is_judged() -> None:
    assert CHANGES.keys() == CHANGED_TRIALS.keys()


@pytest.mark.parametrize("what", CHANGES)
def test_a_key_differs_exactly_where_an_input_does(what: str) -> None:
    before, after = three_keys(TRIAL), three_keys(CHANGED_TRIALS[what])
    assert {kind for kind in before if before[kind] != after[kind]} == CHANGES[what]


def test_another_tree_is_another_build_and_another_image_another_boot() -> None:
    assert build_key("t" * 40, TRIAL) != build_key("u" * 40, TRIAL)
    assert boot_key("i" * 64, TRIAL) != boot_key("j" * 64, TRIAL)


def test_a_key_is_known_when_all_that_it_is_made_of_is() -> None:
    assert set(keys_of(TRIAL, Steps())) == {JobKind.CHECKOUT}
    of_checkout = trials.steps(TRIAL, until=JobKind.CHECKOUT)
    assert set(keys_of(TRIAL, of_checkout)) == {JobKind.CHECKOUT, JobKind.BUILD}
    of_build = trials.steps(TRIAL, until=JobKind.BUILD)
    assert set(keys_of(TRIAL, of_build)) == {
        JobKind.CHECKOUT,
        JobKind.BUILD,
        JobKind.BOOT,
    }
    of_boot = trials.steps(TRIAL, until=JobKind.BOOT)
    assert of_boot.boot is not None
    assert keys_of(TRIAL, of_boot)[JobKind.COLLECT] == of_boot.boot.key


def test_builds_by_different_tools_with_one_image_share_their_boots() -> None:
    steps = trials.steps(TRIAL, until=JobKind.BUILD)
    assert steps.build is not None
    other = replace(steps, build=replace(steps.build, environment_digest="f" * 16))
    assert other.build is not None
    assert other.build.row != steps.build.row
    assert keys_of(TRIAL, other)[JobKind.BOOT] == keys_of(TRIAL, steps)[JobKind.BOOT]


def test_another_image_of_the_same_inputs_is_booted_for_itself() -> None:
    steps = trials.steps(TRIAL, until=JobKind.BUILD)
    assert steps.build is not None
    other = replace(steps, build=replace(steps.build, artifacts={"image": "f" * 64}))
    assert keys_of(TRIAL, other)[JobKind.BOOT] != keys_of(TRIAL, steps)[JobKind.BOOT]


def test_a_build_by_given_tools_is_asked_for_by_its_row() -> None:
    steps = trials.steps(TRIAL, until=JobKind.CHECKOUT)
    assert steps.checkout is not None
    assert steps.checkout.tree_id is not None
    inputs = build_key(steps.checkout.tree_id, TRIAL)
    asked = replace(TRIAL, sample=Sample(environment=trials.ENVIRONMENT))
    assert keys_of(TRIAL, steps)[JobKind.BUILD] == inputs
    assert keys_of(asked, steps)[JobKind.BUILD] == f"{inputs}@{trials.ENVIRONMENT}"
    result = trials.build(inputs)
    assert result.row == keys_of(asked, steps)[JobKind.BUILD]


def test_a_build_by_tools_that_were_never_read_is_known_by_its_inputs() -> None:
    assert build_row("k" * 64, "") == "k" * 64


def test_a_boot_in_a_given_environment_is_asked_for_by_its_key() -> None:
    steps = trials.steps(TRIAL, until=JobKind.BUILD)
    inputs = keys_of(TRIAL, steps)[JobKind.BOOT]
    asked = replace(TRIAL, sample=Sample(boot_environment="f" * 16))
    key = keys_of(asked, steps)[JobKind.BOOT]
    assert key == boot_row(inputs, "f" * 16) == f"{inputs}@{'f' * 16}"
    assert keys_of(asked, steps)[JobKind.BUILD] == keys_of(TRIAL, steps)[JobKind.BUILD]
    result = trials.boot(key, "b" * 64)
    assert (result.inputs, result.environment_digest) == (inputs, "f" * 16)


def test_a_boot_in_an_environment_that_nobody_knows_is_known_by_its_inputs() -> None:
    assert boot_row("k" * 64, "") == "k" * 64
    assert (inputs_of("k" * 64), environment_of("k" * 64)) == ("k" * 64, "")
