# SPDX-License-Identifier: GPL-2.0-or-later
"""The toy kernel as a lab in a box tests it."""

from __future__ import annotations

from pathlib import Path

from tests.lab.box import Kernel

TOY = Path(__file__).parent / "toy"

KERNEL = Kernel(
    base="tinyconfig",
    fragment="CONFIG_DEBUG_FS=y\nCONFIG_LLVM_COV_KERNEL=y\nCONFIG_LLVM_COV_KERNEL_MCDC=y\n",
    series=sorted((TOY / "series").glob("*.eml")),
    creates=("kernel/llvm-cov.c",),
    memory="128 MiB",
    deadlines='kernel = "3 s"\ninit = "3 s"\ntests = "5 s"\ntotal = "20 s"\ntcg_factor = 2.0',
)
