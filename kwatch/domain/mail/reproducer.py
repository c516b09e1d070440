# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of a report that lead from a clone of the kernel to the failure.

They end with the step that fails, and need no file that is neither attached nor linked. Names of
tags, URLs and commands are quoted: a reader runs these lines.
"""

from __future__ import annotations

import gzip
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.finding import Area
from kwatch.domain.mail.story import Attachment
from kwatch.domain.recipe.arch import ARCHES, X86_64
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import merge
from kwatch.domain.source.series import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kwatch.domain.recipe.kconfig import KconfigRecipe
    from kwatch.domain.recipe.toolchain import Toolchain

INITRAMFS = "initramfs.cpio.gz"
PLAIN_BYTES = 24 << 10
"""Larger files are attached as gzip."""
MAX_BYTES = 48 << 10
"""Larger files, after gzip, are not attached: lists refuse mails of more than 100 kB."""

_LORE = "https://lore.kernel.org/"
_PROFILE = "/sys/kernel/debug/llvm-cov/profraw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be reproduced.

    ``commands`` are those of the boot. ``area`` is the step that fails. ``url`` is that of the
    tree, if it is known. ``mbox`` is the series where it has to be applied, ``archive`` that of
    its mails. ``config`` is the .config of the build, ``config_url`` a link to it; without both,
    the lines make one from the recipe. ``qemu`` is the command that boots ``INITRAMFS``, if
    anything was booted.
    """

    recipe: BuildRecipe
    commands: tuple[str, ...]
    series: Series | None
    area: Area
    url: str | None
    tag: str
    commit: str
    mbox: bytes | None = None
    archive: str | None = None
    config: bytes | None = None
    config_url: str | None = None
    qemu: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproducer:
    """Shell lines, the files they need, and the .config (a URL or the name of a file)."""

    lines: tuple[str, ...]
    attachments: tuple[Attachment, ...]
    config: str | None


def reproducer(subject: Subject) -> Reproducer:
    """The reproducer of a failure."""
    lines = [f"git checkout {subject.commit}"]
    if subject.url:
        lines.insert(0, f"git fetch {shlex.quote(subject.url)} tag {shlex.quote(subject.tag)}")
    files: list[Attachment] = []
    if subject.series and subject.mbox is not None:
        lines += _series(subject, subject.mbox, files)
    if subject.area is Area.APPLY:
        return Reproducer(lines=tuple(lines), attachments=tuple(files), config=None)
    make = make_line(subject.recipe.arch, subject.recipe.toolchain)
    config, made = _config(subject, make, files)
    lines += [*made, f"{make} olddefconfig"]
    if subject.area is not Area.CONFIG:
        lines.append(f"{make} -j$(nproc) {ARCHES[subject.recipe.arch].target}")
    if subject.area not in {Area.CONFIG, Area.BUILD} and subject.qemu:
        is_counted = subject.area is Area.COVERAGE
        lines += [*_initramfs(subject.commands, is_counted=is_counted), subject.qemu]
    return Reproducer(lines=tuple(lines), attachments=tuple(files), config=config)


def make_line(arch: str, toolchain: Toolchain) -> str:
    """``make`` with the toolchain as it was used; defaults of ``LLVM=`` are not repeated."""
    words = ["make"]
    # Most readers have an x86 machine: any other architecture has to be named.
    if arch != X86_64.name:
        words.append(f"ARCH={arch}")
    suffix = toolchain.llvm_suffix
    words.append(f"LLVM={suffix or 1}")
    if toolchain.compiler != f"clang{suffix}":
        words += [f"CC={toolchain.compiler}", f"HOSTCC={toolchain.compiler}"]
    if toolchain.linker != f"ld.lld{suffix}":
        words.append(f"LD={toolchain.linker}")
    return shlex.join(words)


def _series(subject: Subject, mbox: bytes, files: list[Attachment]) -> list[str]:
    series = subject.series
    if series and "@" in series.origin and (subject.archive or "").startswith(_LORE):
        return [f"b4 shazam {shlex.quote(series.origin)}"]
    attached = _attached("series.mbox", mbox)
    if attached is None:
        return [f"# apply the series with sha256 {series.digest if series else ''}"]
    files.append(attached)
    if attached.name.endswith(".gz"):
        return [f"gunzip -c {attached.name} | git am -3 --patch-format=mboxrd"]
    return [f"git am -3 --patch-format=mboxrd {attached.name}"]


def _config(
    subject: Subject, make: str, files: list[Attachment]
) -> tuple[str | None, Sequence[str]]:
    """The .config for the reader, and the lines that put it in its place."""
    if subject.config_url:
        return subject.config_url, (f"curl -fLo .config {shlex.quote(subject.config_url)}",)
    attached = _attached("config", subject.config) if subject.config else None
    if attached is None:
        return None, tuple(_from_recipe(subject.recipe.kconfig, make, files))
    files.append(attached)
    unpack = "gunzip -c" if attached.name.endswith(".gz") else "cat"
    return attached.name, (f"{unpack} {attached.name} >.config",)


def _from_recipe(recipe: KconfigRecipe, make: str, files: list[Attachment]) -> Iterator[str]:
    """The lines that make a .config as kwatch does, before ``olddefconfig``."""
    base = recipe.base
    if isinstance(base, str):
        yield f"{make} {base}"
    asked = merge("" if isinstance(base, str) else base.text, recipe.fragments)
    attached = _attached("fragment.config", asked.encode())
    if not asked or attached is None:
        return
    files.append(attached)
    unpack = "gunzip -c" if attached.name.endswith(".gz") else "cat"
    yield f"{unpack} {attached.name} {'>>' if isinstance(base, str) else '>'}.config"


def _initramfs(commands: Sequence[str], *, is_counted: bool) -> Iterator[str]:
    """The lines that build an initramfs which runs the test commands and powers off."""
    yield "mkdir -p initramfs/bin initramfs/proc initramfs/sys"
    yield "cp /bin/busybox initramfs/bin/  # a static one, for the guest"
    yield _write(
        ">",
        "#!/bin/busybox sh",
        "/bin/busybox --install -s /bin",
        "mount -t proc proc /proc",
        "mount -t sysfs sysfs /sys",
    )
    for number, command in enumerate(commands, 1):
        yield _write(">>", "(", *command.split("\n"), f"); echo command {number}: status $?")
    if is_counted:
        yield _write(">>", "mount -t debugfs debugfs /sys/kernel/debug", f"wc -c {_PROFILE}")
    yield _write(">>", "poweroff -f")
    yield "chmod +x initramfs/init"
    yield f"(cd initramfs && find . | cpio -o -H newc | gzip) >{INITRAMFS}"


def _write(to: str, *lines: str) -> str:
    # No here-document: a report indents its commands.
    return f"printf '%s\\n' {shlex.join(lines)} {to}initramfs/init"


def _attached(name: str, content: bytes) -> Attachment | None:
    """A file of a mail, as gzip if it is large; None if it is too large for mail."""
    if len(content) <= PLAIN_BYTES:
        return Attachment(name=name, content=content)
    packed = gzip.compress(content, mtime=0)
    return None if len(packed) > MAX_BYTES else Attachment(name=f"{name}.gz", content=packed)
