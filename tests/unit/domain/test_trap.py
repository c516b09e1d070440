# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of exceptions on stacks, and which exception left them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.deadguest.exception_frame import (
    Fault,
    Instruction,
    Trap,
    access,
    fault_of,
    faulty_address,
    find_trap,
)

TOP = 0xFFFFFFFF81803E00
AT = 0xFFFFFFFF81A6F37E
EARLY = "early_idt_handler_common"
COUNT = Instruction(mnemonic="incq", operands="0x7e590c7b(%rip)", target=0)
LOAD = Instruction(mnemonic="movq", operands="0x8(%rax,%rcx,4), %rsi")
TRAP = Trap(pointer=AT, error_code=0, stack=TOP + 0x40, end=8, entry=EARLY)


def frame(pointer: int = AT, stack: int = 0xFFFFFFFF81803F08) -> list[int]:
    return [2, pointer, 0x10, 0x46, stack, 0x18]


def search(
    words: list[int], entry: str = EARLY, *, inner: str = "", arch: str = "x86_64"
) -> Trap | None:
    return find_trap(
        arch, words, top=TOP,
        code=[at for at, word in enumerate(words) if word >> 32 == 0xFFFFFFFF],
        returns=[(0, entry)], function=inner,
    )  # fmt: skip


def test_the_newest_frame_of_an_exception_is_found() -> None:
    registers = list(range(100, 115))
    words = [7, *registers, *frame(), *frame(0xFFFFFFFF81000000)]
    found = search(words)
    assert found is not None
    assert (found.pointer, found.error_code, found.stack) == (AT, 2, 0xFFFFFFFF81803F08)
    assert (found.end, found.is_wild, found.entry) == (22, False, EARLY)
    assert (found.registers["r15"], found.registers["rax"], found.registers["rdi"]) == (
        100,
        110,
        114,
    )
    assert search(words, arch="arm64") is None


@pytest.mark.parametrize("place", range(1, 6))
def test_a_frame_that_is_none_is_passed_by(place: int) -> None:
    words = frame()
    words[place] = 0x2C
    assert search(words) is None


def test_a_jump_into_nowhere_leaves_a_frame_right_below_its_stack() -> None:
    for padding in (0, 8):
        found = search([0, *frame(0, TOP + 7 * 8 + padding), 0, AT])
        assert found is not None
        assert found.is_wild
    assert search([0, *frame(0, TOP + 7 * 8 + 16), 0, AT]) is None


@pytest.mark.parametrize(
    ("entry", "inner", "is_found"),
    [
        ("asm_exc_page_fault", "page_fault_oops", True),
        ("asm_exc_general_protection", "_raw_spin_lock", False),
        ("asm_exc_page_fault", "handle_mm_fault", False),
        ("asm_exc_invalid_op", "panic", True),
        ("asm_sysvec_apic_timer_interrupt", "panic", False),
        ("asm_common_interrupt", "my_handler", False),
    ],
)
def test_only_an_exception_that_kills_is_one(entry: str, inner: str, *, is_found: bool) -> None:
    """What is handled, or interrupted, says where somebody was and not why he goes no further."""
    assert (search(frame(), entry, inner=inner) is not None) is is_found


@pytest.mark.parametrize(
    ("change", "instruction", "cr2", "fault"),
    [
        ({}, COUNT, 0, Fault.LOST_COUNTER),
        ({}, replace(COUNT, target=AT), AT, Fault.PAGE_FAULT),
        ({"registers": {"rax": 0, "rcx": 0}}, LOAD, 8, Fault.NULL_ACCESS),
        # CR2 is that of another fault.
        ({"registers": {"rax": 0, "rcx": 2}}, LOAD, AT, Fault.NULL_ACCESS),
        ({"registers": {"rax": AT, "rcx": 1}}, LOAD, AT + 12, Fault.PAGE_FAULT),
        ({"registers": {"rax": 0xDEAD000000000100, "rcx": 0}}, LOAD, AT, Fault.PROTECTION),
        ({"registers": {"rax": AT, "rcx": 0}}, LOAD, 0, Fault.UNKNOWN),
        ({}, LOAD, 8, Fault.UNKNOWN),
        ({}, Instruction(mnemonic="divl", operands="%ecx"), AT, Fault.DIVIDE),
        ({}, Instruction(mnemonic="wrmsr", operands=""), AT, Fault.PROTECTION),
        ({}, Instruction(mnemonic="movq", operands="%rax, %cr4"), AT, Fault.PROTECTION),
        ({}, Instruction(mnemonic="ud2", operands=""), AT, Fault.BUG),
        ({}, Instruction(mnemonic="callq", operands="0xffffffff81000000"), TOP + 0x38,
         Fault.PAGE_FAULT),
        ({}, Instruction(mnemonic="leaq", operands="(%rsp), %rbx"), TOP + 0x40, Fault.UNKNOWN),
        ({"entry": "asm_exc_divide_error"}, LOAD, 8, Fault.DIVIDE),
        ({"entry": "asm_exc_page_fault"}, LOAD, 8, Fault.PAGE_FAULT),
        ({"entry": "asm_exc_page_fault"}, None, 8, Fault.PAGE_FAULT),
        ({"pointer": 0, "is_wild": True}, None, AT, Fault.NULL_JUMP),
        ({"pointer": 1 << 40, "is_wild": True}, None, 1 << 40, Fault.WILD_JUMP),
        ({}, None, 0, Fault.UNKNOWN),
    ],
)  # fmt: skip
def test_which_exception_it_was(
    change: dict[str, object], instruction: Instruction | None, cr2: int, fault: Fault
) -> None:
    trap = replace(TRAP, **change)  # type: ignore[arg-type]
    assert fault_of(trap, instruction, cr2) is fault


def test_segments_whose_base_is_not_known_are_left_out() -> None:
    load = Instruction(mnemonic="movq", operands="%gs:0x28(%rax), %rsi")
    store = Instruction(mnemonic="rep stosq", operands="%rax, %es:(%rdi)")
    trap = replace(TRAP, registers={"rax": 0, "rdi": 0x10})
    assert faulty_address(trap, load, None) is None
    assert faulty_address(trap, store, None) == 0x10


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "read from 0x8: page not present"),
     (2, "write to 0x8: page not present"),
     (3, "write to 0x8: protection violation"),
     (0x10, "instruction fetch at 0x8: page not present"), (None, "access to 0x8")],
)  # fmt: skip
def test_an_error_code_in_words(code: int | None, words: str) -> None:
    assert access(replace(TRAP, error_code=code), 8) == words


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=80), st.text(max_size=30), st.text())
def test_any_stack_can_be_searched(words: list[int], mnemonic: str, operands: str) -> None:
    found = search(words)
    assert found is None or found.pointer in words
    fault_of(TRAP, Instruction(mnemonic=mnemonic, operands=operands), 0)
