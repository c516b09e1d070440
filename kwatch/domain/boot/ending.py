# SPDX-License-Identifier: GPL-2.0-or-later
"""How a boot ended, and what is known of it then."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.boot.phase import durations
from kwatch.domain.boot.vcpu import VcpuSample
from kwatch.domain.log.scan import Reading
from kwatch.domain.milestone import Milestone

if TYPE_CHECKING:
    from collections.abc import Mapping


class BootEnd(StrEnum):
    """How a boot ended. RESET is any end of the machine before the guest was done.

    REFUSED: QEMU does not take the image for a kernel.
    """

    DONE = "done"
    PANIC = "panic"
    HANG = "hang"
    STALL = "stall"
    RESET = "reset"
    OUTPUT_LIMIT = "output-limit"
    DEADLINE = "deadline"
    CONTROL_LOST = "control-lost"
    NEVER_STARTED = "never-started"
    REFUSED = "refused"

    @property
    def is_infra(self) -> bool:
        """Whether this says something about the lab, and nothing about the kernel."""
        return self in {BootEnd.CONTROL_LOST, BootEnd.NEVER_STARTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A milestone, and the seconds from the start at which it was seen."""

    milestone: Milestone
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BootVerdict:
    """What is known of a boot when it is over.

    ``samples`` are the last looks at all vCPUs while the guest was quiet, oldest first;
    ``console`` is what the console says. ``reason`` is a sentence for people.
    """

    end: BootEnd
    milestone: Milestone
    reached: tuple[Reached, ...]
    samples: tuple[tuple[VcpuSample, ...], ...]
    took: float
    console: Reading
    reason: str

    @property
    def boot_seconds(self) -> float | None:
        """From power-on to the guest's first word."""
        return next((step.at for step in self.reached if step.milestone is Milestone.INIT), None)

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of each phase that ended, by its name."""
        return durations((step.milestone, step.at) for step in self.reached)
