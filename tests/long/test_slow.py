# SPDX-License-Identifier: GPL-2.0-or-later
"""Forty real boots that are slow and healthy: none of them is called a hang."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.boot.phase import Deadlines
from tests.long.bootbench import PROFILE, BootBench, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.corpus.grow import Kernel

# Longer than any of these boots: only the registers could end one before its time.
PATIENT = changed(
    PROFILE,
    deadlines=Deadlines(kernel=300.0, init=600.0, tests=300.0, collect=300.0, total=900.0,
                        tcg_factor=1.0),
)  # fmt: skip
AT_A_TIME = 5

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """What makes a boot slow. ``running`` is the share of the time in which QEMU may run."""

    cmdline: str
    cpus: int = 1
    running: float = 1.0
    nice: int = 0


INITCALLS = ("slow_mdelay", "slow_msleep", "slow_poll", "slow_compute")
SLOW = (
    *(Slow(cmdline=f"misdeed={what} misdeed_seconds={seconds}", cpus=cpus)
      for what in INITCALLS for seconds, cpus in ((20, 1), (45, 2), (60, 1))),
    *(Slow(cmdline=f"misdeed={what} misdeed_seconds={seconds}", running=0.3, cpus=cpus)
      for what in INITCALLS for seconds, cpus in ((20, 2), (45, 1))),
    *(Slow(cmdline=f"misdeed={what} misdeed_seconds=30", nice=19, cpus=cpus)
      for what in INITCALLS for cpus in (1, 2)),
    *(Slow(cmdline=cmdline, running=running, cpus=cpus)
      for cmdline in ("", "quiet", "initcall_debug ignore_loglevel")
      for running, cpus in ((0.1, 1), (0.2, 2), (0.5, 4))),
    Slow(cmdline="memtest=4", running=0.3),
    Slow(cmdline="memtest=2", running=0.2),
    Slow(cmdline="nokaslr maxcpus=1", cpus=4, running=0.15),
)  # fmt: skip
assert len(SLOW) == 40


async def test_no_slow_boot_is_called_a_hang(kernel: Kernel, tmp_path: Path) -> None:
    free = asyncio.Semaphore(AT_A_TIME)

    async def boot(number: int, slow: Slow) -> str | None:
        async with free:
            return await _boot(kernel, tmp_path / str(number), slow)

    async with _busy_host(), asyncio.TaskGroup() as group:
        boots = [group.create_task(boot(number, slow)) for number, slow in enumerate(SLOW)]
    wrong = [f"{slow}: {one.result()}" for slow, one in zip(SLOW, boots, strict=True)
             if one.result() is not None]  # fmt: skip
    assert wrong == []


async def _boot(kernel: Kernel, folder: Path, slow: Slow) -> str | None:
    """How a slow boot ended if it did not end well."""
    folder.mkdir()
    bench = await BootBench.open(folder)
    profile = changed(PATIENT, cmdline=slow.cmdline, cpus=slow.cpus)
    throttle = asyncio.create_task(_throttle(folder, slow))
    try:
        result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
    finally:
        throttle.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await throttle
        await bench.close()
    told = f"{result.end} after {result.took:.0f} s"
    print(f"{slow}: {told}", flush=True)
    if (result.end, result.finding) == (BootEnd.DONE, None):
        return None
    title = result.finding.title if result.finding else ""
    evidence = "; ".join(result.autopsy.lines[:4]) if result.autopsy else ""
    return f"{told}: {title}; {evidence}"


async def _throttle(folder: Path, slow: Slow) -> None:
    """Let the QEMU below ``folder`` run for a share of the time, or after everybody else."""
    period = 1.0
    stopped: int | None = None
    try:
        while True:
            found = _qemu(folder)
            if found is not None:
                os.setpriority(os.PRIO_PROCESS, found, slow.nice)
                if slow.running < 1.0:
                    stopped = found
                    os.kill(found, signal.SIGSTOP)
                    await asyncio.sleep(period * (1 - slow.running))
                    os.kill(found, signal.SIGCONT)
                    stopped = None
            await asyncio.sleep(period * slow.running)
    except ProcessLookupError:
        return
    finally:
        if stopped is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)


def _qemu(folder: Path) -> int | None:
    """The QEMU that runs in a folder below ``folder``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text().startswith("qemu-system") and folder in (
                    entry / "cwd"
                ).readlink().parents:
                    return int(entry.name)
    return None


@contextlib.asynccontextmanager
async def _busy_host() -> AsyncIterator[None]:
    """Two processes that do nothing but compute."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
