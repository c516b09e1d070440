# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of files, and where the files are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

ROOTS = Roots(source="/build/src", output="/build/out")
EMPTY = Count(covered=0, total=0)


def count(covered: int, total: int) -> Count:
    return Count(covered=covered, total=total)


def file(path: str, lines: Count, mcdc: Count = EMPTY) -> FileCoverage:
    return FileCoverage(
        path=path, origin=Origin.SOURCE, lines=lines, functions=EMPTY, branches=EMPTY, mcdc=mcdc
    )


def coverage(*files: FileCoverage) -> Coverage:
    def total(metric: Metric) -> Count:
        return sum((count_of(each, metric) for each in files), start=EMPTY)

    return collected(
        files,
        Totals(
            lines=total(Metric.LINES),
            functions=total(Metric.FUNCTIONS),
            branches=total(Metric.BRANCHES),
            mcdc=total(Metric.MCDC),
        ),
    )


def test_percent_of_nothing_is_no_figure() -> None:
    assert count(1, 4).percent == 25.0
    assert EMPTY.percent is None


@pytest.mark.parametrize(("covered", "total"), [(2, 1), (-1, 1), (0, -1)])
def test_impossible_counts_are_refused(covered: int, total: int) -> None:
    with pytest.raises(ValueError, match="cannot be covered"):
        count(covered, total)


@pytest.mark.parametrize(
    ("path", "origin", "place"),
    [
        ("/build/src/kernel/fork.c", Origin.SOURCE, "kernel/fork.c"),
        ("/build/out/../src/./kernel/fork.c", Origin.SOURCE, "kernel/fork.c"),
        ("/build/out/include/generated/bounds.h", Origin.GENERATED, "include/generated/bounds.h"),
        ("/usr/lib/llvm/include/stdint.h", Origin.FOREIGN, "/usr/lib/llvm/include/stdint.h"),
        ("/build/src-old/kernel/fork.c", Origin.FOREIGN, "/build/src-old/kernel/fork.c"),
        ("/build/src/../../etc/passwd", Origin.FOREIGN, "/etc/passwd"),
        ("kernel/fork.c", Origin.FOREIGN, "kernel/fork.c"),
        ("", Origin.FOREIGN, "."),
    ],
)
def test_paths_are_placed_below_their_root(path: str, origin: Origin, place: str) -> None:
    assert ROOTS.place(path) == (origin, place)


def test_an_output_folder_inside_the_source_is_not_source() -> None:
    roots = Roots(source="/build/src/", output="/build/src/out/")
    assert roots.place("/build/src/out/x.c") == (Origin.GENERATED, "x.c")
    assert roots.place("/build/src/x.c") == (Origin.SOURCE, "x.c")


@given(st.text(max_size=50))
def test_no_path_escapes_its_root(path: str) -> None:
    origin, place = ROOTS.place("/build/src/" + path)
    if origin is not Origin.FOREIGN:
        assert not place.startswith(("/", "../"))


def test_a_file_under_two_spellings_is_added_up() -> None:
    both = coverage(file("a.h", count(1, 2)), file("a.h", count(3, 4)))
    assert both.files == (file("a.h", count(4, 6)),)
