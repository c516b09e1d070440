# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line: from a boot profile to a run to supervise.

Console and channel are files in the folder of the run (docs/guest-protocol.md): they survive a
broken connection, and a guest never waits for a reader. Options: QEMU's qemu(1).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from kwatch.domain.boot import Accelerator
from kwatch.domain.run import LOG, RunSpec
from kwatch.errors import ConfigError

if TYPE_CHECKING:
    from kwatch.domain.boot import BootProfile

CONSOLE = "console"
CHANNEL = "channel"
QMP = "qmp"
LOG_LIMIT = 1 << 20
# Seconds by which the supervisor's deadline is behind that of the watch.
MARGIN = 60.0

PROGRAMS = {"x86_64": "qemu-system-x86_64"}
CMDLINE = "console=ttyS0 earlycon=uart8250,io,0x3f8 panic=-1 nokaslr"
# The guest is hostile: QEMU may start no program and gain no right.
CONFINED = (
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)  # fmt: skip


def machine(
    profile: BootProfile, accelerator: Accelerator, *, memory_mib: int, cpus: int
) -> tuple[str, ...]:
    """What every guest of ``profile`` has in common: no devices but those named later."""
    program = PROGRAMS.get(profile.arch)
    if program is None:
        raise ConfigError(
            f"boot profile {profile.name}: architecture {profile.arch} cannot be booted, only "
            f"{', '.join(PROGRAMS)}"
        )
    if accelerator is Accelerator.AUTO:
        raise ValueError("the accelerator is to be chosen before")
    cpu = profile.cpu or ("host" if accelerator is Accelerator.KVM else "max")
    return (
        program, "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", *CONFINED,
        "-M", f"{profile.machine},dump-guest-core=off", "-accel", accelerator.value, "-cpu", cpu,
        "-m", f"{memory_mib}M", "-smp", str(cpus),
        "-chardev", f"file,id=console,path={CONSOLE}", "-serial", "chardev:console",
    )  # fmt: skip


def command(
    profile: BootProfile, accelerator: Accelerator, *, kernel: str, initramfs: str
) -> tuple[str, ...]:
    """The argv that boots ``kernel`` with ``initramfs`` (paths on the host).

    To be run in the folder of the run, where it makes ``console``, ``channel`` and the socket
    ``qmp``. The accelerator is KVM or TCG.
    """
    return (
        *machine(profile, accelerator, memory_mib=profile.memory_mib, cpus=profile.cpus),
        "-chardev", f"file,id=channel,path={CHANNEL}", "-serial", "chardev:channel",
        # A machine that resets or powers off waits for us: it may have to tell what it died of.
        "-qmp", f"unix:{QMP},server=on,wait=off", "-action", "shutdown=pause",
        "-kernel", kernel, "-initrd", initramfs,
        "-append", f"{CMDLINE} {profile.cmdline}".rstrip(),
    )  # fmt: skip


def command_for_people(profile: BootProfile, accelerator: Accelerator, *, kernel: str) -> str:
    """The same machine as a shell line for a report, with the console on the terminal."""
    words = machine(profile, accelerator, memory_mib=profile.memory_mib, cpus=profile.cpus)
    shown = [word for word in words[: words.index("-chardev")] if word not in CONFINED]
    shown.remove("-no-user-config")
    return shlex.join(
        (
            *(word.removesuffix(",dump-guest-core=off") for word in shown),
            "-serial", "stdio", "-kernel", kernel, "-append",
            f"{CMDLINE} {profile.cmdline}".rstrip(),
        )
    )  # fmt: skip


def run_spec(
    profile: BootProfile, accelerator: Accelerator, *, kernel: str, initramfs: str
) -> RunSpec:
    """The same as a run to supervise, with all its limits."""
    return RunSpec(
        argv=command(profile, accelerator, kernel=kernel, initramfs=initramfs),
        deadline=profile.total_deadline(accelerator) + MARGIN,
        limits={
            CONSOLE: profile.console_limit,
            CHANNEL: profile.channel_limit,
            LOG: LOG_LIMIT,
        },
    )
