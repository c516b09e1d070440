# SPDX-License-Identifier: GPL-2.0-or-later
"""Claim: the event loop turns while the coverage of a large kernel is read.

Writes the summary export of a kernel of 30,000 source files and reads it twice: with kwatch (a
child process), and with json.loads plus the same checks in the loop itself. A heartbeat measures
the longest time for which the loop did not turn. Memory is the peak of daemon and child.

Usage: python bench/coverage_export.py [FILES]
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kwatch.adapters.coverage_export import parse_export, read_export
from kwatch.domain.coverage.figures import Roots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kwatch.domain.coverage.figures import Coverage

MIB = 1 << 20
LIMIT = 0.050
BEAT = 0.002
ROOTS = Roots(source="/build/src", output="/build/out")


def summary(chance: random.Random) -> dict[str, dict[str, float]]:
    figures = {}
    for name in ("branches", "functions", "instantiations", "lines", "mcdc", "regions"):
        count = chance.randrange(1, 900)
        covered = chance.randrange(count + 1)
        figures[name] = {"count": count, "covered": covered, "percent": 100 * covered / count}
    return figures


def write_export(path: Path, files: int) -> None:
    """The summary export of ``files`` source files."""
    chance = random.Random(1)  # noqa: S311 - figures, not secrets
    entries = [
        {
            "filename": f"/build/src/drivers/d{number % 97}/file{number}.c",
            "summary": summary(chance),
        }
        for number in range(files)
    ]
    data = [{"files": entries, "totals": summary(chance)}]
    path.write_text(
        json.dumps({"data": data, "type": "llvm.coverage.json.export", "version": "3.1.0"})
    )


async def in_the_loop(path: Path) -> Coverage:
    return parse_export(path.read_bytes(), ROOTS)


async def in_a_child(path: Path) -> Coverage:
    return await read_export(path, ROOTS)


READERS: dict[str, Callable[[Path], Awaitable[Coverage]]] = {
    "kwatch": in_a_child,
    "in the loop": in_the_loop,
}


async def lagging(reader: Callable[[Path], Awaitable[Coverage]], path: Path) -> tuple[int, float]:
    """Files read, and the longest lag of the loop in seconds."""
    lag = 0.0

    async def beat() -> None:
        nonlocal lag
        while True:
            slept = time.perf_counter()
            await asyncio.sleep(BEAT)
            lag = max(lag, time.perf_counter() - slept - BEAT)

    async with asyncio.TaskGroup() as group:
        heart = group.create_task(beat())
        await asyncio.sleep(10 * BEAT)
        coverage = await reader(path)
        await asyncio.sleep(10 * BEAT)
        heart.cancel()
    return len(coverage.files), lag


def measure(reader: str, path: Path) -> None:
    """In a process of its own: what it found, how long it took, lag and peak memory."""
    started = time.perf_counter()
    files, lag = asyncio.run(lagging(READERS[reader], path))
    took = time.perf_counter() - started
    # Not ru_maxrss, which a process inherits from its parent.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(
        json.dumps(
            {
                "files": files,
                "seconds": took,
                "lag": lag,
                "mib": int(peak[1]) / 1024,
                "child": child / 1024,
            }
        )
    )


def main(files: int) -> int:
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.json"
        write_export(path, files)
        print(f"export of {files} files, {path.stat().st_size / MIB:.0f} MiB")
        for reader in READERS:
            child = [sys.executable, __file__, "--measure", reader, str(path)]
            answers[reader] = json.loads(
                subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout
            )
            print(
                f"{reader:12}"
                " {seconds:6.2f} s  longest lag {lag:6.3f} s  daemon {mib:6.1f} MiB"
                "  child {child:6.1f} MiB".format(**answers[reader])
            )
    assert all(answer["files"] == files for answer in answers.values())
    within = answers["kwatch"]["lag"] < LIMIT
    print(f"the loop never stands still for {LIMIT * 1000:.0f} ms: {'yes' if within else 'NO'}")
    return 0 if within else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 30_000))
