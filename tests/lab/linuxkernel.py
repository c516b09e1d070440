# SPDX-License-Identifier: GPL-2.0-or-later
"""The real Linux kernel as a lab in a box tests it."""

from __future__ import annotations

from pathlib import Path

from tests.lab.box import Kernel

LINUX = Path(__file__).parent / "linux"
TARBALL = Path("/usr/src/linux-source-6.12.tar.xz")

KERNEL = Kernel(
    base="tinyconfig",
    fragment=(LINUX / "lab.config").read_text(),
    series=sorted((LINUX / "series").glob("*.eml")),
    creates=("kernel/llvm-cov/fs.c",),
    memory="512 MiB",
    # Emulation takes 20 times as long as the host's processor where that is busy otherwise.
    deadlines='kernel = "5 s"\ninit = "20 s"\ntests = "60 s"\ncollect = "30 s"\ntotal = "120 s"\n'
    "tcg_factor = 8.0",
    commands=("cat /proc/meminfo /proc/interrupts", "find /proc/self /sys/kernel -type f"),
)
