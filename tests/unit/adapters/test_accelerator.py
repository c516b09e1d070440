# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerators work is asked of each host apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kwatch.adapters.guest import accelerator as module
from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.host.host import Host
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.recipe.boot import Accelerator

if TYPE_CHECKING:
    import pytest

PROFILE = BootProfile()


def host(name: str) -> Host:
    return Host(HostSpec(name=name, directory=name, arch="x86_64", slots={Slot.BOOT: 1}))


async def test_a_silent_host_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def probe(host: Host, profile: BootProfile) -> dict[Accelerator, str | None]:
        asked.append(host.name)
        if host.name == "silent":
            await asyncio.sleep(60)
        await asyncio.sleep(0.01)
        return {Accelerator.KVM: "no", Accelerator.TCG: None}

    monkeypatch.setattr(module, "probe_accelerators", probe)
    accelerators = Accelerators()
    waiting = asyncio.ensure_future(accelerators.best(host("silent"), PROFILE))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(accelerators.best(host("well"), PROFILE) for _ in range(3)))
    assert found == [Accelerator.TCG] * 3
    assert asked == ["silent", "well"], "one host is asked once"
    waiting.cancel()
