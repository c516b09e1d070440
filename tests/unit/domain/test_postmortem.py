# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers and stacks of guests that died, as a Linux of our own left them behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.postmortem import (
    Instruction,
    Machine,
    Place,
    Trap,
    VcpuState,
    conclude,
    find_trap,
    read_instruction,
)

HALT = Place(function="early_fixup_exception", offset=0x6F)
FAULT = Place(function="start_kernel", offset=0xE)
COUNT = Instruction(mnemonic="incq", operands="0x7e590c7b(%rip)", target=0)
TRAP = Trap(pointer=0xFFFFFFFF81A6F37E, error_code=2, flags=0x46, stack=0xFFFFFFFF81803F08)
# The seed's fault: a counter that the linker lost is counted up before a console works.
SEED = VcpuState(
    rip=0xFFFFFFFF81A8C95F, place=HALT, is_halted=True, has_interrupts=False, cr2=0,
    trace=(Place(function="early_idt_handler_common", offset=0x2F),), trap=TRAP, trap_place=FAULT,
    instruction=COUNT,
)  # fmt: skip
# One that the kernel has not started: it waits in the firmware.
WAITING = VcpuState(rip=0xFD09A, place=None, is_halted=True, has_interrupts=False, cr2=0)
IDLE = VcpuState(
    rip=0xFFFFFFFF81000010, place=Place(function="default_idle", offset=9), is_halted=True,
    has_interrupts=True, cr2=0,
)  # fmt: skip


def test_what_is_not_known_of_an_architecture_is_not_guessed() -> None:
    words = [0, 0xFFFFFFFF81000000, 0x10, 0x46, 0xFFFFFFFF82003F00, 0x18, 0, 0]
    assert find_trap("x86_64", words, lambda _: True) is not None
    assert find_trap("arm64", words, lambda _: True) is None
    early = replace(WAITING, rip=0x40210000, cr2=None)
    autopsy = conclude("arm64", [early], [], Machine.SILENT)
    assert autopsy is not None
    assert autopsy.cause == "stopped outside of the kernel's own address space"
    assert "CR2" not in "".join(autopsy.lines)


def test_a_lost_counter_is_told_as_such() -> None:
    autopsy = conclude(
        "x86_64", [SEED, WAITING], ["[    0.000000] Linux version 6.12"], Machine.SILENT
    )
    assert autopsy is not None
    assert autopsy.cause == "a lost profile counter in start_kernel"
    assert autopsy.function == "start_kernel"
    assert autopsy.is_final
    assert "halted in early_fixup_exception+0x6f with interrupts off" in autopsy.text
    assert "`incq 0x7e590c7b(%rip)`" in autopsy.text
    assert "a write at 0x0, a page that is not present" in autopsy.text
    assert "the linker lost it" in autopsy.text
    assert autopsy.messages == ("[    0.000000] Linux version 6.12",)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"instruction": Instruction(mnemonic="movq", operands="0x8(%rax), %rsi"), "cr2": 8},
         "page fault at a null address in start_kernel"),
        ({"instruction": Instruction(mnemonic="movq", operands="(%rax), %rsi"), "cr2": 1 << 40},
         "page fault in start_kernel"),
        ({"instruction": Instruction(mnemonic="ud2", operands="")},
         "BUG or unreachable code in start_kernel"),
        ({"instruction": None}, "exception in start_kernel"),
        ({"trap": None, "trap_place": None, "instruction": None,
          "place": Place(function="my_halt", offset=1)}, "halted with interrupts off in my_halt"),
        ({"trap": None, "trap_place": None, "instruction": None, "is_halted": False,
          "place": Place(function="my_loop", offset=1)}, "endless loop in my_loop"),
        ({"trap": None, "trap_place": None, "instruction": None, "is_halted": False,
          "place": Place(function="queued_spin_lock_slowpath", offset=1),
          "trace": (Place(function="_raw_spin_lock", offset=1),
                    Place(function="thing_take", offset=4))},
         "queued_spin_lock_slowpath never returns to thing_take"),
    ],
)  # fmt: skip
def test_what_it_died_of(change: dict[str, object], cause: str) -> None:
    autopsy = conclude("x86_64", [IDLE, replace(SEED, **change)], [], Machine.SILENT)  # type: ignore[arg-type]
    assert autopsy is not None
    assert autopsy.cause == cause


@pytest.mark.parametrize(
    ("rip", "cause"),
    [(0xFD09A, "stopped in the firmware"), (0xFFFFFFF0, "stopped in the firmware"),
     (0x1000200, "stopped in the decompressor or the boot loader"),
     (0xFFFFFFFF12345678, "stopped outside of the kernel's code")],
)  # fmt: skip
def test_before_the_kernel_there_is_other_code(rip: int, cause: str) -> None:
    autopsy = conclude("x86_64", [replace(WAITING, rip=rip)], [], Machine.SILENT)
    assert autopsy is not None
    assert autopsy.cause == cause


@pytest.mark.parametrize("vcpus", [[], [IDLE], [IDLE, IDLE]])
def test_a_guest_that_idles_died_of_nothing(vcpus: list[VcpuState]) -> None:
    assert conclude("x86_64", vcpus, [], Machine.SILENT) is None


def frame(pointer: int) -> list[int]:
    return [2, pointer, 0x10, 0x46, 0xFFFFFFFF81803F08, 0x18]


def test_the_newest_frame_of_an_exception_is_found() -> None:
    words = [7, 0xFFFFFFFF81000000, 0x10, *frame(0xFFFFFFFF81A6F37E), *frame(0xFFFFFFFF81000000)]
    found = find_trap("x86_64", words, lambda word: word >> 32 == 0xFFFFFFFF)
    assert found == TRAP


@pytest.mark.parametrize("place", range(1, 6))
def test_a_frame_that_is_none_is_passed_by(place: int) -> None:
    words = frame(0xFFFFFFFF81A6F37E)
    words[place] = 0x2C
    assert find_trap("x86_64", words, lambda word: word >> 32 == 0xFFFFFFFF) is None


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=80))
def test_any_stack_can_be_searched(words: list[int]) -> None:
    found = find_trap("x86_64", words, lambda _: True)
    assert found is None or found.pointer in words


@pytest.mark.parametrize(
    ("line", "instruction"),
    [
        ("ffffffff81a6f37e:      \tincq\t0x7e590c7b(%rip) # 0x0 <__covrec_FB2D9A4BC0BAB8B6u>",
         COUNT),
        ("ffffffff81a6f388:      \tleaq\t0x8(%rsp), %rbx",
         Instruction(mnemonic="leaq", operands="0x8(%rsp), %rbx")),
        ("ffffffff81a6f390:      \tmovq\t$-0x7e9e4b00, %rdi # imm = 0x8161B500",
         Instruction(mnemonic="movq", operands="$-0x7e9e4b00, %rdi")),
        ("ffffffff81a6f397:      \tcallq\t0xffffffff8102f8d0 <set_task_stack_end_magic>",
         Instruction(mnemonic="callq", operands="0xffffffff8102f8d0")),
        ("ffffffff81a6f379:      \tud2", Instruction(mnemonic="ud2", operands="")),
        ("ffff800080010a24:      \tadd\tx0, x1, #0x10, lsl #12 <begin+0x4>",
         Instruction(mnemonic="add", operands="x0, x1, #0x10, lsl #12")),
        ("ffff800080010a28:      \tb.eq\t0xffff800080010a20 <begin>",
         Instruction(mnemonic="b.eq", operands="0xffff800080010a20")),
        ("Disassembly of section .text:", None),
        ("/in/vmlinux:\tfile format elf64-x86-64", None),
        ("", None),
    ],
)  # fmt: skip
def test_an_instruction_is_read_as_it_is_shown(line: str, instruction: Instruction | None) -> None:
    assert read_instruction(line) == instruction
