# SPDX-License-Identifier: GPL-2.0-or-later
"""The audit of a large instrumented image, beside ``llvm-objdump -d`` of all of it, in one run.

    python -m bench.link_audit [VMLINUX]

Claim: an image of 370 MB is audited in 10 s and 512 MB of memory, whole or with a lost counter. A
vmlinux.o beside VMLINUX is given to the audit as the earlier stage, as after a build. Without
VMLINUX one is made and kept: the lab's kernel with its coverage series (five minutes on two cores),
and then six copies of it, with names of their own, linked into one (two minutes, 3 GB).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.linuxkernel import KERNEL, LINUX, TARBALL
from tests.long.patching import lose_a_counter

FOLDER = Path("/var/tmp/kwatch-large")  # noqa: S108 - kept on purpose
COPIES = 6
FUNCTION = "start_kernel"
SECONDS, MEGABYTES = 10, 512
MB = 1_000_000
LINK = ("ld.lld-22", "-m", "elf_x86_64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vmlinux", type=Path, nargs="?")
    image: Path = (parser.parse_args().vmlinux or _large(FOLDER)).absolute()
    earlier = [path for path in (image.with_name("vmlinux.o"),) if path.exists()]
    audit = [sys.executable, "-m", "kwatch.remote.linkaudit", *map(str, earlier)]
    with tempfile.TemporaryDirectory(dir=image.parent, prefix="bench-") as folder:
        lost = Path(folder) / "vmlinux"
        lose_a_counter(image, lost, FUNCTION)
        assert FUNCTION in subprocess.run(
            [*audit, str(lost)], check=True, stdout=subprocess.PIPE, text=True
        ).stdout  # fmt: skip
        print(f"{image}: {image.stat().st_size / MB:.0f} MB")
        for name, command in (
            ("audit, whole", [*audit, str(image)]),
            ("audit, a lost counter", [*audit, str(lost)]),
            ("llvm-objdump -d", ["llvm-objdump-22", "-d", str(image)]),
        ):
            seconds, processor, peak = _run(command)
            print(f"{name:<24} {seconds:6.1f} s, {processor:5.1f} s of a processor, {peak:5.0f} MB"
                  " peak", flush=True)  # fmt: skip
    print(f"(at most {SECONDS} s and {MEGABYTES} MB are claimed, where nothing else runs)")


def _run(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of a processor, and peak memory in MB, of one command."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed: {status}")
    # Pages of the image itself count as well, though they are not ours.
    took = time.monotonic() - started
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MB


def _large(folder: Path) -> Path:
    """An instrumented image of 370 MB, made if it is not there."""
    image = folder / "vmlinux"
    if not image.exists():
        output = folder / "out"
        _build(folder, output)
        _multiply(output / "vmlinux.o", output / "arch/x86/kernel/vmlinux.lds", folder)
    return image


def _multiply(whole: Path, script: Path, folder: Path) -> None:
    """Link a vmlinux and its vmlinux.o of several times the size from copies of ``whole``."""
    copies = [whole]
    for number in range(1, COPIES):
        copies.append(folder / f"copy-{number}.o")
        prefix = f"--prefix-symbols=copy{number}."
        _do("llvm-objcopy-22", prefix, str(whole), str(copies[-1]))
    stages = [*map(str, copies)]
    _do(*LINK, "-r", "-o", str(folder / "vmlinux.o"), "--whole-archive", *stages)
    # A copy's own parts of the script stand elsewhere, and nobody boots it.
    _do(*LINK, "--unresolved-symbols=ignore-all", "--noinhibit-exec", f"--script={script}",
        "-o", str(folder / "vmlinux.part"), "--whole-archive", *stages)  # fmt: skip
    for copy in copies[1:]:
        copy.unlink()
    (folder / "vmlinux.part").rename(folder / "vmlinux")


def _build(folder: Path, output: Path) -> None:
    """The lab's kernel with its series."""
    source = folder / "linux"
    if not source.exists():
        unpacked = folder / "unpacked"
        unpacked.mkdir(parents=True, exist_ok=True)
        _do("tar", "-xf", str(TARBALL), "-C", str(unpacked))
        fresh = unpacked / TARBALL.name.partition(".tar")[0]
        for patch in (LINUX / "opt-in.patch", *KERNEL.series[1:]):
            _do("git", "-C", str(fresh), "apply", str(patch))
        fresh.rename(source)
    make = ("make", "-s", "-C", str(source), f"O={output}", "LLVM=-22", f"-j{os.cpu_count()}")
    _do(*make, "tinyconfig")
    config = output / ".config"
    config.write_text(config.read_text() + KERNEL.fragment)
    _do(*make, "olddefconfig")
    _do(*make, "vmlinux")


def _do(*command: str) -> None:
    print(" ".join(command[:3]), flush=True)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
