# SPDX-License-Identifier: GPL-2.0-or-later
"""Exceptions of x86-64: the frame that one left on a stack, the instruction, and which it was.

Sources: Intel SDM volume 3, chapter 6; struct pt_regs and the entry code of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from kwatch.domain.recipe.arch import X86_64

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

PAGE = 4096

_KERNEL_CODE = 0x10
_ALWAYS_ONE = 1 << 1
_MOST_FLAGS = 1 << 22
_KERNEL_STACKS = (0, 0x18)
_KERNEL_HALF = 1 << 63
# Of four levels of page tables; with five, CR2 tells.
_NOT_CANONICAL = range(1 << 47, (1 << 64) - (1 << 47))
_ADDRESSES = 1 << 64
_WORD = 8
# The words of pt_regs above that of the error code, and those below it.
_HARDWARE = 5
_SAVED = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
          "rsi", "rdi")  # fmt: skip

# The CPU's error code of a page fault: Intel SDM volume 3, 4.7.
_PRESENT, _WRITE, _FETCH = 1, 2, 16

# Entry code, by the return address that it leaves below a frame.
_EARLY = re.compile(r"early_idt_handler")
_INTERRUPT = re.compile(r"asm_(?:sysvec_|common_interrupt|spurious|exc_nmi)|end_repeat_nmi")
# Whoever is in one of these does not handle an exception, but tells of it.
_DYING = re.compile(
    r"early_fixup_exception|do_early_exception|page_fault_oops|kernelmode_fixup_or_oops|no_context"
    r"|_*die(?:_|$)|oops_|(?:nmi_|v)?panic|__warn|report_bug|handle_bug|exc_double_fault"
)


class Fault(Enum):
    """What an exception was, in the words of a title."""

    NULL_ACCESS = "page fault at a null address"
    PAGE_FAULT = "page fault"
    PROTECTION = "general protection fault"
    DIVIDE = "divide error"
    BUG = "BUG or unreachable code"
    UNDEFINED = "undefined behaviour"
    BREAKPOINT = "breakpoint"
    DOUBLE = "double fault"
    STACK = "stack segment fault"
    NULL_JUMP = "jump to a null address"
    WILD_JUMP = "jump to where no code is"
    LOST_COUNTER = "a lost profile counter"
    UNKNOWN = "exception"


_ENTRIES = {
    "asm_exc_page_fault": Fault.PAGE_FAULT,
    "asm_exc_general_protection": Fault.PROTECTION,
    "asm_exc_divide_error": Fault.DIVIDE,
    "asm_exc_int3": Fault.BREAKPOINT,
    "asm_exc_double_fault": Fault.DOUBLE,
    "asm_exc_stack_segment": Fault.STACK,
}
_TRAPPING = {"ud2": Fault.BUG, "ud1": Fault.UNDEFINED, "int3": Fault.BREAKPOINT}
# What Clang counts with.
_COUNTING = {"incq", "addq", "orb"}
# What a CPU refuses by another exception than a page fault.
_REFUSED = (
    (Fault.DIVIDE, re.compile(r"i?div")),
    (
        Fault.PROTECTION,
        re.compile(r"(?:rd|wr)msr|xsetbv|xsaves|xrstors|l[gil]dt|ltr|wrpkru|iret|mov\w* .*%cr"),
    ),
)


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
    """What an exception left on a stack (struct pt_regs): where it happened, with which code.

    ``end`` is the position of the word above it. ``is_wild``: ``pointer`` is no address of code.
    ``entry`` is the kernel's entry code for it, ``registers`` what was saved, by name; either may
    be missing. ``error_code`` is None where the kernel has overwritten it.
    """

    pointer: int
    error_code: int | None
    stack: int
    end: int
    is_wild: bool = False
    entry: str | None = None
    registers: Mapping[str, int] = field(default_factory=dict)


def find_trap(
    arch: str,
    words: Sequence[int],
    *,
    top: int,
    code: Collection[int],
    returns: Sequence[tuple[int, str]],
    function: str | None,
) -> Trap | None:
    """The newest exception on a stack that its handler does not survive.

    ``words`` are those from the address ``top`` upwards, ``code`` the positions of addresses of
    code, ``returns`` the positions of return addresses and the functions they lead to, and
    ``function`` where the vCPU is. An exception that is being handled, and an interrupt, only tell
    what was interrupted. None also where the architecture's frames are not known.
    """
    if arch != X86_64.name:
        return None
    for at in range(1, len(words) - _HARDWARE + 1):
        hardware = words[at : at + _HARDWARE]
        if not _is_frame(hardware):
            continue
        # The CPU aligns the stack, and pushes the frame right below where it was.
        is_wild = at not in code
        if is_wild and not 0 <= hardware[3] - (top + _WORD * (at + _HARDWARE)) <= _WORD:
            continue
        inner = [name for position, name in returns if position < at]
        entry = inner[-1] if inner else None
        if entry and _INTERRUPT.match(entry):
            return None
        is_early = entry is not None and _EARLY.match(entry)
        if is_early or any(_DYING.match(name) for name in (function or "", *inner)):
            return _trap(words, at, entry, is_wild=is_wild)
    return None


def _is_frame(hardware: Sequence[int]) -> bool:
    """Whether the CPU may have pushed these words for an exception in the kernel."""
    _, segment, flags, stack, stack_segment = hardware
    return bool(
        segment == _KERNEL_CODE
        and stack_segment in _KERNEL_STACKS
        and flags & _ALWAYS_ONE
        and flags < _MOST_FLAGS
        and stack & _KERNEL_HALF
    )


def _trap(words: Sequence[int], at: int, entry: str | None, *, is_wild: bool) -> Trap:
    """The exception whose frame begins at this position."""
    pointer, _, _, stack, _ = words[at : at + _HARDWARE]
    error_code = words[at - 1]
    saved = words[at - 1 - len(_SAVED) : at - 1] if at > len(_SAVED) else ()
    return Trap(
        pointer=pointer,
        error_code=error_code if error_code <= 0xFFFF_FFFF else None,
        stack=stack,
        end=at + _HARDWARE,
        is_wild=is_wild,
        entry=entry,
        registers=dict(zip(_SAVED, saved, strict=False)),
    )


def fault_of(trap: Trap, instruction: Instruction | None, cr2: int | None) -> Fault:
    """Which exception it was, as far as its entry, the registers and the instruction tell."""
    if trap.is_wild:
        return Fault.NULL_JUMP if trap.pointer < PAGE else Fault.WILD_JUMP
    told = _ENTRIES.get(trap.entry or "", Fault.UNKNOWN)
    if instruction is None or told not in {Fault.UNKNOWN, Fault.PAGE_FAULT}:
        return told
    if instruction.mnemonic in _TRAPPING:
        return _TRAPPING[instruction.mnemonic]
    if instruction.mnemonic in _COUNTING and instruction.target in range(PAGE):
        return Fault.LOST_COUNTER
    address = faulty_address(trap, instruction, cr2)
    if address is None:
        refused = (fault for fault, pattern in _REFUSED if pattern.match(str(instruction)))
        return next(refused, told)
    if address < PAGE:
        return Fault.NULL_ACCESS
    is_canonical = address == cr2 or address not in _NOT_CANONICAL
    return Fault.PAGE_FAULT if is_canonical else Fault.PROTECTION


def faulty_address(trap: Trap, instruction: Instruction | None, cr2: int | None) -> int | None:
    """The address that brought the exception, as far as it is certain.

    It is what CR2 says if the instruction addresses it. CR2 may be that of another fault, for
    whoever tells of an exception may cause some; then it is what nobody can address.
    """
    if trap.is_wild:
        return trap.pointer
    if instruction is None:
        return None
    addressed = list(_addressed(trap, instruction))
    for address in addressed:
        # An operand has some bytes, and a page may end among them.
        if cr2 is not None and 0 <= cr2 - address < PAGE:
            return cr2
    return next((one for one in addressed if one < PAGE or one in _NOT_CANONICAL), None)


_MEMORY = re.compile(
    r"(?P<segment>%[a-z]s:)?(?P<move>-?0x[0-9a-f]+|-?\d+)?"
    r"\((?P<base>%\w+)?(?:,\s*(?P<index>%\w+)(?:,\s*(?P<scale>[1248]))?)?\)"
)


def _addressed(trap: Trap, instruction: Instruction) -> Iterator[int]:
    """The addresses that an instruction names, as far as registers and segments are known."""
    if instruction.mnemonic.startswith(("lea", "nop")):
        return
    if instruction.target is not None:
        yield instruction.target
    registers = {**trap.registers, "rsp": trap.stack}
    for found in _MEMORY.finditer(instruction.operands):
        base, index = [(found[name] or "").lstrip("%") for name in ("base", "index")]
        if found["segment"] in {"%fs:", "%gs:"} or {base, index} - {""} - registers.keys():
            continue
        address = int(found["move"] or "0", 0) + registers.get(base, 0)
        yield (address + registers.get(index, 0) * int(found["scale"] or "1")) % _ADDRESSES
    if instruction.mnemonic.startswith(("push", "call")):
        yield trap.stack - _WORD
    if instruction.mnemonic.startswith(("pop", "ret")):
        yield trap.stack


def is_canonical(address: int) -> bool:
    """Whether x86-64 can translate the address at all (four levels of page tables)."""
    return address not in _NOT_CANONICAL


def operands(trap: Trap, instruction: Instruction) -> tuple[tuple[str, int], ...]:
    """The registers that form the addresses in an instruction, with their saved values."""
    registers = {**trap.registers, "rsp": trap.stack}
    named = [
        found[part]
        for found in _MEMORY.finditer(instruction.operands)
        for part in ("base", "index")
        if found[part]
    ]
    return tuple(
        (name, registers[name.lstrip("%")])
        for name in dict.fromkeys(named)
        if name.lstrip("%") in registers
    )


def access(trap: Trap, address: int) -> str:
    """The access that raised a page fault, from its error code."""
    if trap.error_code is None:
        return f"access to {address:#x}"
    code = trap.error_code
    kind = "instruction fetch" if code & _FETCH else "write" if code & _WRITE else "read"
    at = "from" if kind == "read" else "to" if kind == "write" else "at"
    page = "protection violation" if code & _PRESENT else "page not present"
    return f"{kind} {at} {address:#x}: {page}"
