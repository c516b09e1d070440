# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the JSON of ``llvm-cov export`` in a child process.

The file is made from the profile of a guest and from an image built of mailed patches. The child
(``python -m kwatch.adapters.coverage_export FILE SOURCE OUTPUT``) prints READY, then a JSON array
a line: the totals, one line for each file, and an empty array as the end mark.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters import confined
from kwatch.domain.coverage.figures import (
    Count,
    Coverage,
    FileCoverage,
    Metric,
    Origin,
    Roots,
    Totals,
    collected,
    count_of,
)
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPORT_TYPE = "llvm.coverage.json.export"
EXPORT_MAJOR = "3"

# The largest kernels have some 60,000 source files.
MAX_FILES = 200_000

MIB = 1 << 20
LIMITS = confined.Limits(memory=2048 * MIB, output=64 * MIB, cpu=120, timeout=600.0)
BROKEN = 3


async def read_export(export: Path, roots: Roots) -> Coverage:
    """The figures of an ``llvm-cov export`` file, summary or full.

    InfraError for anything that llvm-cov would not have written to its end, for another major
    version than 3, and for an export that exceeds LIMITS.
    """
    read = await confined.run_module(
        __name__, str(export), roots.source, roots.output, limits=LIMITS
    )
    if read.status == BROKEN:
        raise InfraError(read.stderr.decode("utf-8", "replace").strip()[:1000])
    if read.status != 0:
        raise _broken(f"reading it ended with status {read.status}: {read.stderr[-500:]!r}")
    return await asyncio.to_thread(_received, read.stdout)


def _received(output: bytes) -> Coverage:
    """The coverage that a child printed."""
    # Line by line: one large json.loads would not let the event loop run in between.
    lines = (json.loads(line) for line in io.BytesIO(output))
    try:
        in_lines, functions, branches, mcdc = _pairs(next(lines))
        totals = Totals(lines=in_lines, functions=functions, branches=branches, mcdc=mcdc)
        files = []
        while line := next(lines):
            origin, path, *figures = line
            in_lines, functions, branches, mcdc = _pairs(figures)
            files.append(
                FileCoverage(
                    path=path,
                    origin=Origin(origin),
                    lines=in_lines,
                    functions=functions,
                    branches=branches,
                    mcdc=mcdc,
                )
            )
    except (ValueError, TypeError, StopIteration) as error:
        raise _broken(f"its reader printed no figures ({error})") from error
    return Coverage(files=tuple(files), totals=totals)


def _pairs(figures: list[int]) -> Iterator[Count]:
    return (
        Count(covered=covered, total=total)
        for covered, total in zip(figures[::2], figures[1::2], strict=True)
    )


# --- in the child ---------------------------------------------------------------------------------


def parse_export(text: bytes, roots: Roots) -> Coverage:
    """The figures of an export. InfraError as with :func:`read_export`."""
    try:
        document = json.loads(text)
    except MemoryError:
        raise _broken(f"reading it takes more than {LIMITS.memory // MIB} MiB") from None
    except (ValueError, RecursionError) as error:
        raise _broken(f"it is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise _broken("it is no object")
    kind, version = document.get("type"), document.get("version")
    if kind != EXPORT_TYPE:
        raise _broken(f"its type is {kind!r:.100}, not {EXPORT_TYPE}")
    if not isinstance(version, str) or version.split(".")[0] != EXPORT_MAJOR:
        raise InfraError(
            f"llvm-cov export wrote format version {version!r:.100}, kwatch reads version "
            f"{EXPORT_MAJOR}.x: configure a toolchain whose llvm-cov writes that"
        )
    match document.get("data"):
        case [{"files": list(files), "totals": totals}]:
            pass
        case [] | [_]:
            raise _broken("it has no files or no totals")
        case _:
            raise _broken("it does not hold one set of data")
    if len(files) > MAX_FILES:
        raise _broken(f"it names more than {MAX_FILES} files")
    counts = _counts(totals, "the totals")
    return collected(
        (_file(entry, roots) for entry in files),
        Totals(
            lines=counts[Metric.LINES],
            functions=counts[Metric.FUNCTIONS],
            branches=counts[Metric.BRANCHES],
            mcdc=counts[Metric.MCDC],
        ),
    )


def _file(entry: object, roots: Roots) -> FileCoverage:
    path = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(path, str):
        raise _broken("a file has no name")
    # A name that is not UTF-8 would be refused by everything that it is later written to.
    origin, place = roots.place(path.encode("utf-8", "replace").decode())
    counts = _counts(entry.get("summary"), path)
    return FileCoverage(
        path=place,
        origin=origin,
        lines=counts[Metric.LINES],
        functions=counts[Metric.FUNCTIONS],
        branches=counts[Metric.BRANCHES],
        mcdc=counts[Metric.MCDC],
    )


def _counts(summary: object, owner: str) -> dict[Metric, Count]:
    if not isinstance(summary, dict):
        raise _broken(f"{owner[:200]!r} has no summary")
    return {metric: _count(summary.get(metric.value), metric, owner) for metric in Metric}


def _count(figures: object, metric: Metric, owner: str) -> Count:
    if isinstance(figures, dict):
        covered, total = figures.get("covered"), figures.get("count")
        # SQLite, and every reader of what we publish, ends at 63 bits.
        if type(covered) is int and type(total) is int and 0 <= covered <= total < 1 << 63:
            return Count(covered=covered, total=total)
    raise _broken(f"{owner[:200]!r} has no figures that can be true for {metric.value}")


def _broken(reason: str) -> InfraError:
    return InfraError(
        f"llvm-cov export did not write what it should: {reason}; look whether it was killed "
        "for want of memory or room, its own messages are in the log of this step"
    )


def _print(coverage: Coverage) -> None:
    sys.stdout.write(json.dumps(_numbers(coverage.totals)) + "\n")
    for file in coverage.files:
        sys.stdout.write(json.dumps([file.origin.value, file.path, *_numbers(file)]) + "\n")
    sys.stdout.write("[]\n")


def _numbers(figures: Totals | FileCoverage) -> list[int]:
    counts = [count_of(figures, metric) for metric in Metric]
    return [number for count in counts for number in (count.covered, count.total)]


def main(export: str, source: str, output: str) -> int:
    """Print the figures of an export; BROKEN with the reason on standard error if it is none."""
    sys.stdout.write(confined.READY.decode())
    sys.stdout.flush()
    try:
        _print(parse_export(Path(export).read_bytes(), Roots(source=source, output=output)))
    except InfraError as error:
        sys.stderr.write(str(error).encode("utf-8", "replace").decode())
        return BROKEN
    except MemoryError:
        return BROKEN + 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
