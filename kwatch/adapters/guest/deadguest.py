# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask a guest that went silent what it died of, while its machine is still there."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kwatch.adapters.guest.qmp import QmpError
from kwatch.domain.deadguest import printk
from kwatch.domain.deadguest.autopsy import (
    CODE_BYTES,
    STACK_BYTES,
    Autopsy,
    Machine,
    Place,
    VcpuState,
    conclude,
)
from kwatch.domain.deadguest.exception_frame import PAGE, find_trap
from kwatch.domain.deadguest.profile_counters import Counters
from kwatch.domain.log.addresses import bare_addresses, with_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.adapters.guest.qmp import Qmp
    from kwatch.adapters.host.host import Host
    from kwatch.adapters.kernel.image import Image
    from kwatch.domain.boot.vcpu import VcpuSample

MAX_VCPUS = 16
MAX_COUNTERS_BYTES = 1 << 28
_RECORDS, _COUNTERS = "__llvm_prf_data", "__llvm_prf_cnts"
# Where x86-64 maps the kernel's image (Documentation/arch/x86/x86_64/mm.rst).
KERNEL_MAP = 0xFFFFFFFF80000000


class Memory:
    """The memory of a stopped guest. ``folder`` is that of its run on ``host``."""

    def __init__(self, machine: Qmp, host: Host, folder: str) -> None:
        self._machine = machine
        self._host = host
        self._file = f"{folder}/memory"

    async def read(self, address: int, size: int, *, cpu: int = 0) -> bytes:
        """Bytes at a virtual address, as many as are mapped in a row."""
        try:
            await self._machine.save(address, size, self._file, cpu=cpu)
            return await self._host.account.read(self._file, size)
        except QmpError:
            rest = PAGE - address % PAGE
            return await self.read(address, rest, cpu=cpu) if rest < size else b""

    async def words(self, address: int, size: int, *, cpu: int = 0) -> tuple[int, ...]:
        """The same as 64-bit words."""
        data = await self.read(address, size, cpu=cpu)
        return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is left of a guest: what it died of, where its registers tell, and its counters."""

    autopsy: Autopsy | None
    counters: Counters | None


async def examine_guest(
    arch: str,
    samples: Sequence[VcpuSample],
    memory: Memory,
    image: Image,
    machine: Machine,
) -> Remains:
    """What a guest died of that was stopped.

    ``samples`` are the registers at its end; what user space does tells nothing of the kernel.

    Raises InfraError where the host or a tool of LLVM fails.
    """
    in_kernel = {cpu: one for cpu, one in enumerate(samples[:MAX_VCPUS]) if one.cpl == 0}
    codes = [await memory.read(one.rip, CODE_BYTES, cpu=cpu) for cpu, one in in_kernel.items()]
    stacks = [
        await memory.words(one.rsp & ~7, STACK_BYTES, cpu=cpu) for cpu, one in in_kernel.items()
    ]
    found = await image.ask(
        {
            "prints": [
                [one.rip, code.hex()] for one, code in zip(in_kernel.values(), codes, strict=True)
            ],
            "stacks": stacks,
            "symbols": [printk.POINTER],
            "sections": [_RECORDS, _COUNTERS],
        }
    )
    moved = found["moved_by"] or 0
    vcpus = [
        await _vcpu(arch, cpu, sample, words, stack, image=image, moved=moved)
        for (cpu, sample), words, stack in zip(
            in_kernel.items(), stacks, found["stacks"], strict=True
        )
    ]
    messages = await _messages(memory, found["symbols"])
    return Remains(
        autopsy=conclude(arch, vcpus, await _named(messages, image, moved), machine),
        counters=await _counters(memory, found["sections"]),
    )


async def _vcpu(
    arch: str,
    cpu: int,
    sample: VcpuSample,
    words: Sequence[int],
    stack: Mapping[str, Any],
    *,
    image: Image,
    moved: int,
) -> VcpuState:
    """Where a vCPU is and how it came there; ``stack`` is what the image says of its words."""
    here = await _find(image, sample.rip, moved)
    returns = [(at, Place(function=name, offset=offset)) for at, name, offset in stack["returns"]]
    trap = find_trap(
        arch,
        words,
        top=sample.rsp & ~7,
        code=set(stack["code"]),
        returns=[(at, place.function) for at, place in returns],
        function=here.place.function if here.place else None,
    )
    there = await _find(image, trap.pointer, moved) if trap else here
    has_code = not (sample.halted and sample.interrupts_enabled) and not (trap and trap.is_wild)
    return VcpuState(
        cpu=cpu,
        rip=sample.rip,
        place=here.place,
        is_halted=sample.halted,
        has_interrupts=sample.interrupts_enabled,
        cr2=sample.cr2,
        trace=tuple(place for _, place in returns),
        trap=trap,
        trap_place=there.place if trap else None,
        callers=tuple(place for at, place in returns if trap and at >= trap.end),
        instruction=await image.instruction(there.linked) if has_code else None,
    )


class _Found(NamedTuple):
    """An address as the image has it, and what is there."""

    linked: int
    place: Place | None


async def _find(image: Image, address: int, moved: int) -> _Found:
    """Where an address is in the image: as it runs, or before it has page tables of its own."""
    candidates = (address - moved, (address + KERNEL_MAP) % (1 << 64))
    for linked, place in zip(candidates, await image.locate(candidates), strict=True):
        if place:
            return _Found(linked, place)
    return _Found(candidates[0], None)


async def _counters(memory: Memory, sections: Mapping[str, Sequence[int]]) -> Counters | None:
    """The profile counters; None where the kernel has none, or its memory is not mapped yet."""
    if not {_RECORDS, _COUNTERS} <= sections.keys():
        return None
    places = sections[_RECORDS], sections[_COUNTERS]
    if sum(size for _, size in places) > MAX_COUNTERS_BYTES:
        return None
    records, counters = [await memory.read(address, size) for address, size in places]
    return Counters(records=records, counters=counters, distance=places[1][0] - places[0][0])


async def _named(messages: Sequence[str], image: Image, moved: int) -> tuple[str, ...]:
    """The messages of a kernel without KALLSYMS with names for the addresses of a trace."""
    text = "\n".join(messages).encode("utf-8", "replace")
    addresses = bare_addresses(text)
    if not addresses:
        return tuple(messages)
    located = await image.locate([one - moved for one in addresses])
    names = {
        address: str(place) for address, place in zip(addresses, located, strict=True) if place
    }
    return tuple(with_names(text, names).decode("utf-8", "replace").splitlines())


async def _messages(memory: Memory, symbols: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """What the kernel has written into its log, whether or not it reached a console."""
    if printk.POINTER not in symbols:
        return ()
    pointer = await memory.words(symbols[printk.POINTER][0], 8)
    if not pointer:
        return ()
    ring = printk.find_ring(await memory.read(pointer[0], printk.HEADER_BYTES))
    if ring is None:
        return ()
    descriptions, infos, text = [
        await memory.read(region.address, region.size)
        for region in (ring.descriptions, ring.infos, ring.text)
    ]
    return printk.messages(ring, descriptions, infos, text)
