# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage of one boot: the figures of its files, and of the whole kernel."""

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
