# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between the architectures that kernels are built for and booted on.

One row each. Clang compiles for any of them on any host; what runs a guest is QEMU's program for
its architecture, by KVM on a host of the same one, else by emulation.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMON = "panic=-1 nokaslr"
"""What every kernel is told: a panic ends the machine, and addresses are those of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arch:
    """One architecture. ``name`` is Kbuild's (``ARCH=``), and that of the configuration.

    ``folder`` is below ``arch/`` in the source, ``target`` makes the image that boots. ``uname`` is
    what a machine calls itself (``uname -m``), ``elf`` what its executables are marked with (ELF:
    e_machine). ``emulator`` is QEMU's program, ``package`` Debian's that has it, and ``machine``
    what it emulates where a profile says nothing else. ``console`` are the kernel's parameters for
    its first serial line. ``second_line`` are QEMU's options that give the machine another one,
    with the character device ``serial`` behind it; the guest knows it as ``serial``.
    """

    name: str
    folder: str
    target: str
    uname: str
    elf: int
    emulator: str
    package: str
    machine: str
    console: str
    second_line: tuple[str, str]
    serial: str

    @property
    def image(self) -> str:
        """The image that boots, below ``O=``."""
        return f"arch/{self.folder}/boot/{self.target}"

    @property
    def cmdline(self) -> str:
        """The kernel parameters that kwatch itself needs."""
        return f"{self.console} {COMMON}"


X86_64 = Arch(
    name="x86_64",
    folder="x86",
    target="bzImage",
    uname="x86_64",
    elf=62,
    emulator="qemu-system-x86_64",
    package="qemu-system-x86",
    machine="q35",
    console="console=ttyS0 earlycon=uart8250,io,0x3f8",
    second_line=("-serial", "chardev:serial"),
    serial="/dev/ttyS1",
)
ARM64 = Arch(
    name="arm64",
    folder="arm64",
    target="Image",
    uname="aarch64",
    elf=183,
    emulator="qemu-system-aarch64",
    package="qemu-system-arm",
    # Of interrupt controllers, the newest: KVM has but the one that its host has.
    machine="virt,gic-version=max",
    console="console=ttyAMA0 earlycon=pl011,0x9000000",
    # The machine has one line only; a card has another.
    second_line=("-device", "pci-serial,chardev=serial"),
    serial="/dev/ttyS0",
)
ARCHES = {arch.name: arch for arch in (X86_64, ARM64)}
