# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of architectures: whole, and the same for all who have rows of their own."""

from __future__ import annotations

import pytest

from kwatch.adapters.guest.accelerator import TINY_GUESTS
from kwatch.adapters.guest.qemu import command, command_for_people
from kwatch.adapters.host.fitness import PROFILES
from kwatch.adapters.kernel.kbuild import make_command
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.recipe.arch import ARCHES, ARM64, Arch
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from tests.unit.domain.trials import TOOLCHAIN

every_arch = pytest.mark.parametrize("arch", ARCHES.values(), ids=ARCHES)


def test_every_architecture_has_a_tiny_guest() -> None:
    assert ARCHES.keys() == TINY_GUESTS.keys() == PROFILES.keys()


@every_arch
def test_a_guest_has_a_console_and_both_channels(arch: Arch) -> None:
    profile = BootProfile(recipe=BootRecipe(arch=arch.name, machine=arch.machine))
    argv = command(profile, Accelerator.TCG, kernel="/k", initramfs="/i")
    assert argv[0] == arch.emulator
    assert f"{arch.machine},dump-guest-core=off" in argv
    for device in ("console", "channel", "serial"):
        assert f"file,id={device},path={device}" in argv
        assert sum(f"chardev:{device}" in word or f"chardev={device}" in word for word in argv) == 1
    assert argv[argv.index("-append") + 1].startswith(arch.console)


@every_arch
def test_people_get_the_same_machine(arch: Arch) -> None:
    profile = BootProfile(recipe=BootRecipe(arch=arch.name, machine=arch.machine))
    line = command_for_people(profile, Accelerator.TCG, kernel=arch.image, initramfs="i.gz")
    assert line.startswith(arch.emulator)
    assert f"-M {arch.machine} " in line
    assert f"-kernel arch/{arch.folder}/boot/{arch.target} -initrd i.gz " in line


@every_arch
def test_clang_builds_for_it(arch: Arch) -> None:
    argv = make_command(TOOLCHAIN, arch.name, arch.target, jobs=1)
    assert {f"ARCH={arch.name}", "LLVM=-22", arch.target} < set(argv)


def test_what_arm64_is_called() -> None:
    assert ARM64.image == "arch/arm64/boot/Image"
    assert ARM64.cmdline == "console=ttyAMA0 earlycon=pl011,0x9000000 panic=-1 nokaslr"
