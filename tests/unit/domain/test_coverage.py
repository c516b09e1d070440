# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as a fall of coverage, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.coverage.figures import (
    Change,
    Count,
    Coverage,
    FileCoverage,
    Metric,
    Noise,
    Origin,
    Roots,
    Totals,
    change_of,
    collected,
    compare,
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


counts = st.integers(0, 10_000).flatmap(
    lambda total: st.integers(0, total).map(lambda covered: count(covered, total))
)
kernels = st.lists(
    st.builds(file, st.sampled_from(["mm/slub.c", "lib/string.c", "fs/read_write.c"]), counts),
    max_size=6,
).map(lambda files: coverage(*files))


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


def test_the_noise_of_two_equal_boots_is_no_fall() -> None:
    before = coverage(file("lib/rbtree.c", count(100, 200)), file("mm/swap.c", count(50, 100)))
    after = coverage(file("lib/rbtree.c", count(99, 200)), file("mm/swap.c", count(48, 100)))
    change = compare(before, after)
    assert change.fell == ()
    assert change.fell_totals == ()
    assert change.lines == Change(before=count(150, 300), after=count(147, 300))
    assert change.lines.points == -1.0


def test_what_fell_most_comes_first() -> None:
    before = coverage(
        file("a.c", count(90, 100)), file("b.c", count(90, 100)), file("c.c", count(90, 100))
    )
    after = coverage(
        file("a.c", count(80, 100)), file("b.c", count(20, 100)), file("c.c", count(95, 100))
    )
    change = compare(before, after)
    assert [(each.path, each.shortfall) for each in change.fell] == [("b.c", 70), ("a.c", 10)]
    assert change.fell_totals == (Metric.LINES,)


def test_mcdc_alone_can_fall() -> None:
    before = coverage(file("a.c", count(90, 100), mcdc=count(20, 30)))
    after = coverage(file("a.c", count(90, 100), mcdc=count(10, 30)))
    change = compare(before, after, Noise(file=3, total=9))
    assert change.fell_totals == (Metric.MCDC,)
    assert change_of(change.fell[0], Metric.MCDC).points == pytest.approx(-100 / 3)


def test_covered_code_that_went_away_is_no_fall() -> None:
    change = compare(coverage(file("a.c", count(90, 100))), coverage(file("a.c", count(45, 50))))
    assert change.fell == ()


def test_new_code_without_tests_is_a_fall() -> None:
    change = compare(coverage(file("a.c", count(90, 100))), coverage(file("a.c", count(90, 200))))
    assert [each.shortfall for each in change.fell] == [90]


def test_files_lost_and_gained_are_named() -> None:
    old, new = file("old.c", count(1, 1)), file("new.c", count(0, 1))
    change = compare(coverage(old), coverage(new))
    assert change.lost == (old,)
    assert change.gained == (new,)
    assert change.fell == ()


@given(kernels)
def test_nothing_changes_against_itself(kernel: Coverage) -> None:
    change = compare(kernel, kernel, Noise(file=0, total=0))
    assert (change.fell, change.fell_totals, change.lost, change.gained) == ((), (), (), ())


@given(kernels, kernels)
def test_every_file_is_accounted_for(before: Coverage, after: Coverage) -> None:
    change = compare(before, after, Noise(file=-1, total=-1))
    one_side = {each.path for each in (*change.lost, *change.gained)}
    both = {each.path for each in (*before.files, *after.files)}
    assert one_side | {each.path for each in change.fell} == both
    swapped = compare(after, before)
    assert (swapped.lost, swapped.gained) == (change.gained, change.lost)
