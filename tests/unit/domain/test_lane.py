# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.blame import Blame, changed_axis
from kwatch.domain.verdict.lane import epoch_of
from tests.unit.domain import trials

TRIAL = trials.trial()
ALL = Milestone.COLLECTED
EPOCH = epoch_of(TRIAL, "e" * 16, until=ALL)


def test_an_epoch_is_everything_but_the_commit_and_the_sample() -> None:
    assert epoch_of(TRIAL.of("b" * 40), "e" * 16, until=ALL) == EPOCH
    assert epoch_of(TRIAL.again(rebuild=1, repeat=2), "e" * 16, until=ALL) == EPOCH
    others = {
        EPOCH,
        epoch_of(trials.trial(series=None), "e" * 16, until=ALL),
        epoch_of(replace(TRIAL, build="b" * 64), "e" * 16, until=ALL),
        epoch_of(replace(TRIAL, boot="b" * 64), "e" * 16, until=ALL),
        epoch_of(TRIAL, "f" * 16, until=ALL),
        epoch_of(TRIAL, "e" * 16, "f" * 16, until=ALL),
    }
    assert len(others) == 6


def test_an_epoch_has_only_what_counts_as_far_as_a_trial_goes() -> None:
    other = replace(TRIAL, build="b" * 64, boot="c" * 64)
    built, booted = Milestone.LINKED, replace(TRIAL, boot="c" * 64)
    assert epoch_of(other, "f" * 16, until=Milestone.CHECKOUT) == epoch_of(
        TRIAL, "e" * 16, until=Milestone.CHECKOUT
    )
    assert epoch_of(booted, "e" * 16, until=built) == epoch_of(TRIAL, "e" * 16, until=built)
    assert epoch_of(other, "e" * 16, until=built) != epoch_of(TRIAL, "e" * 16, until=built)
    assert epoch_of(TRIAL, "e" * 16, "f" * 16, until=built) == epoch_of(
        TRIAL, "e" * 16, until=built
    )
    assert epoch_of(TRIAL, "f" * 16, until=built) != epoch_of(TRIAL, "e" * 16, until=built)


@pytest.mark.parametrize(
    ("after", "blame"),
    [
        (replace(EPOCH, series="f" * 64), Blame.SERIES),
        (replace(EPOCH, series=None), Blame.SERIES),
        (replace(EPOCH, environment="f" * 16), Blame.TOOLCHAIN),
        (replace(EPOCH, boot_environment="f" * 16), Blame.HOST),
        (replace(EPOCH, build="f" * 64), Blame.CONFIG),
        (replace(EPOCH, boot="f" * 64), Blame.CONFIG),
        (replace(EPOCH, build="f" * 64, boot="f" * 64), Blame.CONFIG),
        (replace(EPOCH, build="f" * 64, environment="f" * 16), Blame.UNKNOWN),
        (replace(EPOCH, series="f" * 64, environment="f" * 16), Blame.UNKNOWN),
        (replace(EPOCH, environment="f" * 16, boot_environment="f" * 16), Blame.UNKNOWN),
        (EPOCH, Blame.UNKNOWN),
    ],
)
def test_what_changed_alone_is_to_blame(after: object, blame: Blame) -> None:
    assert changed_axis(EPOCH, after) is blame  # type: ignore[arg-type]
