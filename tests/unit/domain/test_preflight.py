# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kwatch.domain.lab.fitness import no_guest, unfit
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.recipe.boot import Accelerator

KVM, TCG = Accelerator.KVM, Accelerator.TCG
NOW = 1_700_000_000.0
SPEC = HostSpec(
    name="kvm-1", directory="kwatch", arch="x86_64", slots={Slot.BUILD: 1, Slot.BOOT: 2},
    accelerators=frozenset({"kvm", "tcg"}),
)  # fmt: skip
FACTS: dict[str, Any] = {
    "tools": {"bwrap": "/usr/bin/bwrap", "make": "/usr/bin/make",
              "qemu-system-x86_64": "/usr/bin/qemu-system-x86_64"},
    "arch": "x86_64",
    "disk_free_bytes": 50 << 30,
    "time": NOW + 3,
}  # fmt: skip


def test_a_host_that_has_all_it_needs_is_fit() -> None:
    assert unfit(SPEC, FACTS, now=NOW) is None
    assert no_guest("x86_64", {}) is None
    assert no_guest("x86_64", {KVM: None, TCG: None}) is None
    # One accelerator is enough; which one is used is decided boot by boot.
    assert no_guest("x86_64", {KVM: "no timer came", TCG: None}) is None


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"tools": {"make": "", "qemu-system-x86_64": ""}},
         "bwrap not installed there (Debian: apt install bubblewrap)"),
        ({"arch": "aarch64"}, "it is aarch64, and the configuration says x86_64"),
        ({"disk_free_bytes": 5 << 20}, "only 5 MiB of its disk are free: make room below kwatch"),
        ({"time": NOW - 3600}, "its clock is 3600 s behind: set it by NTP"),
        ({"time": NOW + 500}, "its clock is 500 s ahead: set it by NTP"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_host_is_said_with_what_to_do(
    facts: dict[str, object], reason: str
) -> None:
    assert unfit(SPEC, {**FACTS, **facts}, now=NOW) == reason


def test_a_host_is_asked_for_no_more_than_its_work_needs() -> None:
    boots = HostSpec(name="b", directory="k", arch="x86_64", slots={Slot.BOOT: 1})
    only = {"qemu-system-x86_64": "/usr/bin/qemu-system-x86_64"}
    assert unfit(boots, {**FACTS, "tools": only}, now=NOW) is None


def test_a_host_that_emulates_another_architecture_needs_its_emulator_too() -> None:
    both = replace(SPEC, emulates=frozenset({"arm64"}))
    assert unfit(both, FACTS, now=NOW) == (
        "qemu-system-aarch64 not installed there (Debian: apt install qemu-system-arm)"
    )
    tools = FACTS["tools"] | {"qemu-system-aarch64": "/usr/bin/qemu-system-aarch64"}
    assert unfit(both, {**FACTS, "tools": tools}, now=NOW) is None


def test_an_arm64_host_calls_itself_by_another_name() -> None:
    arm = replace(SPEC, arch="arm64", slots={Slot.BUILD: 1})
    assert unfit(arm, {**FACTS, "arch": "aarch64"}, now=NOW) is None
    assert unfit(arm, FACTS, now=NOW) == "it is x86_64, and the configuration says arm64"


def test_a_host_that_runs_no_guest_is_unfit() -> None:
    why = no_guest("x86_64", {KVM: "no timer came", TCG: "QEMU ended"})
    assert why == "no guest of x86_64 runs there (kvm: no timer came; tcg: QEMU ended)"
