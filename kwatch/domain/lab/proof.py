# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host must show before its verdicts on kernels are believed: guests that end in known ways.

All is done with a kernel that is good, so that any other verdict is the host's, or kwatch's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from statistics import median
from typing import TYPE_CHECKING

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.boot.ending import BootEnd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


CONSOLE_LIMIT = 1 << 20
SLEEP = 20


class Damage(Enum):
    """What is done to the image before it is booted."""

    NONE = auto()
    HALVED = auto()
    """Only its first half is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCase:
    """One way in which a guest ends. ``name`` completes "a guest that ..."."""

    name: str
    ends: frozenset[BootEnd]
    commands: tuple[str, ...] = ()
    cmdline: str = ""
    console_limit: int = 64 << 20
    damage: Damage = Damage.NONE
    times: int = 1

    def profile(self, base: BootProfile) -> BootProfile:
        """How it is booted."""
        cmdline = f"{base.recipe.cmdline} {self.cmdline}".strip()
        return BootProfile(
            recipe=replace(base.recipe, commands=self.commands, cmdline=cmdline),
            care=replace(base.care, console_limit=self.console_limit),
        )


_DEAD = frozenset({BootEnd.HANG, BootEnd.RESET, BootEnd.PANIC, BootEnd.STALL})
HEALTHY = GuestCase(name="is well", ends=frozenset({BootEnd.DONE}), commands=("true",), times=10)
CASES = (
    HEALTHY,
    GuestCase(
        name=f"sleeps for {SLEEP} seconds",
        ends=frozenset({BootEnd.DONE}),
        commands=(f"sleep {SLEEP}",),
    ),
    GuestCase(
        name=f"computes for {SLEEP} seconds",
        ends=frozenset({BootEnd.DONE}),
        commands=(f"timeout {SLEEP} sh -c 'while :; do :; done'; true",),
    ),
    GuestCase(
        name="finds no init",
        ends=frozenset({BootEnd.PANIC}),
        cmdline="rdinit=/nowhere init=/nowhere",
    ),
    GuestCase(name="resets", ends=frozenset({BootEnd.RESET}), commands=("busybox reboot -f",)),
    GuestCase(
        name="halts its processors", ends=frozenset({BootEnd.HANG}), commands=("busybox halt -f",)
    ),
    GuestCase(
        name="floods its console",
        ends=frozenset({BootEnd.OUTPUT_LIMIT}),
        commands=("yes >/dev/console",),
        console_limit=CONSOLE_LIMIT,
    ),
    GuestCase(name="has half a kernel", ends=_DEAD, damage=Damage.HALVED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One boot of a case; seconds from power-on to the guest's first word and to the verdict."""

    case: GuestCase
    end: BootEnd
    reason: str
    boot_seconds: float | None
    took: float

    @property
    def is_right(self) -> bool:
        """Whether the verdict is the one to be expected."""
        return self.end in self.case.ends


def figures(attempts: Sequence[Attempt]) -> Mapping[str, float]:
    """Seconds to keep: of a healthy boot, and to the verdict in each other case."""
    healthy = [one.boot_seconds for one in attempts if one.case is HEALTHY and one.boot_seconds]
    found = {one.case.name: round(one.took, 1) for one in attempts if one.case is not HEALTHY}
    if healthy:
        found |= {
            "boot, median": round(median(healthy), 2),
            "boot, longest": round(max(healthy), 2),
        }
    return found
