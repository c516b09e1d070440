# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the corpus anew: break a real kernel in every way, build and boot it, keep what it says.

    .venv/bin/python -m tests.corpus.grow FOLDER [NAME...]

FOLDER gets the source, the builds and the guests' files, some 4 GB; what is there is used again.
Without names everything is made, which takes an hour or two. The name "healthy" stands for all the
logs of healthy.tar.xz: boots and builds in which nothing is wrong. The expectations of the others
are written by ``pytest tests/unit/test_corpus.py --update``, and reviewed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from kwatch.adapters.guest.initramfs import build_initramfs
from kwatch.domain.recipe.arch import X86_64
from kwatch.domain.recipe.boot import Counters
from tests.lab.linuxkernel import LINUX, TARBALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BUSY = "for second in $(seq 40); do cat /proc/self/status >/dev/null; sleep 1; done"
MACHINE = ("-M", "q35", "-cpu", "max", "-smp", "2", "-m", "512M")

Row = TypeVar("Row")

CORPUS = Path(__file__).parent
SEAM = "---\n"
BUSYBOX = Path("/bin/busybox")
MISDEEDS = LINUX / "misdeeds.c"
PLAIN_CONFIG = LINUX / "lab.config"
DEBUG_CONFIG = CORPUS / "debug.config"
HEALTHY = CORPUS / "healthy.tar.xz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One boot of the kernel with misdeeds. ``seconds`` is when it is ended if it lives on."""

    name: str
    about: str
    cmdline: str = ""
    seconds: float = 60.0
    initramfs: str = "init"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """One build that fails or complains: ``path`` gets ``text`` at its end, or ``old`` is replaced
    by it; then ``targets`` are made.
    """

    name: str
    about: str
    path: str
    text: str
    old: str = ""
    targets: tuple[str, ...] = ("vmlinux",)
    options: tuple[str, ...] = ()


def table(name: str, kind: type[Row]) -> list[Row]:
    """The guests or builds of broken.toml."""
    rows = tomllib.loads((CORPUS / "broken.toml").read_text())[name]
    return TypeAdapter(list[kind]).validate_python(rows)  # type: ignore[valid-type]


class Kernel:
    """The source, one output folder, and what is made of them."""

    def __init__(self, folder: Path, fragments: Sequence[Path]) -> None:
        self.folder = folder
        self.fragments = fragments
        self.source = folder / "linux"
        self.output = folder / ("out" if DEBUG_CONFIG in fragments else "out-plain")
        self.image = self.output / "arch/x86/boot/bzImage"

    def prepare(self) -> None:
        """The source with the misdeeds in it, built once."""
        self.unpack()
        self.output.mkdir(parents=True, exist_ok=True)
        print(f"building in {self.output}", flush=True)
        if not (self.output / ".config").exists():
            self.configure(*self.fragments)
        made = self.make("bzImage", "vmlinux")
        if not self.image.exists():
            raise SystemExit(made)

    def unpack(self) -> None:
        """The source with the misdeeds in it."""
        if not self.source.exists():
            print("unpacking the source", flush=True)
            unpacked = self.folder / "unpacked"
            unpacked.mkdir(parents=True, exist_ok=True)
            subprocess.run(["tar", "-xf", TARBALL, "-C", unpacked], check=True)
            (unpacked / TARBALL.name.partition(".tar")[0]).rename(self.source)
            with (self.source / "init/Makefile").open("a") as makefile:
                # Or what does wrong is in no trace, where it calls another function last.
                makefile.write("\nobj-y += misdeeds.o\n"
                               "CFLAGS_misdeeds.o += -fno-optimize-sibling-calls\n")  # fmt: skip
        misdeeds = self.source / "init/misdeeds.c"
        if not misdeeds.exists() or misdeeds.read_bytes() != MISDEEDS.read_bytes():
            shutil.copy(MISDEEDS, misdeeds)

    def configure(self, *fragments: Path) -> None:
        self.make("tinyconfig")
        config = self.output / ".config"
        config.write_text(config.read_text() + "".join(one.read_text() for one in fragments))
        self.make("olddefconfig")

    def make(self, *words: str) -> str:
        """What make says."""
        done = subprocess.run(
            ["make", "-C", self.source, f"O={self.output}", "LLVM=-22", "CC=ccache clang-22",
             f"-j{os.cpu_count()}", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
            env={**os.environ, "LC_ALL": "C", "CCACHE_DIR": str(self.folder / "ccache")},
        )  # fmt: skip
        return self.anonymous(done.stdout).decode("utf-8", "replace")

    def anonymous(self, said: bytes) -> bytes:
        """A log without the folders of whoever made it."""
        for path, name in ((self.source, b"/build/src"), (self.output, b"/build/out")):
            for form in (path.resolve(), path):
                said = said.replace(str(form).encode(), name)
        return said

    def make_anew(self, target: str, *options: str) -> bytes:
        """What make says of a part of the kernel that is not built yet."""
        for path in list((self.output / target).rglob("*.[oa]")):
            path.unlink()
        return self.make(target, *options).encode()

    def break_and_make(self, breakage: Breakage) -> str:
        """What make says of a source that is broken."""
        options = list(breakage.options)
        if "LLVM=" in options:
            options.insert(0, "CC=gcc")
        path = self.source / breakage.path
        before = path.read_text()
        config = (self.output / ".config").read_text()
        after = (
            before.replace(breakage.old, breakage.text, 1)
            if breakage.old
            else before + breakage.text
        )
        assert after != before, breakage
        settings = [option for option in options if option.startswith("CONFIG_")]
        try:
            if settings:
                (self.output / ".config").write_text(config + "\n".join(settings) + "\n")
                self.make("olddefconfig")
            path.write_text(after)
            return self.make(*breakage.targets, *(one for one in options if one not in settings))
        finally:
            path.write_text(before)
            (self.output / ".config").write_text(config)

    def boot(
        self,
        *,
        cmdline: str,
        seconds: float,
        initramfs: bytes | None,
        options: Sequence[str] = MACHINE,
    ) -> bytes:
        """What the guest says until it ends."""
        console = self.folder / f"console-{os.getpid()}"
        ram = self.folder / f"initramfs-{os.getpid()}"
        argv = ["qemu-system-x86_64", "-display", "none", "-nodefaults", "-no-reboot",
                "-accel", "tcg", *options,
                "-serial", f"file:{console}", "-serial", "null",
                "-kernel", str(self.image),
                "-append", f"console=ttyS0 {cmdline}".rstrip()]  # fmt: skip
        if initramfs is not None:
            ram.write_bytes(initramfs)
            argv += ["-initrd", str(ram)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(argv, timeout=seconds, check=False, stdin=subprocess.DEVNULL)
        said = console.read_bytes()
        console.unlink()
        return self.anonymous(said)


def initramfs(kind: str) -> bytes | None:
    """What the guest has for a user space."""
    if kind == "none":
        return None
    commands = {"init": ("cat /proc/version",), "busy": (BUSY,)}.get(kind, ())
    made = build_initramfs(
        arch=X86_64, busybox=BUSYBOX.read_bytes(), commands=commands, counters=Counters.KEEP,
        command_timeout=timedelta(seconds=60),
    )  # fmt: skip
    return made if commands else _other_init(kind)


def _other_init(kind: str) -> bytes:
    """A cpio archive in the old way, with an init of our own or none."""
    script = {"short": "#!/bin/sh\necho goodbye\n", "killed": "#!/bin/sh\nkill -SEGV $$\n"}.get(
        kind
    )
    root = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"kwatch-root-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    (root / "dev").mkdir()
    if script:
        (root / "init").write_text(script)
        (root / "init").chmod(0o755)
        shutil.copy(BUSYBOX, root / "bin/sh")
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=root, check=True,
        stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    shutil.rmtree(root)
    return archive


def keep(name: str, kind: str, about: str, log: bytes) -> None:
    """Write one log of the corpus; what it is read as is added by --update."""
    path = CORPUS / f"{name}.txt"
    path.write_bytes(f"kind: {kind}\nabout: {about}\n{SEAM}".encode() + log)
    print(f"{len(log):>9} {name}", flush=True)


def healthy_boots(kernel: Kernel) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Boots in which nothing is wrong, in every way that a console and a machine can be set."""
    cmdlines = (
        "", "quiet", "loglevel=3", "debug", "ignore_loglevel initcall_debug", "printk.time=0",
        "nokaslr", "maxcpus=1", "mitigations=off", "earlyprintk=serial,ttyS0", "rodata=off",
        "printk.devkmsg=on", "sysrq_always_enabled", "panic=5 oops=panic", "nolapic_timer",
        "rcupdate.rcu_expedited=1", "slab_nomerge", "apic=verbose", "log_buf_len=4M", "memtest=1",
    )  # fmt: skip
    machines = (
        ("-M", "q35", "-cpu", "max", "-smp", "2", "-m", "512M"),
        ("-M", "pc", "-cpu", "max", "-smp", "1", "-m", "256M"),
        ("-M", "q35", "-cpu", "qemu64", "-smp", "4", "-m", "384M"),
        ("-M", "q35", "-cpu", "Nehalem", "-smp", "2", "-m", "1G"),
        ("-M", "pc", "-cpu", "Skylake-Client", "-smp", "3", "-m", "512M"),
        ("-M", "q35", "-cpu", "EPYC", "-smp", "1", "-m", "768M"),
        ("-M", "pc", "-cpu", "qemu64", "-smp", "1", "-m", "128M"),
        ("-M", "q35", "-cpu", "Westmere", "-smp", "2", "-m", "160M"),
        ("-M", "pc", "-cpu", "Opteron_G3", "-smp", "4", "-m", "512M"),
        ("-M", "q35", "-cpu", "max,-x2apic", "-smp", "2", "-m", "640M"),
        ("-M", "q35,hpet=off", "-cpu", "max", "-smp", "1", "-m", "320M"),
    )
    for row, cmdline in enumerate(cmdlines):
        # What checks itself is slow: on one machine each.
        is_slow = DEBUG_CONFIG in kernel.fragments
        for column, machine in enumerate(machines[:1] if is_slow else machines):
            yield (
                f"{kernel.output.name}-{row:02}-{column}.console",
                partial(kernel.boot, cmdline=cmdline, seconds=120, initramfs=initramfs("init"),
                        options=machine),
            )  # fmt: skip


def healthy_builds(kernel: Kernel) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Builds in which nothing is wrong, of parts of the kernel."""
    targets = (
        "kernel/rcu/", "lib/", "mm/", "init/", "kernel/", "fs/", "block/", "ipc/", "security/",
        "drivers/base/", "drivers/tty/", "drivers/char/", "arch/x86/kernel/", "arch/x86/mm/",
        "arch/x86/lib/", "arch/x86/entry/", "kernel/sched/", "kernel/time/", "kernel/irq/",
        "fs/proc/",
    )  # fmt: skip
    for number, target in enumerate(targets):
        for name, options in (("plain", ()), ("loud", ("V=1",)), ("warnings", ("W=1",))):
            yield (
                f"{kernel.output.name}-{number:02}-{name}.build",
                partial(kernel.make_anew, target, *options),
            )


def keep_healthy(folder: Path) -> None:
    """Write healthy.tar.xz, with dates and owners that are always the same.

    Logs that are in ``folder`` from an earlier run are not made again.
    """
    plain, debug = Kernel(folder, [PLAIN_CONFIG]), Kernel(folder, [PLAIN_CONFIG, DEBUG_CONFIG])
    plain.prepare()
    made = folder / "healthy"
    made.mkdir(exist_ok=True)
    for name, make in itertools.chain(
        healthy_boots(debug), healthy_boots(plain), healthy_builds(plain)
    ):
        path = made / name
        if not path.exists():
            path.write_bytes(make())
            print(f"{path.stat().st_size:>9} {name}", flush=True)
    with tarfile.open(HEALTHY.with_suffix(".part"), "w:xz") as archive:
        for path in sorted(made.iterdir()):
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            archive.addfile(member, BytesIO(path.read_bytes()))
    HEALTHY.with_suffix(".part").rename(HEALTHY)


def main(words: list[str]) -> None:
    """Make what is named, or everything."""
    folder, names = Path(words[0]).resolve(), set(words[1:])
    kernel = Kernel(folder, [PLAIN_CONFIG, DEBUG_CONFIG])
    kernel.prepare()
    for guest in table("guest", Guest):
        if not names or guest.name in names:
            said = kernel.boot(
                cmdline=guest.cmdline,
                seconds=guest.seconds,
                initramfs=initramfs(guest.initramfs),
            )
            keep(guest.name, "console", guest.about, said)
    for breakage in table("build", Breakage):
        if not names or breakage.name in names:
            said = kernel.break_and_make(breakage).encode()
            keep(breakage.name, "build", breakage.about, said)
    if not names or "healthy" in names:
        keep_healthy(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
