# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel is booted in: QEMU, the host under it, and the guest's user space."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.domain.digest import digest
from kwatch.domain.recipe.boot import Accelerator
from kwatch.domain.recipe.toolchain import Part

# The number of the format that BootEnvironment.digest is taken over: change it with the format.
BOOT_ENVIRONMENT_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEnvironment:
    """All that the lab brings to a boot: equal digests, equal environments.

    ``emulator`` is QEMU's program. ``kernel`` and ``kernel_build`` are the host's ``uname -r`` and
    ``uname -v``, ``cpu`` and ``microcode`` as /proc/cpuinfo has them ("": it has none).
    ``initramfs`` is SHA-256 (hex) over what every guest of the architecture gets, whatever its
    recipe: commands and counters are part of the recipe.
    """

    accelerator: Accelerator
    emulator: Part
    kernel: str
    kernel_build: str
    cpu: str
    microcode: str
    initramfs: str

    @property
    def digest(self) -> str:
        """16 hex digits over all fields."""
        part = self.emulator
        return digest(
            "boot environment",
            BOOT_ENVIRONMENT_FORMAT,
            {
                "accelerator": self.accelerator.value,
                "emulator": [part.name, part.version, part.package, part.content],
                "kernel": self.kernel,
                "kernel_build": self.kernel_build,
                "cpu": self.cpu,
                "microcode": self.microcode,
                "initramfs": self.initramfs,
            },
        )[:16]

    def describe(self) -> tuple[str, ...]:
        """Lines for a report; the first is enough for people who do not run the lab."""
        package = f" [{self.emulator.package}]" if self.emulator.package else ""
        microcode = f", microcode {self.microcode}" if self.microcode else ""
        return (
            f"{self.emulator.version}, {self.accelerator.value}, on Linux {self.kernel}",
            f"emulator: {self.emulator.name}{package}, sha256 {self.emulator.content[:16]}",
            f"host kernel: {self.kernel} {self.kernel_build}",
            f"processor: {self.cpu or 'unknown'}{microcode}",
            f"initramfs: sha256 {self.initramfs[:16]}",
            f"boot environment: {self.digest}",
        )
