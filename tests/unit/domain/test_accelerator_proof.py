# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host must show before its verdicts are believed."""

from __future__ import annotations

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.lab.proof import CASES, HEALTHY, Attempt, GuestCase, figures
from kwatch.domain.recipe.boot import BootRecipe


def attempt(
    case: GuestCase, end: BootEnd, took: float, boot_seconds: float | None = None
) -> Attempt:
    return Attempt(case=case, end=end, reason="", boot_seconds=boot_seconds, took=took)


def test_the_cases_cover_every_end_that_a_kernel_can_have() -> None:
    covered = {end for case in CASES for end in case.ends}
    assert {BootEnd.DONE, BootEnd.PANIC, BootEnd.HANG, BootEnd.RESET, BootEnd.OUTPUT_LIMIT} <= (
        covered
    )
    assert not any(end.is_infra for end in covered)
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_case_adds_to_the_profile_of_the_host() -> None:
    base = BootProfile(recipe=BootRecipe(cmdline="quiet", commands=("nothing",)))
    panic = next(case for case in CASES if BootEnd.PANIC in case.ends and case.cmdline)
    profile = panic.profile(base)
    assert profile.recipe.cmdline == "quiet rdinit=/nowhere init=/nowhere"
    assert profile.recipe.commands == ()
    assert HEALTHY.profile(base).recipe.commands == ("true",)


def test_only_the_expected_verdict_is_right() -> None:
    assert attempt(HEALTHY, BootEnd.DONE, 2.0).is_right
    assert not attempt(HEALTHY, BootEnd.HANG, 2.0).is_right


def test_figures_are_kept_of_what_was_tried() -> None:
    reset = next(case for case in CASES if case.name == "resets")
    found = figures([
        attempt(HEALTHY, BootEnd.DONE, 3.0, 1.0), attempt(HEALTHY, BootEnd.DONE, 4.0, 2.0),
        attempt(HEALTHY, BootEnd.DONE, 9.0, 6.0), attempt(reset, BootEnd.RESET, 2.04),
    ])  # fmt: skip
    assert found == {"resets": 2.0, "boot, median": 2.0, "boot, longest": 6.0}
