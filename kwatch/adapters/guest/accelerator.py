# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerators of a host really run a guest.

A /dev/kvm that opens is no proof: QEMU may abort on the CPU model, or a guest may never get its
timer. So a tiny guest is booted. On x86 it takes timer interrupts and enters 64-bit mode with
paging; on arm64, which is there at once, it waits for the counter that timers go by. Then it says
one word and resets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.adapters.guest.qemu import LOG_LIMIT, machine
from kwatch.domain.recipe.arch import ARM64, X86_64
from kwatch.domain.recipe.boot import Accelerator
from kwatch.domain.run import CONSOLE, LOG, Alive, Ended, Output, RunReason, RunSpec
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from kwatch.adapters.host.host import Host
    from kwatch.domain.boot.care import BootProfile
    from kwatch.domain.run import RunEnd

log = logging.getLogger(__name__)

DEADLINE = 20.0  # seconds; TCG takes a third of one

# What kwatch/remote/probe_x86_64.S and probe_arm64.S assemble to; a test compares.
_BOOT_SECTOR = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfcfba06c040403f438066c0475f9fabf001031c0b90018f3abc70600"
    "100320c70600200330c706003083000f0116a07c66b8200000000f22e066b8001000000f22d866b9"
    "800000c00f320d00010f3066b8110000800f22c0ea697c0800be817c000066baf803ac84c07403ee"
    "ebf8b0fee664f4ebf96b77617463680a000f1f8000000000000000000000000000000000009a2000"
    "0f00907c"
)
_IMAGE = bytes.fromhex(
    "41e03bd502e03bd52118428bdf3f03d543e03bd57f0001eba3ffff54410100100220a1d22014403860000034"
    "400000b9fdffff170080b05200240011020000d4fdffff176b77617463680a00"
)
_DISK_SIZE = 1 << 20  # SeaBIOS boots from no smaller disk than one with some tracks


@dataclass(frozen=True, slots=True)
class TinyGuest:
    """A file to boot, and QEMU's options for it, with ``{}`` for its path."""

    image: bytes
    options: tuple[str, str]


TINY_GUESTS = {
    X86_64.name: TinyGuest(
        (_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa").ljust(_DISK_SIZE, b"\0"),
        ("-drive", "if=virtio,format=raw,readonly=on,file={}"),
    ),
    ARM64.name: TinyGuest(_IMAGE, ("-kernel", "{}")),
}


class Accelerators:
    """Which accelerators really work on each host: tried once for each machine and CPU."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, str | None], dict[Accelerator, str | None]] = {}
        self._probing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def best(self, host: Host, profile: BootProfile) -> Accelerator:
        """The accelerator for ``profile``: what it asks for, or the best that the host can do.

        Raises InfraError, with the reasons, where none works.
        """
        if profile.recipe.accelerator is not Accelerator.AUTO:
            return profile.recipe.accelerator
        found = await self.tried(host, profile)
        works = [accelerator for accelerator, reason in found.items() if reason is None]
        if not works:
            # The next time it may.
            self.forget(host)
            reasons = "; ".join(f"{name}: {reason}" for name, reason in found.items())
            raise InfraError(f"{host.name} cannot run a guest ({reasons})", host=host.name)
        return works[0]

    async def tried(self, host: Host, profile: BootProfile) -> dict[Accelerator, str | None]:
        """None for each accelerator that runs a tiny guest of ``profile``, or why it does not."""
        key = (host.name, profile.recipe.arch, profile.recipe.machine, profile.recipe.cpu)
        # One host at a time would let a silent one hold up all others.
        async with self._probing[host.name]:
            if key not in self._known:
                found = await probe_accelerators(host, profile)
                for accelerator, reason in found.items():
                    log.debug("%s: %s %s", host.name, accelerator, reason or "works")
                self._known[key] = found
        return self._known[key]

    def guests(self, host: Host) -> dict[Accelerator, str | None]:
        """What is known of each accelerator by now: None where some tiny guest runs under it."""
        found: dict[Accelerator, str | None] = {}
        for key, tried in self._known.items():
            for accelerator, reason in tried.items() if key[0] == host.name else ():
                if found.get(accelerator, "") is not None:
                    found[accelerator] = reason
        return found

    def forget(self, host: Host) -> None:
        """Try anew what runs on ``host``."""
        self._known = {key: found for key, found in self._known.items() if key[0] != host.name}


async def probe_accelerators(host: Host, profile: BootProfile) -> dict[Accelerator, str | None]:
    """Try KVM and TCG with the machine and CPU of ``profile``: None if it works, or the reason.

    For guests of another architecture than the host's there is only TCG.
    """
    tiny = TINY_GUESTS[profile.recipe.arch]
    path = await host.cache.put_bytes(tiny.image)
    options = tuple(option.format(path) for option in tiny.options)
    is_native = profile.recipe.arch == host.spec.arch
    return {
        accelerator: await _try(host, profile, accelerator, options)
        for accelerator in ((Accelerator.KVM, Accelerator.TCG) if is_native else (Accelerator.TCG,))
    }


async def _try(
    host: Host, profile: BootProfile, accelerator: Accelerator, options: tuple[str, ...]
) -> str | None:
    spec = RunSpec(
        argv=(*machine(profile, accelerator, memory_mib=64, cpus=1), *options),
        deadline=DEADLINE,
        limits={CONSOLE: LOG_LIMIT, LOG: LOG_LIMIT},
        lease=DEADLINE,
    )
    run_id = f"probe-{accelerator.value}-{secrets.token_hex(4)}"
    said = {CONSOLE: b"", LOG: b""}
    await host.runs.start(run_id, spec)
    try:
        async with contextlib.aclosing(host.runs.attach(run_id, dict.fromkeys(said, 0))) as frames:
            async for frame in frames:
                match frame:
                    case Output():
                        said[frame.file] += frame.data
                    case Alive():
                        pass
                    case Ended(end=end):
                        return _judge(end, said[CONSOLE], said[LOG].decode("utf-8", "replace"))
    finally:
        # Or a host that does not answer would turn a cancellation into a failure of its own.
        with contextlib.suppress(InfraError):
            await host.runs.discard(run_id)
    return "the run ended without saying how"


def _judge(end: RunEnd, console: bytes, log: str) -> str | None:
    if end.reason is RunReason.EXITED and end.status == 0 and b"kwatch\n" in console:
        return None
    if end.reason is RunReason.DEADLINE:
        return f"a tiny guest did not come to its end within {DEADLINE:g} s"
    last = log.strip().splitlines()[-1:] or [end.detail or "it said nothing"]
    return f"QEMU ended by {end.reason.value} with status {end.status}: {last[0][:300]}"
