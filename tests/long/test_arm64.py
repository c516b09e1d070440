# SPDX-License-Identifier: GPL-2.0-or-later
"""A second architecture under emulation, and the two channels that a guest may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import Accelerator
from kwatch.remote.linkaudit import audit
from tests.long import arm64kernel
from tests.long.arm64kernel import IMAGE, OUTPUT, VMLINUX
from tests.long.bootbench import BootBench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NO_VIRTIO = "initcall_blacklist=virtio_console_init"

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module", autouse=True)
def _kernel() -> None:
    """Debian's Linux with the misdeeds in it, built once and kept."""
    arm64kernel.prepare()


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BootBench]:
    bench = await BootBench.open(tmp_path)
    yield bench
    await bench.close()


@pytest.mark.parametrize(("cmdline", "device"), [("", "/dev/vport0p1"), (NO_VIRTIO, "/dev/ttyS0")])
async def test_a_healthy_kernel_is_tested_over_either_channel(
    bench: BootBench, cmdline: str, device: str
) -> None:
    commands = ("uname -m | grep -x aarch64", f"ls -l /proc/1/fd | grep ' {device}$'")
    profile = arm64kernel.profile(cmdline=cmdline, commands=commands, cpus=2)
    result = await bench.boot(IMAGE, VMLINUX, profile)
    assert (result.end, result.finding, result.autopsy) == (BootEnd.DONE, None, None)
    assert result.statuses == {0: 0, 1: 0}
    assert result.milestone == Milestone.TESTED
    assert result.accelerator == Accelerator.TCG


@pytest.mark.parametrize(
    ("cmdline", "end", "title", "seconds"),
    [
        ("misdeed=panic", BootEnd.PANIC, "kernel panic: misdeed: nothing can be done", 60),
        ("misdeed=null", BootEnd.PANIC,
         "BUG: unable to handle kernel NULL pointer dereference in misdeed_null", 60),
        ("early_misdeed=loop", BootEnd.HANG, "hang: endless loop in misdeed_loop", 60),
        ("early_misdeed=deadlock", BootEnd.HANG, "hang: endless loop in misdeed_deadlock", 60),
        # It waits with interrupts off, as the kernel itself does when it idles: nobody can tell.
        ("early_misdeed=halt", BootEnd.STALL,
         "hang between the first line of the kernel and user space", 120),
    ],
)  # fmt: skip
async def test_how_it_died_is_found_out(
    bench: BootBench, cmdline: str, end: BootEnd, title: str, seconds: float
) -> None:
    result = await bench.boot(IMAGE, VMLINUX, arm64kernel.profile(cmdline=cmdline))
    assert result.finding is not None
    assert (result.end, result.finding.title) == (end, title)
    assert result.took < seconds


def test_its_link_lost_nothing() -> None:
    assert audit([str(OUTPUT / "vmlinux.o"), str(VMLINUX)]) == {
        "symbols": [], "accesses": [], "more": 0,
    }  # fmt: skip


async def test_what_never_reached_a_console_is_read_from_memory(bench: BootBench) -> None:
    profile = arm64kernel.profile(cmdline="early_misdeed=loop")
    result = await bench.boot(IMAGE, VMLINUX, profile)
    assert result.autopsy is not None
    assert any("Linux version 6.12" in line for line in result.autopsy.messages)
    assert any("start_kernel+0x" in line for line in result.autopsy.lines)
