# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot through kwatch's boot stage, beside bare QEMU with the very same argv, in one run.

    python -m bench.boot_overhead [--runs 5]

Claim: kwatch needs at most 1.5 s more for each boot. The host is a real sshd on loopback; the
kernel is that with tests/lab/linux/misdeeds.c, built at first, and healthy. The first boot on a
host brings supervisor, image and initramfs there. Bare QEMU ends by itself where kwatch has it
wait for questions (``-action shutdown=pause``): the one difference of the two command lines.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from kwatch.adapters.guest import qemu
from kwatch.adapters.guest.initramfs import build_initramfs
from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.recipe.arch import X86_64
from kwatch.domain.recipe.boot import Accelerator
from kwatch.domain.run import CONSOLE
from tests.corpus.grow import PLAIN_CONFIG, Kernel
from tests.lab.process import call
from tests.lab.sshd import SshHost
from tests.long.bootbench import BUSYBOX, PROFILE, BootBench, changed

if TYPE_CHECKING:
    from kwatch.domain.boot.care import BootProfile

FOLDER = Path("/var/tmp/kwatch-misdeeds")  # noqa: S108 - kept on purpose
LIMIT = 1.5
PAUSED = ("-action", "shutdown=pause")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args().runs
    kernel = Kernel(FOLDER, [PLAIN_CONFIG])
    kernel.prepare()
    asyncio.run(_measure(kernel, runs))


async def _measure(kernel: Kernel, runs: int) -> None:
    profile = changed(PROFILE, commands=("cat /proc/version",))
    took: dict[str, list[float]] = {"bare QEMU": [], "kwatch, host new": [], "kwatch": []}
    with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as name:
        folder = Path(name)
        async with SshHost(folder / "sshd") as server:
            for number in range(runs):
                # In turns: what else the machine does meets both.
                took["bare QEMU"].append(await _bare(kernel, profile, folder / f"bare-{number}"))
                fresh = folder / f"kwatch-{number}"
                fresh.mkdir()
                bench = await BootBench.open(fresh, server)
                for what in ("kwatch, host new", "kwatch"):
                    job = await bench.wish(kernel.image, kernel.output / "vmlinux", profile)
                    started = time.monotonic()
                    result = await bench.run(job)
                    took[what].append(time.monotonic() - started)
                    assert result.end == BootEnd.DONE, result
                await bench.close()
    for what, seconds in took.items():
        each = " ".join(f"{one:5.2f}" for one in seconds)
        print(f"{what:<18} {median(seconds):5.2f} s   {each}")
    bare = median(took["bare QEMU"])
    for what in ("kwatch, host new", "kwatch"):
        more = median(took[what]) - bare
        print(f"{what:<18} {more:+.2f} s for each boot (at most {LIMIT:+.2f} s is claimed)")


async def _bare(kernel: Kernel, profile: BootProfile, folder: Path) -> float:
    """Seconds from the start of QEMU to its end."""
    folder.mkdir()
    initramfs = folder / "initramfs"
    initramfs.write_bytes(
        build_initramfs(
            arch=X86_64,
            busybox=BUSYBOX["x86_64"].read_bytes(),
            commands=profile.recipe.commands,
            counters=profile.recipe.counters,
            command_timeout=timedelta(seconds=profile.care.command_timeout),
        )
    )
    argv = qemu.command(
        profile, Accelerator.TCG, kernel=str(kernel.image), initramfs=str(initramfs)
    )
    at = argv.index(PAUSED[0])
    assert argv[at : at + 2] == PAUSED
    started = time.monotonic()
    await call(["env", "-C", str(folder), *argv[:at], *argv[at + 2 :]], timeout=120)
    took = time.monotonic() - started
    assert b"Linux version" in (folder / CONSOLE).read_bytes()
    return took


if __name__ == "__main__":
    main()
