# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the corpus anew: break a real kernel in every way, build and boot it, keep what it says.

    .venv/bin/python -m tests.corpus.grow FOLDER [NAME...]

FOLDER gets the source, the builds and the guests' files, some 4 GB. Without names everything is
made, which takes an hour or two; what is in FOLDER is used again. The expectations are written by
``pytest tests/unit/test_corpus.py --update``, and reviewed.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.initramfs import build_initramfs
from kwatch.domain.guest import Counters
from tests.lab.linuxkernel import LINUX, TARBALL

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPUS = Path(__file__).parent
HEALTHY = CORPUS / "healthy.tar.xz"
SEAM = "---\n"
BUSYBOX = Path("/bin/busybox")
DEBUG = (LINUX / "lab.config", CORPUS / "debug.config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One boot of the kernel with misdeeds. ``seconds`` is when it is ended if it lives on."""

    name: str
    about: str
    cmdline: str = ""
    seconds: float = 60.0
    initramfs: str = "init"
    memory: str = "512M"


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


def _misdeed(name: str, about: str, *, seconds: float = 60.0, cmdline: str = "") -> Guest:
    return Guest(
        name=name.replace("_", "-"), about=about, seconds=seconds,
        cmdline=f"misdeed={name} {cmdline}".rstrip(),
    )  # fmt: skip


GUESTS = (
    _misdeed("page_fault", "a write to an address where nothing is"),
    _misdeed("null", "a null pointer is followed"),
    _misdeed("general_protection", "an address that is none"),
    _misdeed("bug", "BUG()"),
    _misdeed("warn", "WARN() with a text; the boot goes on"),
    _misdeed("warn_on", "WARN_ON(); the boot goes on"),
    _misdeed("divide", "a division by zero"),
    _misdeed("lock_order", "two locks in both orders"),
    _misdeed("lock_twice", "a mutex is taken by its owner", seconds=40),
    _misdeed("irq_unsafe_lock", "a lock of a softirq is taken where softirqs are on"),
    _misdeed("unlock_unheld", "a mutex that nobody has is released"),
    _misdeed("free_held_lock", "memory with a lock in it that is held is freed"),
    _misdeed("rcu_unlocked", "rcu_dereference() outside of a reader"),
    _misdeed("sleep_in_atomic", "msleep() under a spinlock"),
    _misdeed("schedule_in_atomic", "schedule() with preemption off"),
    _misdeed("use_after_free", "freed memory is written"),
    _misdeed("out_of_bounds", "memory behind an allocation is read"),
    _misdeed("double_free", "memory is freed twice"),
    _misdeed("stack_out_of_bounds", "memory behind an array on the stack is read"),
    _misdeed("shift", "a shift by more than there is"),
    _misdeed("array_index", "an index that is too large"),
    _misdeed("list_del", "a list that is corrupt"),
    _misdeed("refcount", "a counter goes up from zero"),
    _misdeed("stack_protector", "a function overwrites its own frame"),
    _misdeed("stack_overflow", "a recursion without end"),
    _misdeed("hung_task", "a task waits for what never comes", seconds=45),
    _misdeed("spin", "a loop with preemption off: an RCU stall and a soft lockup", seconds=60),
    _misdeed("workqueue", "work that never ends", seconds=60, cmdline="workqueue.watchdog_thresh=4"),
    _misdeed("loop", "a loop that can be preempted: nothing is said", seconds=30),
    _misdeed("deadlock", "a lock is taken twice with interrupts off", seconds=60),
    _misdeed("halt", "the processor halts with interrupts off", seconds=60),
    _misdeed("triple_fault", "an interrupt without a table; the machine ends"),
    _misdeed("panic", "panic() with a text"),
    _misdeed("restart", "the kernel starts the machine anew by itself"),
    _misdeed("out_of_memory", "the kernel itself takes all memory"),
    _misdeed("big_allocation", "an allocation that is refused with a warning"),
    Guest(name="no-root", about="no initramfs and no disk", initramfs="none"),
    Guest(name="no-init", about="an initramfs without init", initramfs="empty"),
    Guest(name="init-dies", about="init ends", initramfs="short"),
    Guest(name="init-killed", about="init kills itself", initramfs="killed"),
    Guest(name="panic-on-warn", about="a warning ends the kernel",
          cmdline="misdeed=warn panic_on_warn=1"),
    Guest(name="stopped-early", about="cut off while the kernel starts", seconds=4.0),
)  # fmt: skip

_EXPORT = "static void *misdeed __used = misdeed_symbol;\n"
BREAKAGES = (
    Breakage(name="undefined-symbol", about="lld: a function that is nowhere",
             path="init/calibrate.c", text="\nint nowhere(void);\nint misdeed(void) { return nowhere(); }\n"),
    Breakage(name="duplicate-symbol", about="lld: a function that is twice",
             path="init/calibrate.c", text="\nint rest_of_init(void);\nvoid __init calibrate_delay(void) { }\n",
             targets=("init/calibrate.o",)),
    Breakage(name="duplicate-at-link", about="lld: two files define one function",
             path="init/calibrate.c", text="\nvoid parse_early_param(void);\nvoid parse_early_param(void) { }\n"),
    Breakage(name="missing-header", about="clang: an include that is not there",
             path="lib/sort.c", text='\n#include "not-here.h"\n', targets=("lib/sort.o",)),
    Breakage(name="undeclared", about="clang: a name that nobody declared",
             path="lib/sort.c", text="\nint misdeed(void)\n{\n\treturn undeclared_name;\n}\n", targets=("lib/sort.o",)),
    Breakage(name="error-in-header", about="clang: a type that is wrong in a header",
             path="include/linux/sort.h", old="#include <linux/types.h>", text="#include <linux/types.h>\nvoid misdeed(no_such_type x);",
             targets=("lib/sort.o",)),
    Breakage(name="incompatible-pointer", about="clang: a warning that is an error",
             path="lib/sort.c", text="\nint *misdeed(char *x)\n{\n\treturn x;\n}\n", targets=("lib/sort.o",),
             options=("KCFLAGS=-Werror",)),
    Breakage(name="warning-only", about="clang: a warning, and the build goes on",
             path="lib/sort.c", text="\nint misdeed(void);\nint misdeed(void)\n{\n\tint unused = 1;\n\treturn 0;\n}\n",
             targets=("lib/sort.o",)),
    Breakage(name="syntax-error", about="clang: a brace is missing",
             path="lib/sort.c", text="\nint misdeed(void)\n{\n\treturn 0;\n", targets=("lib/sort.o",)),
    Breakage(name="assembler-error", about="an instruction that there is none of",
             path="lib/sort.c", text='\nvoid misdeed(void) { asm("movfoo %eax, %ebx"); }\n', targets=("lib/sort.o",)),
    Breakage(name="build-bug", about="BUILD_BUG_ON()",
             path="lib/sort.c", text="\n#include <linux/build_bug.h>\nstatic void misdeed(void) { BUILD_BUG_ON(sizeof(long) != 3); }\n",
             targets=("lib/sort.o",)),
    Breakage(name="modpost-undefined", about="modpost: a module needs what is not exported",
             path="lib/test_module.c", text="\nextern int nowhere(void);\nint misdeed(void) { return nowhere(); }\nEXPORT_SYMBOL(misdeed);\n",
             targets=("modules",), options=("CONFIG_TEST_LKM=m",)),
    Breakage(name="section-mismatch", about="modpost: code that stays calls code that goes",
             path="init/calibrate.c", text="\n#include <linux/module.h>\nnoinline void __init misdeed_init(void) { barrier(); }\nnoinline void misdeed_stays(void);\nnoinline void misdeed_stays(void) { misdeed_init(); barrier(); }\nEXPORT_SYMBOL(misdeed_stays);\n"),
    Breakage(name="objtool", about="objtool: a stack that does not fit, and noinstr code that calls out",
             path="init/misdeeds.c", text='\nnoinstr void misdeed_noinstr(void);\nnoinstr void misdeed_noinstr(void) { pr_info("x"); }\nvoid misdeed_push(void);\nvoid misdeed_push(void) { asm volatile("push %rax"); }\n'),
    Breakage(name="kconfig-syntax", about="Kconfig: a word that is none",
             path="init/Kconfig", text="\nconfig MISDEED\n\tbool\n\tdefautl y\n", targets=("olddefconfig",)),
    Breakage(name="kconfig-missing", about="Kconfig: a file that is sourced and not there",
             path="init/Kconfig", text='\nsource "init/Kconfig.nowhere"\n', targets=("olddefconfig",)),
    Breakage(name="kconfig-recursive", about="Kconfig: two options select each other",
             path="init/Kconfig", text="\nconfig MISDEED_A\n\tbool\n\tdepends on MISDEED_B\n\tselect MISDEED_B\n\nconfig MISDEED_B\n\tbool\n\tdepends on MISDEED_A\n",
             targets=("olddefconfig",)),
    Breakage(name="no-rule", about="make: an object that there is no source of",
             path="init/Makefile", text="\nobj-y += nowhere.o\n"),
    Breakage(name="makefile-syntax", about="make: a line that is none",
             path="init/Makefile", text="\nifeq ($(CONFIG_X86),y\nobj-y += x.o\n"),
    Breakage(name="linker-script", about="lld: a script that it does not understand",
             path="arch/x86/kernel/vmlinux.lds.S", old="SECTIONS\n{", text="SECTIONS\n{\n\tnonsense nonsense\n"),
    Breakage(name="linker-assert", about="lld: an assertion of the linker script",
             path="arch/x86/kernel/vmlinux.lds.S", text='\nASSERT(0, "misdeed: this kernel is too large");\n'),
    Breakage(name="host-tool", about="a tool that runs on the build host does not compile",
             path="scripts/kallsyms.c", text="\nint misdeed(void) { return nothing; }\n"),
    Breakage(name="missing-tool", about="a program that the build needs is not there",
             path="lib/sort.c", text="\n", targets=("lib/sort.o",), options=("CC=clang-99",)),
    Breakage(name="gcc-undeclared", about="gcc: a name that nobody declared",
             path="lib/sort.c", text="\nint misdeed(void)\n{\n\treturn undeclared_name;\n}\n", targets=("lib/sort.o",),
             options=("LLVM=",)),
    Breakage(name="gcc-missing-header", about="gcc: an include that is not there",
             path="lib/sort.c", text='\n#include "not-here.h"\n', targets=("lib/sort.o",), options=("LLVM=",)),
)  # fmt: skip


class Kernel:
    """The source, one output folder, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "linux"
        self.output = folder / "out"

    def prepare(self) -> None:
        """The source with the misdeeds in it, built once."""
        if not self.source.exists():
            print("unpacking the source", flush=True)
            unpacked = self.folder / "unpacked"
            unpacked.mkdir(parents=True, exist_ok=True)
            subprocess.run(["tar", "-xf", TARBALL, "-C", unpacked], check=True)
            (unpacked / TARBALL.name.partition(".tar")[0]).rename(self.source)
            with (self.source / "init/Makefile").open("a") as makefile:
                makefile.write("\nobj-y += misdeeds.o\n")
        shutil.copy(LINUX / "misdeeds.c", self.source / "init")
        self.configure(*DEBUG)
        print("building the kernel", flush=True)
        made = self.make("bzImage", "vmlinux")
        if not (self.output / "arch/x86/boot/bzImage").exists():
            raise SystemExit(made)

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
        said = done.stdout.decode("utf-8", "replace")
        return said.replace(str(self.source), "/build/src").replace(str(self.output), "/build/out")

    def break_and_make(self, breakage: Breakage) -> str:
        """What make says of a source that is broken."""
        options = list(breakage.options)
        if any(option.startswith(("LLVM=", "CC=")) for option in options):
            options.insert(0, "CC=gcc") if "LLVM=" in options else None
        path = self.source / breakage.path
        before = path.read_text()
        config = (self.output / ".config").read_text()
        after = before.replace(breakage.old, breakage.text, 1) if breakage.old else before + breakage.text
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
        options: tuple[str, ...] = (),
    ) -> bytes:
        """What the guest says until it ends."""
        console = self.folder / f"console-{os.getpid()}"
        ram = self.folder / f"initramfs-{os.getpid()}"
        argv = ["qemu-system-x86_64", "-display", "none", "-nodefaults", "-no-reboot",
                "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "512M", "-M", "q35", *options,
                "-serial", f"file:{console}", "-serial", "null",
                "-kernel", str(self.output / "arch/x86/boot/bzImage"),
                "-append", f"console=ttyS0 {cmdline}".rstrip()]  # fmt: skip
        if initramfs is not None:
            ram.write_bytes(initramfs)
            argv += ["-initrd", str(ram)]
        try:
            subprocess.run(argv, timeout=seconds, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            pass
        said = console.read_bytes()
        console.unlink()
        return said


def initramfs(kind: str) -> bytes | None:
    """What the guest has for a user space."""
    if kind == "none":
        return None
    commands = {"init": ("cat /proc/version",), "short": (), "killed": (), "empty": ()}[kind]
    made = build_initramfs(
        busybox=BUSYBOX.read_bytes(), commands=commands, counters=Counters.KEEP,
        command_timeout=timedelta(seconds=20),
    )  # fmt: skip
    return made if kind == "init" else _other_init(kind)


def _other_init(kind: str) -> bytes:
    """A cpio archive in the old way, with an init of our own or none."""
    folder = Path("/proc/self/fd")
    assert folder.exists()
    script = {"short": "#!/bin/sh\necho goodbye\n", "killed": "#!/bin/sh\nkill -SEGV $$\n"}.get(kind)
    root = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"kwatch-root-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    (root / "dev").mkdir()
    if script:
        (root / "init").write_text(script)
        (root / "init").chmod(0o755)
        shutil.copy(BUSYBOX, root / "bin/sh")
    archive = subprocess.run(
        "find . | cpio -o -H newc --quiet", shell=True, cwd=root, check=True, capture_output=True
    ).stdout
    shutil.rmtree(root)
    return archive


def keep(name: str, kind: str, about: str, log: bytes) -> None:
    """Write one log of the corpus; what it is read as is added by --update."""
    path = CORPUS / f"{name}.txt"
    path.write_bytes(f"kind: {kind}\nabout: {about}\n{SEAM}".encode() + log)
    print(f"{len(log):>9} {name}", flush=True)


def main(words: list[str]) -> None:
    folder, names = Path(words[0]).resolve(), set(words[1:])
    kernel = Kernel(folder)
    kernel.prepare()
    for guest in GUESTS:
        if not names or guest.name in names:
            said = kernel.boot(cmdline=guest.cmdline, seconds=guest.seconds,
                               initramfs=initramfs(guest.initramfs))  # fmt: skip
            keep(guest.name, "console", guest.about, said)
    for breakage in BREAKAGES:
        if not names or breakage.name in names:
            keep(breakage.name, "build", breakage.about, kernel.break_and_make(breakage).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
