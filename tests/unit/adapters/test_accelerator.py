# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerators work is asked of each host apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.guest import accelerator as module
from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.host.host import Host
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.recipe.boot import Accelerator
from kwatch.domain.run import Alive
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

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


async def test_a_cancelled_try_is_cancelled_where_the_host_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or whoever looks hosts over would take it for a failure, and look again for ever."""
    away, attached = host("away"), asyncio.Event()

    async def answer(*_: object) -> str:
        return ""

    async def attach(*_: object) -> AsyncGenerator[Alive]:
        attached.set()
        while await asyncio.sleep(60, result=True):
            yield Alive()

    async def discard(*_: object) -> None:
        raise InfraError("away", host="away")

    monkeypatch.setattr(away.cache, "put_bytes", answer)
    monkeypatch.setattr(away.runs, "start", answer)
    monkeypatch.setattr(away.runs, "attach", attach)
    monkeypatch.setattr(away.runs, "discard", discard)
    trying = asyncio.ensure_future(Accelerators().best(away, PROFILE))
    await attached.wait()
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
