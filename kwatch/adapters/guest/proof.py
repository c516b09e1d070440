# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot guests that end in known ways on a host, to see that each gets the right verdict there."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from kwatch.adapters.guest.initramfs import build_initramfs
from kwatch.adapters.guest.recording import Recording
from kwatch.adapters.guest.session import Session
from kwatch.domain.lab.proof import CASES, Attempt, Damage, GuestCase
from kwatch.domain.recipe.arch import ARCHES
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.adapters.host.host import Host
    from kwatch.domain.boot.care import BootProfile
    from kwatch.domain.recipe.boot import Accelerator

COMMAND_TIMEOUT = timedelta(seconds=120)


class AcceleratorProof:
    """The attempts of one accelerator of a host. ``profile`` is what guests there are to have."""

    def __init__(
        self,
        host: Host,
        accelerator: Accelerator,
        *,
        profile: BootProfile,
        busybox: bytes,
        scratch: Path,
    ) -> None:
        self._host = host
        self._accelerator = accelerator
        self._profile = profile
        self._busybox = busybox
        self._scratch = scratch

    async def run(self, kernel: bytes) -> AsyncIterator[Attempt]:
        """The attempts of all cases, as they end; ``kernel`` is an image that is good.

        Raises InfraError where the host fails.
        """
        whole = await self._host.cache.put_bytes(kernel)
        half = await self._host.cache.put_bytes(kernel[: len(kernel) // 2])
        for case in CASES:
            for _ in range(case.times):
                yield await self._try(case, half if case.damage is Damage.HALVED else whole)

    async def _try(self, case: GuestCase, image: str) -> Attempt:
        profile = case.profile(self._profile)
        archive = await asyncio.to_thread(
            build_initramfs,
            arch=ARCHES[profile.recipe.arch],
            busybox=self._busybox,
            commands=profile.recipe.commands,
            counters=profile.recipe.counters,
            command_timeout=COMMAND_TIMEOUT,
        )
        run_id = f"accept-{secrets.token_hex(6)}"
        with Recording(folder=self._scratch / run_id) as heard:
            session = Session(
                self._host,
                profile=profile,
                accelerator=self._accelerator,
                heard=heard,
                image=None,
                usual={},
            )
            initramfs = await self._host.cache.put_bytes(archive)
            verdict = await session.run(run_id, kernel=image, initramfs=initramfs)
            if verdict.end.is_infra:
                said = heard.log[-500:].decode("utf-8", "replace").strip()
                raise InfraError(
                    f"{self._host.name}: {verdict.reason}: {said}", host=self._host.name
                )
        return Attempt(
            case=case,
            end=verdict.end,
            reason=verdict.reason,
            boot_seconds=verdict.boot_seconds,
            took=verdict.took,
        )
