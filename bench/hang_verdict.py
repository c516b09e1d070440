# SPDX-License-Identifier: GPL-2.0-or-later
"""From power-on to a verdict that names the function, beside what a plain timeout would take.

    python -m bench.hang_verdict

Boots the kernel with tests/lab/linux/misdeeds.c, which is built at first, in real QEMU under
software emulation. A plain timeout is what kwatch itself would wait without looking at registers.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.recipe.boot import Accelerator
from tests.corpus.grow import PLAIN_CONFIG, Kernel
from tests.long.bootbench import PROFILE, BootBench, changed

FOLDER = Path("/var/tmp/kwatch-misdeeds")  # noqa: S108 - kept on purpose
CASES = (
    "early_misdeed=null", "early_misdeed=halt", "early_misdeed=deadlock", "misdeed=halt",
    "misdeed=loop", "misdeed=triple_fault", "misdeed=panic", "",
)  # fmt: skip


async def measure() -> None:
    """Print a line for each case."""
    kernel = Kernel(FOLDER, [PLAIN_CONFIG])
    kernel.prepare()
    deadlines = Deadlines()
    timeout = (deadlines.kernel + deadlines.init) * deadlines.tcg_factor
    print(f"{'command line':<24} {'verdict':>8} {'in all':>8} {'timeout':>8}  finding")
    with tempfile.TemporaryDirectory() as folder:
        bench = await BootBench.open(Path(folder))
        for cmdline in CASES:
            profile = changed(PROFILE, cmdline=cmdline, accelerator=Accelerator.TCG)
            began = time.monotonic()
            result = await bench.boot(kernel.image, kernel.output / "vmlinux", profile)
            took = time.monotonic() - began
            title = result.finding.title if result.finding else "healthy"
            print(
                f"{cmdline or '(none)':<24} {result.took:>6.1f} s {took:>6.1f} s {timeout:>6.0f} s"
                f"  {title}",
                flush=True,
            )
        await bench.close()


if __name__ == "__main__":
    asyncio.run(measure())
