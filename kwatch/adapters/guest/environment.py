# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernels are booted in on a host: QEMU, the host under it, and the guest's user space."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kwatch.adapters.kernel.buildtools import programs
from kwatch.domain.recipe.boot_environment import BootEnvironment
from kwatch.domain.recipe.toolchain import Part
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from kwatch.adapters.host.host import Host
    from kwatch.domain.recipe.arch import Arch
    from kwatch.domain.recipe.boot import Accelerator


class KnownEnvironments:
    """What each host had when it booted something last: where to look first, and no proof."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, Accelerator], str] = {}

    def note(self, host: str, arch: Arch, environment: BootEnvironment) -> None:
        """A host has this environment for guests of ``arch``."""
        self._known[host, arch.name, environment.accelerator] = environment.digest

    def without(self, digest: str) -> frozenset[str]:
        """The hosts that had other environments only, where one is known that had this one."""
        having = {name for (name, _, _), known in self._known.items() if known == digest}
        return frozenset(name for name, _, _ in self._known) - having if having else frozenset()


async def identify(
    host: Host, arch: Arch, accelerator: Accelerator, initramfs: str
) -> BootEnvironment:
    """What a guest of ``arch`` is booted in on ``host`` now.

    Two short commands; the host keeps what it hashed. ``initramfs`` is its digest, which no host
    has a say in. InfraError where QEMU does not run.
    """
    (found, errors), facts = await asyncio.gather(
        programs(host, [arch.emulator]), host.account.probe()
    )
    if arch.emulator in errors:
        raise InfraError(
            f"{host.name}: {arch.emulator} does not run ({errors[arch.emulator]}): install"
            f" {arch.package} there",
            host=host.name,
        )
    emulator = found[arch.emulator]
    return BootEnvironment(
        accelerator=accelerator,
        emulator=Part(
            name=arch.emulator,
            version=emulator["version"],
            package=emulator["package"],
            content=emulator["digest"],
        ),
        kernel=facts["kernel"],
        kernel_build=facts["kernel_build"],
        cpu=facts["cpu"],
        microcode=facts["microcode"],
        initramfs=initramfs,
    )
