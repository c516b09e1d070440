# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a machine got that a console is of, as far as the console tells.

A table: what is said at each step by the firmware, boot loaders, kernels and user spaces that a lab
meets. A line with one of the words has got at least that far.
"""

from __future__ import annotations

from enum import IntEnum


class Progress(IntEnum):
    """The steps of a boot, in their order."""

    NOTHING = 0
    FIRMWARE = 1
    DECOMPRESSOR = 2
    """The kernel's own loader: the decompressor, or the EFI stub."""
    KERNEL = 3
    INIT = 4
    READY = 5
    """User space is there for people or tests."""
    TESTS = 6
    DONE = 7
    """It went down in good order."""

    @property
    def label(self) -> str:
        """As it is printed and stored."""
        return self.name.lower()


STEPS: dict[Progress, tuple[str, ...]] = {
    Progress.FIRMWARE: (
        "SeaBIOS (version", "iPXE ", "UEFI firmware", "UEFI Interactive Shell", "BdsDxe: ",
        "U-Boot ", "OpenSBI v", "GNU GRUB", "Welcome to GRUB", "NOTICE:  BL", "coreboot-",
        "Booting from ROM", "SLOF", "ISOLINUX", "SYSLINUX",
    ),
    Progress.DECOMPRESSOR: (
        "EFI stub: ", "Decompressing Linux", "Uncompressing Linux", "early console in ",
        "Booting the kernel", "Starting kernel ...", "Physical KASLR ", "KASLR disabled:",
        "KASLR using ",
    ),
    Progress.KERNEL: ("Linux version ", "Booting Linux on"),
    Progress.INIT: (
        " as init process", "Freeing unused kernel", "Freeing init memory", "systemd[1]:",
        "Welcome to ", "Starting init: ", "INIT: version", "init started: ",
    ),
    Progress.READY: (" login: ", "can't access tty", "Startup finished in ", "/ # ", "~ # "),
    Progress.DONE: (
        "reboot: Power down", "reboot: System halted", "reboot: Restarting system",
        "System halted.", "Power down.",
    ),
}  # fmt: skip
"""The words for each step. Tests are not among them: KTAP has a reader of its own."""

CONFIRMING = ("Command line: ", "Kernel command line: ")
"""What a kernel says right after its version, and nobody does who prints /proc/version."""

LEAVING = ("reboot: ", "Restarting system", "Starting new kernel", "sysrq: Resetting")
"""Who says so before a kernel starts anew does it on purpose."""
