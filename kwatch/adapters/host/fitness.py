# SPDX-License-Identifier: GPL-2.0-or-later
"""Look a host over: its tools, disk and clock, and a real tiny guest under each accelerator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.lab.fitness import no_guest, unfit
from kwatch.domain.lab.host import Slot
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import BootRecipe

if TYPE_CHECKING:
    from kwatch.adapters.guest.accelerator import Accelerators
    from kwatch.adapters.host.host import Host

PROFILES = {
    arch.name: BootProfile(recipe=BootRecipe(arch=arch.name, machine=arch.machine))
    for arch in ARCHES.values()
}


async def inspect(host: Host, *, now: float) -> str | None:
    """Why the host gets no work, by what it says of itself, or None.

    Raises InfraError where it cannot be asked.
    """
    facts = await host.account.probe()
    host.looked_at = now
    return unfit(host.spec, facts, now=now)


async def try_guests(host: Host, accelerators: Accelerators) -> str | None:
    """Why a guest that the host is for does not run there, or None.

    Takes a second, or a while where one hangs.
    """
    if not host.spec.slots.get(Slot.BOOT, 0):
        return None
    for arch in (host.spec.arch, *sorted(host.spec.emulates)):
        tried = await accelerators.tried(host, PROFILES[arch])
        allowed = host.spec.accelerators_for(arch)
        reason = no_guest(arch, {one: why for one, why in tried.items() if one in allowed})
        if reason is not None:
            return reason
    return None
