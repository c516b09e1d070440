# SPDX-License-Identifier: GPL-2.0-or-later
"""One tag through kwatch, beside the same commands by hand, in one run.

    make bench                  or    python -m bench.one_tag --directory /var/tmp/kwatch-bench

Claim: kwatch needs at most 1.10 times as long as a person who types git, make, qemu and llvm-cov
without ever pausing. Both know the tree already, from an earlier tag; both start when a new tag is
published, with an empty compiler cache and an empty build folder; both fetch it, apply the series,
configure, build, boot under software emulation, and read the coverage.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import shutil
import sqlite3
import subprocess
import time
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from kwatch.adapters.guest.initramfs import build_initramfs
from kwatch.domain.boot.channel import BlobChunk, ChannelReader
from kwatch.domain.recipe.arch import X86_64
from kwatch.domain.recipe.boot import Counters
from kwatch.domain.recipe.kconfig import Fragment, merge
from tests.lab import demo
from tests.lab.linux.history import make_tree, publish
from tests.lab.linux.topics import Tag
from tests.lab.linuxkernel import KERNEL, TARBALL
from tests.lab.story import Chapter, tell

LIMIT = 1.10
LLVM = "-22"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/kwatch-bench"))  # noqa: S108
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    tree = directory / "tree.git"
    make_tree(tree, TARBALL, progress=print)
    by_kwatch = asyncio.run(_kwatch(directory, tree))
    by_hand = _hand(directory / "hand", directory / "git" / "linux-next.git")
    total = sum(by_hand.values())
    print(f"{'by hand':<12} {total:7.1f} s   {_line(by_hand)}")
    print(f"{'by kwatch':<12} {by_kwatch[0]:7.1f} s   {_line(by_kwatch[1])}")
    print(f"{'ratio':<12} {by_kwatch[0] / total:7.2f}     (at most {LIMIT:.2f} is claimed)")


def _line(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())


async def _kwatch(directory: Path, tree: Path) -> tuple[float, dict[str, float]]:
    """Seconds from the published tag to its collected coverage, and by stage."""
    async with demo.linux_box(directory) as box:

        def reveal(tag: str) -> None:
            # Only the tree is known from the first tag; nothing that was compiled is kept.
            if Tag(tag) is Tag.REPAIRED:
                for left in [directory / "host" / "ccache", *directory.glob("host/slots/*/out-*")]:
                    shutil.rmtree(left, ignore_errors=True)
            publish(tree, box.public, Tag(tag))

        outcome = await tell(
            box,
            [Chapter(tag=Tag.GOOD, reports=0), Chapter(tag=Tag.REPAIRED, reports=0)],
            publish=reveal,
        )
        stages = {
            row["kind"]: row["took"]
            for row in box.query(
                "SELECT kind, ended_at - started_at AS took FROM job WHERE state = 'done'"
                " AND kind IN ('watch', 'checkout', 'build', 'boot', 'collect')"
                " AND started_at > (SELECT max(seen_at) FROM revision) - 5"
                " GROUP BY kind HAVING max(ended_at - started_at) ORDER BY id"
            )
        }
        await box.stop()
    return outcome.took[Tag.REPAIRED], stages


def _timed(command: str, output: Path) -> float:
    """Seconds for one command of a shell."""
    started = time.monotonic()
    with output.open("ab") as log:
        subprocess.run(["sh", "-ec", command], check=True, stdout=log, stderr=log)
    return time.monotonic() - started


def _hand(folder: Path, public: Path) -> dict[str, float]:
    """Seconds for each command, the same ones that kwatch runs."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ccache").mkdir(parents=True)
    source, out = folder / "src", folder / "out"
    parts: defaultdict[str, float] = defaultdict(float)

    def step(name: str, command: str) -> None:
        parts[name] += _timed(command, folder / "log")

    old, tag = Tag.GOOD.value, Tag.REPAIRED.value
    fetch = f"git -C {source} -c fetch.fsckObjects=true fetch -q file://{public} tag"
    step("earlier", f"git init -q {source} && {fetch} {old} && git -C {source} checkout -q {old}")
    del parts["earlier"]
    step("fetch", f"{fetch} {tag}")
    step("checkout", f"git -C {source} checkout -q {tag}")
    patches = " ".join(shlex.quote(str(path)) for path in KERNEL.series[1:])
    identity = "-c user.name=hand -c user.email=hand@example.org"
    step("am", f"git -C {source} {identity} am -q -3 {patches}")
    make = (f"CCACHE_DIR={folder}/ccache CCACHE_DEPEND=true make -C {source} O={out} LLVM={LLVM}"
            f" CC='ccache clang{LLVM}' LOCALVERSION= -j2")  # fmt: skip
    step("config", f"{make} tinyconfig")
    config = out / ".config"
    config.write_text(merge(config.read_text(), [Fragment(name="lab", text=KERNEL.fragment)]))
    step("config", f"{make} olddefconfig")
    step("make", f"{make} bzImage vmlinux")
    initramfs = folder / "initramfs"
    initramfs.write_bytes(
        build_initramfs(
            arch=X86_64,
            busybox=Path("/bin/busybox").read_bytes(),
            commands=KERNEL.commands,
            counters=Counters.KEEP,
            command_timeout=timedelta(minutes=5),
        )
    )
    step("qemu", "timeout 300 qemu-system-x86_64 -display none -nodefaults -M q35 -accel tcg"
                 f" -cpu max -m 512M -no-reboot -serial file:{folder}/console"
                 f" -serial file:{folder}/channel"
                 f" -kernel {out}/arch/x86/boot/bzImage -initrd {initramfs}"
                 " -append 'console=ttyS0 earlycon=uart8250,io,0x3f8 panic=-1'")  # fmt: skip
    events = ChannelReader().feed((folder / "channel").read_bytes())
    profile = b"".join(event.data for event in events if isinstance(event, BlobChunk))
    (folder / "profraw").write_bytes(profile)
    step("llvm", f"llvm-profdata{LLVM} merge -o {folder}/profdata {folder}/profraw &&"
                 f" llvm-cov{LLVM} export --summary-only -instr-profile {folder}/profdata"
                 f" {out}/vmlinux >{folder}/coverage.json")  # fmt: skip
    return parts


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, sqlite3.Error):
        main()
