# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that died without a word, and what its registers, stack and code say of it.

What engineers do by hand with a debugger: where is each vCPU, which exception brought it there,
which instruction caused it, and what was it to address. The frames of exceptions are those of
x86-64: on others it is told where each vCPU is, and what the kernel wrote into its log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from kwatch.domain.deadguest.exception_frame import (
    Fault,
    Instruction,
    Trap,
    access,
    fault_of,
    faulty_address,
    is_canonical,
    operands,
)
from kwatch.domain.log.stack import PASSED_OVER, Frame, blamed
from kwatch.domain.recipe.arch import X86_64

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STACK_BYTES = 8192
CODE_BYTES = 32
SHOWN_FRAMES = 12
KEPT_MESSAGES = 200

# Who halts here has nothing to do; a kernel halts with interrupts on nowhere else.
_IDLE = re.compile(r"(?:\w+_)?idle(?:_|$)|cpu_startup_entry|\w*mwait")


class Machine(Enum):
    """How the machine was found."""

    SILENT = auto()
    """It goes on and says nothing."""
    OFF = auto()
    """It reset or powered off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A function of the image, and how far in."""

    function: str
    offset: int

    def __str__(self) -> str:
        return f"{self.function}+{self.offset:#x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuState:
    """One vCPU at its end. ``trace`` are return addresses on its stack, innermost first.

    ``trap`` is the exception that brought it there, ``trap_place`` where it happened, if that is in
    the image, and ``callers`` the part of the trace that is older. ``instruction`` is that of the
    exception if there is a ``trap``, else that of the vCPU itself.
    """

    cpu: int = 0
    rip: int
    place: Place | None
    is_halted: bool
    has_interrupts: bool
    cr2: int | None
    trace: tuple[Place, ...] = ()
    trap: Trap | None = None
    trap_place: Place | None = None
    callers: tuple[Place, ...] = ()
    instruction: Instruction | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is where one waits for another vCPU, or tells of what happened elsewhere."""
        return (
            self.place is not None and PASSED_OVER["stuck"].match(self.place.function) is not None
        )

    @property
    def waits_for_interrupts(self) -> bool:
        """Whether the next interrupt lets it go on."""
        return self.is_halted and self.has_interrupts

    @property
    def has_nothing_to_do(self) -> bool:
        """Whether it is in the kernel's idle loop, as far as its trace tells."""
        return self.waits_for_interrupts and any(
            _IDLE.match(one.function) for one in (self.place, *self.trace) if one
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Autopsy:
    """What the guest died of. ``cause`` is the end of a title.

    ``function`` is the function to blame. ``is_final``: it does not go on from where it is, and may
    be named by that place. ``lines`` are the state of the CPUs for a report: where each one is, the
    exception, the call trace under :data:`CALL_TRACE`. ``messages`` are the newest in the kernel
    log buffer, printed or not. ``stopped`` is a sentence on what would have run next.
    """

    cause: str
    function: str | None
    is_final: bool
    lines: tuple[str, ...]
    messages: tuple[str, ...]
    stopped: str = ""


CALL_TRACE = "Call trace:"
LOG_BUFFER = "End of the kernel log buffer:"


def state_of_guest(autopsy: Autopsy, shown_messages: int) -> tuple[str, ...]:
    """The block of a report that shows how a guest was found.

    The boot progress is left out where a call trace says more.
    """
    has_trace = CALL_TRACE in autopsy.lines
    progress = () if has_trace or not autopsy.stopped else (autopsy.stopped,)
    messages = tuple(f"  {line}" for line in autopsy.messages[-shown_messages:])
    return (*autopsy.lines, *progress, *((LOG_BUFFER, *messages) if messages else ()))


def conclude(
    arch: str, vcpus: Sequence[VcpuState], messages: Sequence[str], machine: Machine
) -> Autopsy | None:
    """What it died of, or what it waits in; None where no vCPU is in the kernel."""
    dead = _most_telling(vcpus)
    if dead is None:
        return None
    cause, function = _cause(arch, dead, machine)
    return Autopsy(
        cause=cause,
        function=function,
        is_final=_is_final(arch, dead),
        lines=(*map(_state, vcpus), *_exception(dead), *_call_trace(dead)),
        messages=tuple(messages[-KEPT_MESSAGES:]),
    )


def _most_telling(vcpus: Sequence[VcpuState]) -> VcpuState | None:
    """One with an exception; else one that goes no further by itself; else one that idles."""
    # Those that the kernel has not started yet wait in the firmware.
    started = [vcpu for vcpu in vcpus if vcpu.place] or vcpus
    return min(
        started,
        key=lambda one: (
            one.trap is None,
            one.has_nothing_to_do,
            one.waits_for_interrupts,
            one.is_waiting,
        ),
        default=None,
    )


def _is_final(arch: str, vcpu: VcpuState) -> bool:
    if vcpu.waits_for_interrupts:
        return arch == X86_64.name and not vcpu.has_nothing_to_do
    return vcpu.trap is not None or vcpu.is_halted


def _cause(arch: str, vcpu: VcpuState, machine: Machine) -> tuple[str, str | None]:
    """The end of a title, and the function to blame."""
    if vcpu.trap is not None:
        cause, function = _cause_of_trap(vcpu, vcpu.trap)
        return f"on {cause}" if machine is Machine.OFF else cause, function
    if vcpu.place is None:
        stopped = "" if machine is Machine.OFF else "stopped "
        return f"{stopped}{_before_the_kernel(arch, vcpu.rip)}", None
    if vcpu.has_nothing_to_do:
        return "while it idles", None
    frames = [Frame(place.function) for place in (vcpu.place, *vcpu.trace)]
    guilty = blamed(frames, "stuck")
    function = guilty.name if guilty else vcpu.place.function
    if machine is Machine.OFF:
        return f"in {function}", function
    if vcpu.waits_for_interrupts:
        return f"waits for an interrupt in {function}", function
    if vcpu.is_halted:
        return f"halted with interrupts off in {function}", function
    if vcpu.place.function != function:
        return f"{vcpu.place.function} never returns to {function}", function
    return f"endless loop in {function}", function


def _cause_of_trap(vcpu: VcpuState, trap: Trap) -> tuple[str, str | None]:
    """Which exception it was, and in whom: who copies only does what he is told."""
    fault = fault_of(trap, vcpu.instruction, vcpu.cr2)
    frames = [Frame(place.function) for place in (vcpu.trap_place, *vcpu.callers) if place]
    guilty = blamed(frames, "access")
    function = guilty.name if guilty else None
    if fault is Fault.LOST_COUNTER or function is None:
        function = vcpu.trap_place.function if vcpu.trap_place else None
    return f"{fault.value} in {function}" if function else fault.value, function


def _before_the_kernel(arch: str, rip: int) -> str:
    """Where code is that is no part of the image: PC memory map, and how bzImage is loaded."""
    if arch != X86_64.name:
        return "outside of the kernel's own address space"
    if 0xC0000 <= rip < 0x100000 or 0xFF000000 <= rip < 1 << 32:
        return "in the firmware"
    if rip < 1 << 32:
        return "in the decompressor or the boot loader"
    return "outside of the kernel's code"


def _state(vcpu: VcpuState) -> str:
    where = vcpu.place or f"{vcpu.rip:#x} (not in vmlinux)"
    doing = "idle" if vcpu.has_nothing_to_do else "halted" if vcpu.is_halted else "running"
    interrupts = "on" if vcpu.has_interrupts else "off"
    return f"CPU {vcpu.cpu}: {doing} at {where}, interrupts {interrupts}"


def _exception(vcpu: VcpuState) -> Iterator[str]:
    """The exception, and the instruction that raised it, or what a running CPU executes."""
    trap = vcpu.trap
    if trap is None:
        if vcpu.instruction:
            yield f"{'':7}{vcpu.instruction}"
        return
    fault = fault_of(trap, vcpu.instruction, vcpu.cr2)
    is_access = fault in {Fault.LOST_COUNTER, Fault.NULL_ACCESS}
    name = Fault.PAGE_FAULT if is_access else fault
    yield f"Exception: {name.value} at {vcpu.trap_place or hex(trap.pointer)}"
    if vcpu.instruction:
        values = [
            f"{register} = {value:#x}{'' if is_canonical(value) else ' (non-canonical)'}"
            for register, value in operands(trap, vcpu.instruction)
        ]
        shown = f"{vcpu.instruction}   with {', '.join(values)}" if values else vcpu.instruction
        yield f"{'':11}{shown}"
    address = faulty_address(trap, vcpu.instruction, vcpu.cr2)
    if address is not None and not trap.is_wild and is_canonical(address):
        yield f"{'':11}{access(trap, address)}"
    if fault is Fault.LOST_COUNTER:
        yield f"{'':11}this instruction updates a coverage counter that has no address in vmlinux"


def _call_trace(vcpu: VcpuState) -> Iterator[str]:
    """The callers of the faulting function, or of the function that the CPU is in.

    The head code below start_kernel() is the same in every trace, and that of an idle CPU says
    nothing.
    """
    frames = vcpu.callers if vcpu.trap else vcpu.trace
    if vcpu.has_nothing_to_do or not frames:
        return
    yield CALL_TRACE
    for place in frames[:SHOWN_FRAMES]:
        yield f"  {place}"
        if place.function == "start_kernel":
            return
