# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel that dies in every silent way: the right verdict, the right symbol, in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.coverage.linkaudit import lost_instrumentation
from kwatch.remote.linkaudit import audit
from tests.long.bootbench import PROFILE, BootBench, changed
from tests.long.patching import lose_a_counter, put_code

if TYPE_CHECKING:
    from pathlib import Path

    from tests.corpus.grow import Kernel

SILENT = "silent hang: "
LATER = "hang: "
RESETS = "the machine resets"

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("cmdline", "end", "title", "seconds"),
    [
        ("early_misdeed=null", BootEnd.HANG,
         f"{LATER}page fault at a null address in misdeed_null", 30),
        ("early_misdeed=page_fault", BootEnd.HANG, f"{LATER}page fault in misdeed_page_fault", 30),
        ("early_misdeed=halt", BootEnd.HANG,
         f"{LATER}halted with interrupts off in misdeed_halt", 30),
        ("early_misdeed=loop", BootEnd.HANG, f"{LATER}endless loop in misdeed_loop", 30),
        ("early_misdeed=deadlock", BootEnd.HANG, f"{LATER}endless loop in misdeed_deadlock", 30),
        ("early_misdeed=triple_fault", BootEnd.RESET,
         f"{RESETS} in misdeed_triple_fault", 10),
        ("early_misdeed=panic", BootEnd.PANIC, "kernel panic: misdeed: nothing can be done", 10),
        ("misdeed=halt", BootEnd.HANG, f"{LATER}halted with interrupts off in misdeed_halt", 40),
        ("misdeed=loop", BootEnd.HANG, f"{LATER}endless loop in misdeed_loop", 90),
        ("misdeed=panic", BootEnd.PANIC, "kernel panic: misdeed: nothing can be done", 15),
        ("misdeed=triple_fault", BootEnd.RESET,
         f"{RESETS} in misdeed_triple_fault", 15),
        ("misdeed=null", BootEnd.PANIC,
         "BUG: unable to handle kernel NULL pointer dereference in misdeed_null", 15),
    ],
)  # fmt: skip
async def test_how_it_died_is_found_out(  # noqa: PLR0917 - a table
    bench: BootBench, kernel: Kernel, cmdline: str, end: BootEnd, title: str, seconds: float
) -> None:
    profile = changed(PROFILE, cmdline=cmdline)
    result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
    assert result.finding is not None
    assert (result.end, result.finding.title) == (end, title)
    assert result.took < seconds


CODES = {
    "call address zero": "31c0 ffd0",
    "call itself": "e8fbffffff",
    "divide by zero": "31c9 f7f1",
    "halt": "fa f4 ebfd",
    "halt until an interrupt": "fb f4 ebfc",
    "load from address zero": "4831c0 488b00",
    "load from what is no address": "48b8 000100000000adde 488b00",
    "loop": "ebfe",
    "loop without interrupts": "fa ebfe",
    "undefined instruction": "0f0b",
}


@pytest.mark.parametrize(
    ("function", "fault", "end", "title", "seconds"),
    [
        ("startup_64", "loop", BootEnd.HANG, f"{SILENT}endless loop in", 30),
        ("__startup_64", "halt", BootEnd.HANG, f"{SILENT}halted with interrupts off in", 30),
        ("x86_64_start_kernel", "undefined instruction", BootEnd.RESET, f"{RESETS} in", 10),
        ("start_kernel", "load from what is no address", BootEnd.HANG,
         f"{SILENT}general protection fault in", 30),
        ("setup_arch", "load from address zero", BootEnd.HANG,
         f"{SILENT}page fault at a null address in", 30),
        ("setup_arch", "call address zero", BootEnd.HANG, f"{SILENT}jump to a null address in", 30),
        ("setup_arch", "call itself", BootEnd.RESET, f"{RESETS} in", 10),
        ("early_cpu_init", "divide by zero", BootEnd.HANG, f"{SILENT}divide error in", 30),
        ("console_init", "halt until an interrupt", BootEnd.STALL,
         f"{LATER}waits for an interrupt in", 90),
        ("update_process_times", "halt", BootEnd.HANG, f"{LATER}halted with interrupts off in", 30),
        ("vfs_caches_init", "loop without interrupts", BootEnd.HANG, f"{LATER}endless loop in", 30),
        ("do_populate_rootfs", "call address zero", BootEnd.PANIC,
         "BUG: unable to handle kernel NULL pointer dereference in", 15),
        ("do_syscall_64", "loop without interrupts", BootEnd.HANG, f"{LATER}endless loop in", 30),
    ],
)  # fmt: skip
async def test_a_fault_in_any_function_is_named(  # noqa: PLR0917 - a table
    bench: BootBench, kernel: Kernel, tmp_path: Path, function: str, fault: str, end: BootEnd,
    title: str, seconds: float,
) -> None:  # fmt: skip
    mutant = tmp_path / "vmlinux"
    put_code(kernel.output / "vmlinux", mutant, function, bytes.fromhex(CODES[fault]))
    result = await bench.boot(mutant, mutant, PROFILE)
    assert result.finding is not None
    assert (result.end, result.finding.title) == (end, f"{title} {function}")
    assert result.took < seconds


async def test_a_healthy_kernel_is_left_alone(bench: BootBench, kernel: Kernel) -> None:
    result = await bench.boot(kernel.image, kernel.output / "vmlinux", PROFILE)
    assert (result.end, result.finding) == (BootEnd.DONE, None)
    assert result.autopsy is None


async def test_a_console_without_end_is_cut(bench: BootBench, kernel: Kernel) -> None:
    profile = changed(PROFILE, cmdline="misdeed=flood", console_limit=16 << 20)
    result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
    assert result.end == BootEnd.OUTPUT_LIMIT
    assert result.finding is not None
    assert result.finding.title == "the guest floods its console"


async def test_an_image_that_is_damaged_ends_before_the_kernel(
    bench: BootBench, kernel: Kernel, tmp_path: Path
) -> None:
    corrupt = tmp_path / "corrupt"
    whole = kernel.image.read_bytes()
    # The compressed kernel is damaged; what unpacks it is not.
    corrupt.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    result = await bench.boot(corrupt, kernel.output / "vmlinux", PROFILE)
    assert result.finding is not None
    assert result.finding.title == "the machine resets in the decompressor or the boot loader"


async def test_the_fault_that_began_it_all_is_named(
    bench: BootBench, kernel: Kernel, tmp_path: Path
) -> None:
    mutant = tmp_path / "vmlinux"
    lose_a_counter(kernel.output / "vmlinux", mutant, "start_kernel")
    lost = lost_instrumentation(audit([str(mutant)]))
    assert lost is not None
    assert lost.title == "the linker lost instrumentation: start_kernel counts at address zero"
    result = await bench.boot(mutant, mutant, PROFILE)
    assert result.finding is not None
    assert result.end == BootEnd.HANG
    assert result.finding.title == f"{SILENT}a lost profile counter in start_kernel"
    assert result.took < 30
