# SPDX-License-Identifier: GPL-2.0-or-later
"""How a kernel is booted: everything that the result of a boot depends on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kwatch.domain.digest import digest
from kwatch.domain.log.ktap import CaseUse


class Accelerator(StrEnum):
    """What runs the guest's instructions; AUTO is the best that the host can do."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class Counters(StrEnum):
    """What the coverage of a boot counts."""

    KEEP = "keep"
    """All since power on: the boot itself, and KUnit tests that run in it."""
    RESET = "reset"
    """Only what the commands do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecipe:
    """The machine and what it is made to do.

    ``machine`` and ``cpu`` are QEMU's words; ``cpu`` None is ``host`` under KVM and ``max`` under
    TCG. ``cmdline`` is appended to what kwatch itself needs. ``commands`` are shell scripts for the
    guest. ``test_results`` decides whether a failed KTAP test fails the boot. How a boot is
    watched (deadlines, limits, sampling) is not part of it: see domain/boot/care.
    """

    arch: str = "x86_64"
    accelerator: Accelerator = Accelerator.AUTO
    machine: str = "q35"
    cpu: str | None = None
    memory_mib: int = 1024
    cpus: int = 1
    cmdline: str = ""
    commands: tuple[str, ...] = ()
    counters: Counters = Counters.KEEP
    test_results: CaseUse = CaseUse.RECORD

    @property
    def digest(self) -> str:
        """The identity of the recipe."""
        return digest(
            "boot",
            1,
            {
                "arch": self.arch,
                "accelerator": self.accelerator.value,
                "machine": self.machine,
                "cpu": self.cpu,
                "memory_mib": self.memory_mib,
                "cpus": self.cpus,
                "cmdline": self.cmdline,
                "commands": list(self.commands),
                "counters": self.counters.value,
                "test_results": self.test_results.value,
            },
        )
