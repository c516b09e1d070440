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

from kwatch.domain.arch import X86_64
from kwatch.domain.log.stack import Frame, blamed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STACK_BYTES = 8192
CODE_BYTES = 32
SHOWN_FRAMES = 12
KEPT_MESSAGES = 200

_KERNEL_CODE = 0x10
_ALWAYS_ONE = 1 << 1
_MOST_FLAGS = 1 << 22
_KERNEL_STACKS = (0, 0x18)
_KERNEL_HALF = 1 << 63
PAGE = 4096
# What Clang counts with.
_COUNTING = {"incq", "addq", "orb"}

# The CPU's error code of a page fault: Intel SDM volume 3, 4.7.
_PRESENT, _WRITE, _FETCH = 1, 2, 16


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
class Instruction:
    """As the disassembler shows it. ``target`` is the address that it names, if it names one."""

    mnemonic: str
    operands: str
    target: int | None = None

    def __str__(self) -> str:
        return f"{self.mnemonic} {self.operands}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """What an exception left on a stack (struct pt_regs): where it happened, with which code."""

    pointer: int
    error_code: int
    flags: int
    stack: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuState:
    """One vCPU at its end. ``trace`` are return addresses on its stack, innermost first.

    ``trap_place`` and ``instruction`` are of the exception if there is a ``trap``, else None and
    of the vCPU itself.
    """

    rip: int
    place: Place | None
    is_halted: bool
    has_interrupts: bool
    cr2: int | None
    trace: tuple[Place, ...] = ()
    trap: Trap | None = None
    trap_place: Place | None = None
    instruction: Instruction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Autopsy:
    """What the guest died of. ``cause`` is the end of a title, ``text`` a paragraph for people.

    ``function`` is who is to blame. ``is_final``: the guest can never go on, whoever waits for it.
    ``lines`` are the evidence, ``messages`` the newest that the kernel had written into its log,
    whether or not they reached a console. ``stopped`` is a sentence on what was to come next.
    """

    cause: str
    text: str
    function: str | None
    is_final: bool
    lines: tuple[str, ...]
    messages: tuple[str, ...]
    stopped: str = ""


def find_trap(arch: str, words: Sequence[int], is_code: Callable[[int], bool]) -> Trap | None:
    """The newest exception frame on a stack: ``words`` from the stack pointer upwards.

    The frame ends with instruction pointer, code segment, flags, stack pointer and stack segment,
    of which four have few values that they can have in a kernel. None where the architecture's
    frames are not known.
    """
    if arch != X86_64.name:
        return None
    for at in range(1, len(words) - 4):
        pointer, code, flags, stack, segment = words[at : at + 5]
        if (
            code == _KERNEL_CODE
            and segment in _KERNEL_STACKS
            and flags & _ALWAYS_ONE
            and flags < _MOST_FLAGS
            and stack & _KERNEL_HALF
            and is_code(pointer)
        ):
            return Trap(pointer=pointer, error_code=words[at - 1], flags=flags, stack=stack)
    return None


def conclude(
    arch: str, vcpus: Sequence[VcpuState], messages: Sequence[str], machine: Machine
) -> Autopsy | None:
    """What it died of; None where the registers say nothing of it."""
    dead = _most_telling(vcpus)
    if dead is None:
        return None
    cause, function = _cause(arch, dead, machine)
    return Autopsy(
        cause=cause,
        text=_told(dead, machine),
        function=function,
        is_final=dead.trap_place is not None or (dead.is_halted and not dead.has_interrupts),
        lines=(*map(_state, vcpus), *(f"  {place}" for place in dead.trace[:SHOWN_FRAMES])),
        messages=tuple(messages[-KEPT_MESSAGES:]),
    )


def _most_telling(vcpus: Sequence[VcpuState]) -> VcpuState | None:
    """The one with an exception; else one that can never go on; those that idle tell nothing."""
    if any(vcpu.place for vcpu in vcpus):
        # Those that the kernel has not started yet wait in the firmware.
        vcpus = [vcpu for vcpu in vcpus if vcpu.place]
    busy = [vcpu for vcpu in vcpus if not (vcpu.is_halted and vcpu.has_interrupts)]
    trapped = [vcpu for vcpu in busy if vcpu.trap_place is not None]
    return next(iter([*trapped, *busy]), None)


def _cause(arch: str, vcpu: VcpuState, machine: Machine) -> tuple[str, str | None]:
    """The end of a title, and the function to blame."""
    if vcpu.trap is not None and vcpu.trap_place is not None:
        function = vcpu.trap_place.function
        what = "a lost profile counter" if _is_lost(vcpu) else _exception(vcpu)
        return f"{what} in {function}", function
    if vcpu.place is None:
        stopped = "" if machine is Machine.OFF else "stopped "
        return f"{stopped}{_before_the_kernel(arch, vcpu.rip)}", None
    frames = [Frame(place.function) for place in (vcpu.place, *vcpu.trace)]
    guilty = blamed(frames, "stall")
    function = guilty.name if guilty else vcpu.place.function
    if machine is Machine.OFF:
        return f"in {function}", function
    if vcpu.is_halted:
        return f"halted with interrupts off in {function}", function
    if vcpu.place.function != function:
        return f"{vcpu.place.function} never returns to {function}", function
    return f"endless loop in {function}", function


def _before_the_kernel(arch: str, rip: int) -> str:
    """Where code is that is no part of the image: PC memory map, and how bzImage is loaded."""
    if arch != X86_64.name:
        return "outside of the kernel's own address space"
    if 0xC0000 <= rip < 0x100000 or 0xFF000000 <= rip < 1 << 32:
        return "in the firmware"
    if rip < 1 << 32:
        return "in the decompressor or the boot loader"
    return "outside of the kernel's code"


def _is_lost(vcpu: VcpuState) -> bool:
    """Whether an instruction that counts was to count nowhere."""
    instruction = vcpu.instruction
    return (
        instruction is not None
        and instruction.mnemonic in _COUNTING
        and instruction.target is not None
        and instruction.target < PAGE
    )


def _exception(vcpu: VcpuState) -> str:
    """Which exception it was, as far as registers and instruction tell."""
    if vcpu.instruction and vcpu.instruction.mnemonic in _TRAPS:
        return _TRAPS[vcpu.instruction.mnemonic]
    if _addresses(vcpu):
        return "page fault at a null address" if (vcpu.cr2 or 0) < PAGE else "page fault"
    return "exception"


_TRAPS = {"ud2": "BUG or unreachable code", "ud1": "undefined behaviour", "int3": "breakpoint",
          "hlt": "halt"}  # fmt: skip


def _addresses(vcpu: VcpuState) -> bool:
    """Whether the CPU's fault address fits what the instruction does."""
    instruction = vcpu.instruction
    if instruction is None or vcpu.cr2 is None:
        return False
    if instruction.target is not None:
        return 0 <= vcpu.cr2 - instruction.target < PAGE
    return "(" in instruction.operands or instruction.mnemonic.startswith(("rep", "push", "call"))


def _state(vcpu: VcpuState) -> str:
    where = vcpu.place or f"{vcpu.rip:#x}, which is not in the image"
    doing = "halted" if vcpu.is_halted else "running"
    interrupts = "on" if vcpu.has_interrupts else "off"
    fault = "" if vcpu.cr2 is None else f", CR2 {vcpu.cr2:#x}"
    return f"vCPU {doing} at {where}, interrupts {interrupts}{fault}"


def _told(vcpu: VcpuState, machine: Machine) -> str:
    interrupts = "on" if vcpu.has_interrupts else "off"
    doing = "is halted" if vcpu.is_halted else "runs"
    if machine is Machine.OFF:
        doing = "ended"
    where = f"in {vcpu.place}" if vcpu.place else f"at {vcpu.rip:#x}"
    parts = [f"The processor {doing} {where} with interrupts {interrupts}."]
    if vcpu.trap is not None and vcpu.trap_place is not None:
        parts.append(f"Its stack holds the frame of an exception at {vcpu.trap_place}.")
    if vcpu.instruction:
        parts.append(f"The instruction there is `{vcpu.instruction}`.")
    if vcpu.trap is not None and _addresses(vcpu):
        code = vcpu.trap.error_code
        access = "fetch" if code & _FETCH else "write" if code & _WRITE else "read"
        page = "protected" if code & _PRESENT else "not present"
        parts.append(f"It is a page fault: a {access} at {vcpu.cr2:#x}, a page that is {page}.")
    if _is_lost(vcpu):
        parts.append(
            "Such an instruction counts for a coverage profile, and its counter is nowhere: the"
            " linker lost it."
        )
    return " ".join(parts)


_DISASSEMBLED = re.compile(
    r"^\s*(?P<at>[0-9a-f]+):\s+(?P<mnemonic>[a-z][\w.]*)\s*(?P<operands>(?:[^#<]|#\S)*?)\s*"
    r"(?:<[^>]*>)?\s*(?:#\s+(?:imm = )?(?:0x(?P<target>[0-9a-f]+))?.*)?$"
)


def read_instruction(line: str) -> Instruction | None:
    """One line of llvm-objdump -d --no-show-raw-insn, in AT&T syntax or that of arm64."""
    found = _DISASSEMBLED.match(line)
    if found is None:
        return None
    target = found["target"]
    return Instruction(
        mnemonic=found["mnemonic"],
        operands=" ".join(found["operands"].split()),
        target=int(target, 16) if target and "(%rip)" in found["operands"] else None,
    )
