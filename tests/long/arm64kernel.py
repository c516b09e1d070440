# SPDX-License-Identifier: GPL-2.0-or-later
"""A small arm64 Linux, built on this machine as the build stage has it built, once and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from kwatch.adapters.kernel.kbuild import BuildSlot, make_command
from kwatch.domain.recipe.arch import ARM64
from kwatch.domain.recipe.kconfig import Fragment, merge
from tests.corpus.grow import PLAIN_CONFIG, Kernel
from tests.lab.linuxkernel import LINUX
from tests.long.bootbench import ARM64_FOLDER, PROFILE, changed
from tests.unit.domain.trials import TOOLCHAIN

if TYPE_CHECKING:
    from kwatch.domain.boot.care import BootProfile

FRAGMENTS = (PLAIN_CONFIG, LINUX / "arm64.config")
OUTPUT = ARM64_FOLDER / "out"
IMAGE = OUTPUT / ARM64.image
VMLINUX = OUTPUT / "vmlinux"

SLOT = BuildSlot(
    folder=str(ARM64_FOLDER),
    source=str(ARM64_FOLDER / "linux"),
    output=str(OUTPUT),
    marker=str(ARM64_FOLDER / "unfinished"),
    configured=str(OUTPUT / ".configured"),
    ccache=str(ARM64_FOLDER / "ccache"),
    tools={},
)


def profile(**changes: object) -> BootProfile:
    """How it is booted."""
    return changed(PROFILE, arch=ARM64.name, machine=ARM64.machine, **changes)


def prepare() -> None:
    """Have the kernel; the second time this takes some seconds."""
    Kernel(ARM64_FOLDER, FRAGMENTS).unpack()
    for folder in (OUTPUT, ARM64_FOLDER / "ccache"):
        folder.mkdir(parents=True, exist_ok=True)
    config = OUTPUT / ".config"
    if not config.exists():
        _make("tinyconfig")
        fragments = [Fragment(name=one.name, text=one.read_text()) for one in FRAGMENTS]
        config.write_text(merge(config.read_text(), fragments))
        _make("olddefconfig")
    _make(ARM64.target, "vmlinux")


def _make(*targets: str) -> None:
    launcher = "ccache" if shutil.which("ccache") else ""
    jobs = os.cpu_count() or 1
    command = make_command(TOOLCHAIN, ARM64.name, *targets, jobs=jobs, launcher=launcher)
    done = subprocess.run(
        SLOT.sandbox().command(command), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
