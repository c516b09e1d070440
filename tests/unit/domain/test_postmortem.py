# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers and stacks of guests that died, as a Linux of our own left them behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kwatch.domain.deadguest.autopsy import (
    CALL_TRACE,
    LOG_BUFFER,
    Machine,
    Place,
    VcpuState,
    conclude,
    state_of_guest,
)
from kwatch.domain.deadguest.exception_frame import Instruction, Trap

HALT = Place(function="early_fixup_exception", offset=0x6F)
FAULT = Place(function="start_kernel", offset=0xE)
COUNT = Instruction(mnemonic="incq", operands="0x7e590c7b(%rip)", target=0)
TRAP = Trap(
    pointer=0xFFFFFFFF81A6F37E,
    error_code=2,
    stack=0xFFFFFFFF81803F08,
    end=6,
    entry="early_idt_handler_common",
    registers={"rax": 0},
)
# The seed's fault: a counter that the linker lost is counted up before a console works.
SEED = VcpuState(
    rip=0xFFFFFFFF81A8C95F, place=HALT, is_halted=True, has_interrupts=False, cr2=0,
    trace=(Place(function="early_idt_handler_common", offset=0x2F),), trap=TRAP, trap_place=FAULT,
    instruction=COUNT,
)  # fmt: skip
# One that the kernel has not started: it waits in the firmware.
WAITING = VcpuState(cpu=1, rip=0xFD09A, place=None, is_halted=True, has_interrupts=False, cr2=0)
IDLE = VcpuState(
    rip=0xFFFFFFFF81000010, place=Place(function="default_idle", offset=9), is_halted=True,
    has_interrupts=True, cr2=0,
)  # fmt: skip


def test_what_is_not_known_of_an_architecture_is_not_guessed() -> None:
    early = replace(WAITING, cpu=0, rip=0x40210000, cr2=None)
    autopsy = conclude("arm64", [early], [], Machine.SILENT)
    assert autopsy is not None
    assert autopsy.cause == "stopped outside of the kernel's own address space"
    assert autopsy.lines == ("CPU 0: halted at 0x40210000 (not in vmlinux), interrupts off",)


def test_a_lost_counter_is_told_as_such() -> None:
    autopsy = conclude(
        "x86_64", [SEED, WAITING], ["[    0.000000] Linux version 6.12"], Machine.SILENT
    )
    assert autopsy is not None
    assert autopsy.cause == "a lost profile counter in start_kernel"
    assert autopsy.function == "start_kernel"
    assert autopsy.is_final
    assert autopsy.lines == (
        "CPU 0: halted at early_fixup_exception+0x6f, interrupts off",
        "CPU 1: halted at 0xfd09a (not in vmlinux), interrupts off",
        "Exception: page fault at start_kernel+0xe",
        "           incq 0x7e590c7b(%rip)",
        "           write to 0x0: page not present",
        "           this instruction updates a coverage counter that has no address in vmlinux",
    )
    assert autopsy.messages == ("[    0.000000] Linux version 6.12",)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"instruction": Instruction(mnemonic="movq", operands="0x8(%rax), %rsi"), "cr2": 8},
         "page fault at a null address in start_kernel"),
        # Who copies does what he is told.
        ({"instruction": Instruction(mnemonic="movq", operands="0x8(%rax), %rsi"), "cr2": 8,
          "trap_place": Place(function="memcpy", offset=3), "callers": (FAULT,)},
         "page fault at a null address in start_kernel"),
        ({"trap": replace(TRAP, pointer=0, is_wild=True), "trap_place": None,
          "instruction": None, "callers": (FAULT,)}, "jump to a null address in start_kernel"),
        ({"trap": replace(TRAP, pointer=0x1234567, is_wild=True), "trap_place": None,
          "instruction": None}, "jump to where no code is"),
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


def test_who_jumped_into_nowhere_is_named() -> None:
    wild = replace(
        SEED, trap=replace(TRAP, pointer=0, is_wild=True), trap_place=None, instruction=None,
        callers=(FAULT,),
    )  # fmt: skip
    autopsy = conclude("x86_64", [wild], [], Machine.SILENT)
    assert autopsy is not None
    assert autopsy.lines[1:] == (
        "Exception: jump to a null address at 0x0",
        CALL_TRACE,
        "  start_kernel+0xe",
    )
    assert autopsy.is_final


def test_a_machine_resets_on_an_exception() -> None:
    autopsy = conclude("x86_64", [SEED], [], Machine.OFF)
    assert autopsy is not None
    assert autopsy.cause == "on a lost profile counter in start_kernel"


@pytest.mark.parametrize("machine", Machine)
def test_who_waits_for_another_vcpu_is_not_to_blame(machine: Machine) -> None:
    waits = replace(IDLE, is_halted=False, place=Place(function="delay_tsc", offset=7))
    other = replace(waits, place=Place(function="start_secondary", offset=1))
    for vcpus in ([waits, other], [other, waits]):
        autopsy = conclude("x86_64", vcpus, [], machine)
        assert autopsy is not None
        assert autopsy.function == "start_secondary"


def test_who_halts_while_a_timer_ticks_is_named_and_not_the_tick() -> None:
    halted = replace(
        IDLE, has_interrupts=False, place=Place(function="update_process_times", offset=2),
        trace=(Place(function="tick_handle_periodic", offset=15),
               Place(function="timer_interrupt", offset=9)),
    )  # fmt: skip
    autopsy = conclude("x86_64", [halted], [], Machine.SILENT)
    assert autopsy is not None
    assert autopsy.cause == "halted with interrupts off in update_process_times"


@pytest.mark.parametrize("vcpus", [[IDLE], [IDLE, IDLE, WAITING]])
def test_a_guest_that_idles_has_no_cause_to_be_named_by(vcpus: list[VcpuState]) -> None:
    autopsy = conclude("x86_64", vcpus, ["the last words"], Machine.SILENT)
    assert autopsy is not None
    assert not autopsy.is_final
    assert autopsy.function is None
    assert autopsy.lines[0] == "CPU 0: idle at default_idle+0x9, interrupts on"
    assert CALL_TRACE not in autopsy.lines
    assert autopsy.messages == ("the last words",)
    reset = conclude("x86_64", vcpus, [], Machine.OFF)
    assert reset is not None
    assert (reset.cause, reset.function) == ("while it idles", None)


def test_a_kernel_idles_in_one_place_only() -> None:
    waits = replace(
        IDLE, place=Place(function="console_init", offset=11),
        trace=(Place(function="start_kernel", offset=0x300),),
    )  # fmt: skip
    autopsy = conclude("x86_64", [waits, IDLE], [], Machine.SILENT)
    assert autopsy is not None
    assert autopsy.is_final
    assert autopsy.cause == "waits for an interrupt in console_init"
    # What the trace of another architecture leaves out is not known.
    other = conclude("arm64", [waits], [], Machine.SILENT)
    assert other is not None
    assert not other.is_final


def test_nobody_is_in_the_kernel() -> None:
    assert conclude("x86_64", [], [], Machine.SILENT) is None


def test_the_operands_of_a_protection_fault_are_shown() -> None:
    callers = tuple(
        Place(function=name, offset=offset)
        for name, offset in (
            ("sort_r", 0x322),
            ("setup_arch", 0x53),
            ("start_kernel", 0x71),
            ("x86_64_start_kernel", 0x94),
        )
    )
    dead = replace(
        SEED,
        trap=replace(TRAP, registers={"rdi": 0x7FFFFFFF8145BC5B}),
        trap_place=Place(function="static_call_site_swap", offset=8),
        instruction=Instruction(mnemonic="movl", operands="(%rdi), %edx"),
        callers=callers,
        # Left by an earlier fault.
        cr2=0xFFFF888000014F78,
    )
    autopsy = conclude("x86_64", [dead], ["[    0.000000] last message"], Machine.SILENT)
    assert autopsy is not None
    told = replace(autopsy, stopped="Boot progress from the coverage counters: ...")
    block = (
        "CPU 0: halted at early_fixup_exception+0x6f, interrupts off",
        "Exception: general protection fault at static_call_site_swap+0x8",
        "           movl (%rdi), %edx   with %rdi = 0x7fffffff8145bc5b (non-canonical)",
        CALL_TRACE,
        "  sort_r+0x322",
        "  setup_arch+0x53",
        "  start_kernel+0x71",
        LOG_BUFFER,
        "  [    0.000000] last message",
    )
    assert state_of_guest(told, 12) == block
    # Without a trace the counters say how far the boot came.
    assert state_of_guest(replace(told, lines=block[:1], messages=()), 12) == (
        block[0],
        told.stopped,
    )
