# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast a profile comes out of a guest: over virtio-serial, and over the second serial line.

    python -m bench.channel

Boots an arm64 kernel that has both drivers, once without that of virtio, and the x86_64 kernel of
tests/long/test_misdeeds.py, which never had it; both are built at first. All run under software
emulation, and send a blob of random bytes in place of a profile.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.guest import qemu
from kwatch.adapters.guest.initramfs import build_initramfs
from kwatch.domain.boot.channel import BlobDone, ChannelReader
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import Accelerator, Counters
from tests.corpus.grow import PLAIN_CONFIG, Kernel
from tests.long import arm64kernel
from tests.long.bootbench import BUSYBOX, PROFILE

if TYPE_CHECKING:
    from kwatch.domain.boot.care import BootProfile

FOLDER = Path("/var/tmp/kwatch-misdeeds")  # noqa: S108 - kept on purpose
MIB = 1 << 20
SIZE = 8 * MIB
# What the guest hands out is found where the kernel has its profile.
PLANT = (
    "mount -t tmpfs tmpfs /sys/kernel/debug && mkdir /sys/kernel/debug/llvm-cov && dd"
    f" if=/dev/urandom of=/sys/kernel/debug/llvm-cov/profraw bs={MIB} count={SIZE // MIB}"
)
LONGEST = 900.0
NO_VIRTIO = "initcall_blacklist=virtio_console_init"


def send(profile: BootProfile, kernel: Path) -> tuple[str, float]:
    """Which file of the run the blob came in, and the bytes a second."""
    arch = ARCHES[profile.recipe.arch]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        initramfs = folder / "initramfs"
        initramfs.write_bytes(
            build_initramfs(
                arch=arch,
                busybox=BUSYBOX[arch.name].read_bytes(),
                commands=[PLANT],
                counters=Counters.KEEP,
                command_timeout=timedelta(minutes=5),
            )
        )
        argv = qemu.command(profile, Accelerator.TCG, kernel=str(kernel), initramfs=str(initramfs))
        with subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL) as process:
            try:
                return _timed([folder / qemu.CHANNEL, folder / qemu.SERIAL])
            finally:
                process.kill()


def _timed(files: list[Path]) -> tuple[str, float]:
    """Follow the files until one has the blob; what it said before is not counted."""
    began, first, deadline = 0.0, 0, time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        time.sleep(0.005)
        sizes = {file: file.stat().st_size for file in files if file.exists()}
        size = max(sizes.values(), default=0)
        if not first and size > MIB // 16:
            began, first = time.monotonic(), size
        if size > SIZE:
            took = time.monotonic() - began
            file = max(sizes, key=sizes.__getitem__)
            _check(file)
            return file.name, (size - first) / took
    raise SystemExit(f"no blob came within {LONGEST:g} s")


def _check(file: Path) -> None:
    """The blob is whole."""
    events = ChannelReader(max_blob=2 * SIZE).feed(file.read_bytes())
    done = [event for event in events if isinstance(event, BlobDone)]
    assert [event.integrity.name for event in done] == ["INTACT"], done


def main() -> None:
    """Print a line for each channel."""
    arm64kernel.prepare()
    plain = Kernel(FOLDER, [PLAIN_CONFIG])
    plain.prepare()
    cases = (
        ("arm64, virtio-serial", arm64kernel.profile(), arm64kernel.IMAGE),
        ("arm64, its driver left out", arm64kernel.profile(cmdline=NO_VIRTIO), arm64kernel.IMAGE),
        ("x86_64, no driver", PROFILE, plain.image),
    )
    print(f"{'guest':<28} {'came in':>8} {'MB/s':>8}")
    for name, profile, kernel in cases:
        file, speed = send(profile, kernel)
        print(f"{name:<28} {file:>8} {speed / 1e6:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
