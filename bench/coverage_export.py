# SPDX-License-Identifier: GPL-2.0-or-later
"""Claim: a coverage export of any size is read in bounded memory.

Writes a synthetic full export of the size of a large kernel's (segments, branches, MC/DC records
and functions included), reads it with kwatch and with json.load, each in a process of its own,
and prints time and peak memory side by side.

Usage: python bench/coverage_export.py [MEGABYTES]
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kwatch.adapters.llvm import read_export
from kwatch.domain.coverage.figures import Roots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1 << 20
LIMIT_MIB = 100
ROOTS = Roots(source="/build/src", output="/build/out")


def summary(chance: random.Random) -> dict[str, dict[str, float]]:
    figures = {}
    for name in ("branches", "functions", "instantiations", "lines", "mcdc", "regions"):
        count = chance.randrange(1, 900)
        covered = chance.randrange(count + 1)
        figures[name] = {"count": count, "covered": covered, "percent": 100 * covered / count}
    return figures


def source_file(number: int, chance: random.Random) -> dict[str, object]:
    lines = range(chance.randrange(50, 1500))
    vector = {"conditions": [True, None], "executed": True, "result": True}
    return {
        "branches": [[line, 3, line, 9, line * 7, 0, 0, 0, 4] for line in lines[::3]],
        "expansions": [],
        "filename": f"/build/src/drivers/d{number % 97}/file{number}.c",
        "mcdc_records": [
            [line, 6, line, 12, 1, 2, 0, 0, 5, [True, False], [vector, vector]]
            for line in lines[::40]
        ],
        "segments": [[line, 2, line * 11, True, True, False] for line in lines],
        "summary": summary(chance),
    }


def function(number: int, chance: random.Random) -> dict[str, object]:
    regions = range(chance.randrange(1, 40))
    return {
        "branches": [],
        "count": number,
        "filenames": [f"/build/src/drivers/d{number % 97}/file{number}.c"],
        "mcdc_records": [],
        "name": f"file{number}.c:function_{number}",
        "regions": [[line, 1, line, 2, 3, 0, 0, 0] for line in regions],
    }


def write_export(path: Path, size: int) -> None:
    """Three quarters files, one quarter functions, as in an export of a kernel."""
    chance = random.Random(1)  # noqa: S311 - figures, not secrets
    with path.open("w") as out:
        out.write('{"data":[{"files":[')
        for part, end, make in (
            ("", size * 3 // 4, source_file),
            ('],"functions":[', size, function),
        ):
            out.write(part)
            number = 0
            while out.tell() < end:
                out.write("," if number else "")
                out.write(json.dumps(make(number, chance), separators=(",", ":")))
                number += 1
        out.write(f'],"totals":{json.dumps(summary(chance))}}}],')
        out.write('"type":"llvm.coverage.json.export","version":"3.1.0"}')


async def chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as export:
        while chunk := export.read(64 << 10):
            yield chunk


def read(reader: str, path: Path) -> int:
    if reader == "json.load":
        with path.open() as export:
            return len(json.load(export)["data"][0]["files"])
    return len(asyncio.run(read_export(chunks(path), ROOTS)).files)


def measure(reader: str, path: Path) -> None:
    """In the child: what it found, how long it took, and the peak of its memory."""
    started = time.perf_counter()
    files = read(reader, path)
    took = time.perf_counter() - started
    # Not ru_maxrss, which a child inherits from its parent.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"files": files, "seconds": took, "mib": int(peak[1]) / 1024}))


def main(megabytes: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.json"
        write_export(path, megabytes * MIB)
        print(f"export of {path.stat().st_size / MIB:.0f} MiB")
        answers = {}
        for reader in ("kwatch", "json.load"):
            child = [sys.executable, __file__, "--measure", reader, str(path)]
            answers[reader] = json.loads(
                subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout
            )
            print(
                "{:10} {files} files  {seconds:6.2f} s  {mib:7.1f} MiB".format(
                    reader, **answers[reader]
                )
            )
    assert answers["kwatch"]["files"] == answers["json.load"]["files"]
    bounded = answers["kwatch"]["mib"] < LIMIT_MIB
    print(f"kwatch stays below {LIMIT_MIB} MiB: {'yes' if bounded else 'NO'}")
    return 0 if bounded else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 200))
