# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage of one boot, and what changed between two of them.

Two boots of the same image do not reach exactly the same lines: interrupts and memory pressure
decide whether a slow path runs. The comparison therefore asks for more than a handful of items
before it calls something a fall.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Iterable


class Metric(StrEnum):
    """What is counted. MC/DC counts conditions shown to decide an outcome on their own."""

    LINES = "lines"
    FUNCTIONS = "functions"
    BRANCHES = "branches"
    MCDC = "mcdc"


class Origin(StrEnum):
    """Where a file lives: in the kernel source, in the build output, or on the build host."""

    SOURCE = "source"
    GENERATED = "generated"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many items of ``total`` were covered; ``0 <= covered <= total``."""

    covered: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.covered <= self.total:
            raise ValueError(f"{self.covered} of {self.total} items cannot be covered")

    @property
    def percent(self) -> float | None:
        """0.0 to 100.0, or None where there is nothing to cover."""
        return 100 * self.covered / self.total if self.total else None

    def __add__(self, other: Count) -> Count:
        return Count(covered=self.covered + other.covered, total=self.total + other.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The four figures of a whole kernel."""

    lines: Count
    functions: Count
    branches: Count
    mcdc: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCoverage:
    """The four figures of one file; ``path`` is relative to its root unless it is FOREIGN."""

    path: str
    origin: Origin
    lines: Count
    functions: Count
    branches: Count
    mcdc: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The coverage of one boot; ``files`` are sorted, and no (origin, path) occurs twice."""

    files: tuple[FileCoverage, ...]
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The absolute folders that a build ran in: the kernel source and its O= output."""

    source: str
    output: str

    def place(self, path: str) -> tuple[Origin, str]:
        """Where ``path`` of a coverage map lives, and its name there.

        Paths are compared by name only, with ``.`` and ``..`` resolved: nothing is looked up,
        for the paths come from another host.
        """
        clean = posixpath.normpath(path)
        # The output folder may lie inside the source tree, so the deeper root is asked first.
        places = sorted(
            ((Origin.SOURCE, self.source), (Origin.GENERATED, self.output)),
            key=lambda place: -len(place[1]),
        )
        for origin, root in places:
            prefix = posixpath.normpath(root).rstrip("/") + "/"
            if clean.startswith(prefix):
                return origin, clean.removeprefix(prefix)
        return Origin.FOREIGN, clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How many items may be missing without meaning anything, in one file and in a kernel.

    The default leaves room above what was measured on two boots of one image (one line and one
    branch of the totals, in three files).
    """

    file: int = 3
    total: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure before and after."""

    before: Count
    after: Count

    @property
    def points(self) -> float | None:
        """Percentage points gained (or lost, below zero); None where one side is empty."""
        before, after = self.before.percent, self.after.percent
        return None if before is None or after is None else after - before

    @property
    def shortfall(self) -> int:
        """How many more items would be covered now, had the rate stayed; never below 0.

        It stays 0 when covered code merely went away, and grows when new code comes without
        tests as well as when old tests stop reaching code.
        """
        if not self.before.total:
            return 0
        expected = self.before.covered * self.after.total // self.before.total
        return max(0, expected - self.after.covered)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """The four figures of a file that is on both sides."""

    path: str
    origin: Origin
    lines: Change
    functions: Change
    branches: Change
    mcdc: Change

    @property
    def shortfall(self) -> int:
        """The largest shortfall of the four figures."""
        return max(change_of(self, metric).shortfall for metric in Metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageChange:
    """What changed between two boots.

    ``fell`` holds the files whose shortfall exceeds the noise, the worst first; ``fell_totals``
    the figures of the whole kernel that did. ``lost`` and ``gained`` are files on one side only.
    """

    lines: Change
    functions: Change
    branches: Change
    mcdc: Change
    fell_totals: tuple[Metric, ...]
    fell: tuple[FileChange, ...]
    lost: tuple[FileCoverage, ...]
    gained: tuple[FileCoverage, ...]


def count_of(figures: Totals | FileCoverage, metric: Metric) -> Count:
    """One figure by its name."""
    match metric:
        case Metric.LINES:
            return figures.lines
        case Metric.FUNCTIONS:
            return figures.functions
        case Metric.BRANCHES:
            return figures.branches
        case Metric.MCDC:
            return figures.mcdc
        case _:
            assert_never(metric)


def change_of(change: CoverageChange | FileChange, metric: Metric) -> Change:
    """One change by its name."""
    match metric:
        case Metric.LINES:
            return change.lines
        case Metric.FUNCTIONS:
            return change.functions
        case Metric.BRANCHES:
            return change.branches
        case Metric.MCDC:
            return change.mcdc
        case _:
            assert_never(metric)


def collected(files: Iterable[FileCoverage], totals: Totals) -> Coverage:
    """Files in their order; figures of one file that came under two spellings are added up."""
    by_place: dict[tuple[Origin, str], FileCoverage] = {}
    for file in files:
        place = (file.origin, file.path)
        known = by_place.get(place)
        by_place[place] = file if known is None else _added(known, file)
    return Coverage(files=tuple(by_place[place] for place in sorted(by_place)), totals=totals)


def _added(one: FileCoverage, other: FileCoverage) -> FileCoverage:
    return FileCoverage(
        path=one.path,
        origin=one.origin,
        lines=one.lines + other.lines,
        functions=one.functions + other.functions,
        branches=one.branches + other.branches,
        mcdc=one.mcdc + other.mcdc,
    )


def compare(before: Coverage, after: Coverage, noise: Noise | None = None) -> CoverageChange:
    """What changed from ``before`` to ``after``; a fall within ``noise`` is not reported as one."""
    noise = noise or Noise()
    old = {(file.origin, file.path): file for file in before.files}
    new = {(file.origin, file.path): file for file in after.files}
    common = [_file_change(old[place], new[place]) for place in sorted(old.keys() & new.keys())]
    fell = [change for change in common if change.shortfall > noise.file]
    totals = {
        metric: Change(before=count_of(before.totals, metric), after=count_of(after.totals, metric))
        for metric in Metric
    }
    return CoverageChange(
        lines=totals[Metric.LINES],
        functions=totals[Metric.FUNCTIONS],
        branches=totals[Metric.BRANCHES],
        mcdc=totals[Metric.MCDC],
        fell_totals=tuple(name for name in Metric if totals[name].shortfall > noise.total),
        fell=tuple(sorted(fell, key=lambda change: (-change.shortfall, change.path))),
        lost=tuple(old[place] for place in sorted(old.keys() - new.keys())),
        gained=tuple(new[place] for place in sorted(new.keys() - old.keys())),
    )


def _file_change(before: FileCoverage, after: FileCoverage) -> FileChange:
    return FileChange(
        path=after.path,
        origin=after.origin,
        lines=Change(before=before.lines, after=after.lines),
        functions=Change(before=before.functions, after=after.functions),
        branches=Change(before=before.branches, after=after.branches),
        mcdc=Change(before=before.mcdc, after=after.mcdc),
    )
