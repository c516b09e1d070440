# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line: from a boot profile to a run to supervise.

Console and channel are files in the folder of the run (docs/guest-protocol.md): they survive a
broken connection, and a guest never waits for a reader. The channel is a port of virtio-serial,
and a serial line for kernels without the driver. Options: QEMU's qemu(1).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from kwatch.domain.recipe.arch import ARCHES, Arch
from kwatch.domain.recipe.boot import Accelerator
from kwatch.domain.run import CONSOLE, LOG, RunSpec
from kwatch.errors import ConfigError

if TYPE_CHECKING:
    from kwatch.domain.boot.care import BootProfile

CHANNEL = "channel"
SERIAL = "serial"
# The guest's name for its end of the channel.
PORT = "org.kwatch.channel"
QMP = "qmp"
LOG_LIMIT = 1 << 20
# Seconds by which the supervisor's deadline is behind that of the watch.
MARGIN = 60.0

# The guest is hostile: QEMU may start no program and gain no right.
CONFINED = (
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)  # fmt: skip


def machine(
    profile: BootProfile, accelerator: Accelerator, *, memory_mib: int, cpus: int
) -> tuple[str, ...]:
    """What every guest of ``profile`` has in common: no devices but those named later."""
    arch, recipe = _arch(profile), profile.recipe
    if accelerator is Accelerator.AUTO:
        raise ValueError("the accelerator is to be chosen before")
    cpu = recipe.cpu or ("host" if accelerator is Accelerator.KVM else "max")
    return (
        arch.emulator, "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot",
        *CONFINED, "-M", f"{recipe.machine},dump-guest-core=off", "-accel", accelerator.value,
        "-cpu", cpu, "-m", f"{memory_mib}M", "-smp", str(cpus),
        "-chardev", f"file,id=console,path={CONSOLE}", "-serial", "chardev:console",
    )  # fmt: skip


def command(
    profile: BootProfile, accelerator: Accelerator, *, kernel: str, initramfs: str
) -> tuple[str, ...]:
    """The argv that boots ``kernel`` with ``initramfs`` (paths on the host).

    To be run in the folder of the run, where it makes ``console``, ``channel``, ``serial`` and the
    socket ``qmp``. The accelerator is KVM or TCG.
    """
    arch, recipe = _arch(profile), profile.recipe
    return (
        *machine(profile, accelerator, memory_mib=recipe.memory_mib, cpus=recipe.cpus),
        "-device", "virtio-serial-pci", "-chardev", f"file,id=channel,path={CHANNEL}",
        "-device", f"virtserialport,chardev=channel,name={PORT}",
        "-chardev", f"file,id=serial,path={SERIAL}", *arch.second_line,
        # A machine that resets or powers off waits for us: it may have to tell what it died of.
        "-qmp", f"unix:{QMP},server=on,wait=off", "-action", "shutdown=pause",
        "-kernel", kernel, "-initrd", initramfs,
        "-append", f"{arch.cmdline} {recipe.cmdline}".rstrip(),
    )  # fmt: skip


def command_for_people(
    profile: BootProfile, accelerator: Accelerator, *, kernel: str, initramfs: str
) -> str:
    """The same machine as a shell line for a report, with the console on the terminal."""
    words = machine(
        profile, accelerator, memory_mib=profile.recipe.memory_mib, cpus=profile.recipe.cpus
    )
    shown = [word for word in words[: words.index("-chardev")] if word not in CONFINED]
    shown.remove("-no-user-config")
    return shlex.join(
        (
            *(word.removesuffix(",dump-guest-core=off") for word in shown),
            "-serial", "stdio", "-kernel", kernel, "-initrd", initramfs, "-append",
            f"{_arch(profile).cmdline} {profile.recipe.cmdline}".rstrip(),
        )
    )  # fmt: skip


def run_spec(
    profile: BootProfile, accelerator: Accelerator, *, kernel: str, initramfs: str
) -> RunSpec:
    """The same as a run to supervise, with all its limits."""
    return RunSpec(
        argv=command(profile, accelerator, kernel=kernel, initramfs=initramfs),
        deadline=profile.care.total_deadline(accelerator) + MARGIN,
        limits={
            CONSOLE: profile.care.console_limit,
            CHANNEL: profile.care.channel_limit,
            SERIAL: profile.care.channel_limit,
            LOG: LOG_LIMIT,
        },
    )


def _arch(profile: BootProfile) -> Arch:
    arch = ARCHES.get(profile.recipe.arch)
    if arch is None:
        raise ConfigError(
            f"architecture {profile.recipe.arch} cannot be booted, only {', '.join(ARCHES)}"
        )
    return arch
