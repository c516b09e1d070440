# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests without an init, with one that waits, that flood, or whose image is damaged."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.boot.phase import Deadlines
from kwatch.store.blobs import contents
from tests.long.bootbench import PROFILE, BootBench, changed

if TYPE_CHECKING:
    from collections.abc import Callable

    from kwatch.domain.boot.care import BootProfile
    from tests.corpus.grow import Kernel

LATE = changed(
    PROFILE,
    deadlines=Deadlines(kernel=60.0, init=60.0, tests=20.0, collect=20.0, total=200.0,
                        tcg_factor=1.0),
)  # fmt: skip
WAITS = changed(LATE, commands=("sleep 100000",), command_timeout=100000.0)
PANIC = "kernel panic: misdeed: nothing can be done"
MB = 1 << 20

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("profile", "end", "title"),
    [
        (changed(LATE, cmdline="rdinit=/no init=/no"), BootEnd.PANIC,
         "kernel panic: Requested init /no failed (error -2)."),
        (changed(LATE, cmdline="rdinit=/bin/sync"), BootEnd.PANIC,
         "kernel panic: Attempted to kill init! exitcode=ADDR"),
        (changed(LATE, cmdline="rdinit=/bin/sleep -- 100000"), BootEnd.STALL,
         "hang between the first line of the kernel and user space"),
        (WAITS, BootEnd.STALL, "hang during the tests"),
        # Even the last message is kept from the console: it stands in the guest's memory.
        (changed(LATE, cmdline="loglevel=0 misdeed=panic"), BootEnd.RESET, PANIC),
        (changed(LATE, cmdline="loglevel=0 early_misdeed=panic"), BootEnd.RESET, PANIC),
        (changed(LATE, cmdline="loglevel=0 misdeed=null"), BootEnd.RESET,
         "BUG: unable to handle kernel NULL pointer dereference in misdeed_null"),
    ],
)  # fmt: skip
async def test_what_is_silent_gets_its_name(
    bench: BootBench, kernel: Kernel, profile: BootProfile, end: BootEnd, title: str
) -> None:
    result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
    assert result.finding is not None
    assert (result.end, result.finding.title) == (end, title)


async def test_a_panic_that_waits_for_ever_is_found_in_memory(
    bench: BootBench, kernel: Kernel
) -> None:
    profile = changed(LATE, cmdline="loglevel=0 panic=0 misdeed=panic")
    result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
    assert result.finding is not None
    assert result.end in {BootEnd.STALL, BootEnd.HANG}
    assert result.finding.title == PANIC


def _resident() -> float:
    """Memory of this process in MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _noise(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + random.Random(at).randbytes(size) + data[at + size :]  # noqa: S311


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: _noise(whole, 0x4000, 0x1000),
        lambda whole: _noise(whole, len(whole) // 2, 5000),
        lambda whole: whole[: len(whole) // 2],
    ],
    ids=["in what unpacks it", "in the middle", "cut off"],
)
async def test_a_damaged_image_is_a_kernel_that_fails(
    bench: BootBench, kernel: Kernel, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    corrupt = tmp_path / "corrupt"
    corrupt.write_bytes(damage(kernel.image.read_bytes()))
    result = await bench.boot(corrupt, kernel.output / "vmlinux", LATE)
    assert result.finding is not None
    assert result.end in {BootEnd.RESET, BootEnd.HANG, BootEnd.STALL}
    assert re.match(r"the machine resets|silent hang", result.finding.title)


@pytest.mark.parametrize("size", [0, 100, 0x1000], ids=["empty", "cut short", "no header"])
async def test_what_is_no_image_is_refused_by_qemu(
    bench: BootBench, kernel: Kernel, tmp_path: Path, size: int
) -> None:
    corrupt = tmp_path / "corrupt"
    whole = kernel.image.read_bytes()
    corrupt.write_bytes(bytes(size) + whole[size:] if size == 0x1000 else whole[:size])
    result = await bench.boot(corrupt, kernel.output / "vmlinux", LATE)
    assert result.finding is not None
    assert result.end == BootEnd.REFUSED
    assert result.finding.title == "QEMU does not take the image for a kernel"


@pytest.mark.parametrize(
    ("limit", "seconds", "end"),
    [
        pytest.param(4, 90.0, BootEnd.OUTPUT_LIMIT, id="cut"),
        pytest.param(2048, 90.0, BootEnd.DEADLINE, id="kept"),
        # Through an emulated serial line it takes three quarters of an hour.
        pytest.param(
            1024, 9000.0, BootEnd.OUTPUT_LIMIT, id="a gigabyte", marks=pytest.mark.timeout(10800)
        ),
    ],
)
async def test_a_flood_does_not_fill_the_memory(  # noqa: PLR0917 - a table
    bench: BootBench, kernel: Kernel, tmp_path: Path, limit: int, seconds: float, end: BootEnd
) -> None:
    profile = changed(
        LATE, cmdline="misdeed=flood", console_limit=limit * MB,
        deadlines=Deadlines(kernel=60.0, init=10000.0, total=seconds, tcg_factor=1.0),
    )  # fmt: skip
    before = _resident()
    result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
    assert result.end == end
    assert result.finding is not None
    kept = contents(tmp_path / "blobs", result.artifacts["console"])
    console = sum(len(chunk) for chunk in kept) / MB
    grown = _resident() - before
    print(f"{console:.0f} MB of console in {result.took:.0f} s, {grown:.0f} MB more memory")
    assert grown < 100
