# SPDX-License-Identifier: GPL-2.0-or-later
"""The phases of a boot: which one runs, how long it may take, and how long it usually takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.milestone import Milestone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Boots that it takes to know what is usual.
ENOUGH_BOOTS = 5
# An idle guest is given up after so many seconds, or so many times what its phase usually takes.
SHORTEST_IDLE = 60.0
IDLE_FACTOR = 5.0


class BootPhase(StrEnum):
    """Each begins where the one before it ended; the names are those of the deadlines."""

    KERNEL = "kernel"
    INIT = "init"
    TESTS = "tests"
    COLLECT = "collect"
    POWER_OFF = "power_off"


# A phase ends with its milestone. What a guest waits for that gets no further, in words.
_ENDS = {
    BootPhase.KERNEL: Milestone.KERNEL,
    BootPhase.INIT: Milestone.INIT,
    BootPhase.TESTS: Milestone.TESTED,
    BootPhase.COLLECT: Milestone.COLLECTED,
}
_GOALS = {
    BootPhase.KERNEL: "to print the kernel's first line",
    BootPhase.INIT: "to reach user space",
    BootPhase.TESTS: "to end the tests",
    BootPhase.COLLECT: "to hand over the coverage",
    BootPhase.POWER_OFF: "to power off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds for each phase under KVM; each begins where the one before it ended.

    ``kernel``: to the kernel's first line. ``init``: to the guest's first word. ``tests``: to the
    end of the commands. ``collect``: to the guest's last word. ``power_off``: to QEMU's end.
    ``total`` is for all of it. TCG takes ``tcg_factor`` times as long.
    """

    kernel: float = 30.0
    init: float = 120.0
    tests: float = 900.0
    collect: float = 300.0
    power_off: float = 20.0
    total: float = 1200.0
    tcg_factor: float = 4.0

    def of(self, phase: BootPhase) -> float:
        """Seconds for one phase."""
        seconds: float = getattr(self, phase)
        return seconds


def after(milestone: Milestone) -> BootPhase:
    """The phase that runs once a milestone is reached; the guest's own word ends the last."""
    return next((phase for phase, end in _ENDS.items() if milestone < end), BootPhase.COLLECT)


def goal(phase: BootPhase) -> str:
    """What a guest in this phase is to do, as in: it took too long ..."""
    return _GOALS[phase]


def durations(reached: Iterable[tuple[Milestone, float]]) -> Mapping[str, float]:
    """Seconds of each phase that ended, by its name.

    ``reached`` are milestones and the seconds from power-on, in their order. A milestone that was
    jumped over ends no phase.
    """
    found: dict[str, float] = {}
    before, began = Milestone.LINKED, 0.0
    for milestone, at in reached:
        phase = after(before)
        if _ENDS[phase] is milestone:
            found[phase.value] = at - began
        before, began = milestone, at
    return found


def usual(boots: Iterable[Mapping[str, float]]) -> Mapping[BootPhase, float]:
    """The 99th percentile of each phase's seconds, of those that enough boots tell of."""
    seen: dict[BootPhase, list[float]] = {}
    for boot in boots:
        for phase in BootPhase:
            if phase.value in boot:
                seen.setdefault(phase, []).append(boot[phase.value])
    return {
        phase: sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
        for phase, seconds in seen.items()
        if len(seconds) >= ENOUGH_BOOTS
    }


def longest_idle(phase: BootPhase, known: Mapping[BootPhase, float]) -> float | None:
    """After how many seconds of idling without a word a guest is given up; None: who knows."""
    return max(SHORTEST_IDLE, IDLE_FACTOR * known[phase]) if phase in known else None
