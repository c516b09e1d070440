# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.source.commit import CommitInfo
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.grade import (
    LUCK,
    MISSED,
    MOST_SAMPLES,
    Count,
    doubts_about,
    luck,
    runs_needed,
    samples_needed,
)

COUNTS = st.integers(0, 40)


def test_nothing_tried_may_all_be_luck() -> None:
    assert luck(0, 0) == 1.0
    assert luck(1, 0) == 1.0
    assert luck(0, 7) == 1.0


def test_one_failure_and_one_pass_prove_nothing() -> None:
    assert luck(1, 1) == 0.25
    assert luck(1, 1) > LUCK


@given(COUNTS, COUNTS)
def test_luck_is_that_of_the_rate_that_explains_it_best(failing: int, passing: int) -> None:
    found = luck(failing, passing)
    assert 0.0 < found <= 1.0
    assert math.isclose(found, luck(passing, failing))
    for percent in range(1, 100):
        rate = percent / 100
        assert rate**failing * (1 - rate) ** passing <= found * (1 + 1e-9)


@given(st.integers(1, 40), st.integers(1, 40))
def test_more_evidence_leaves_less_to_luck(failing: int, passing: int) -> None:
    assert luck(failing + 1, passing) < luck(failing, passing)
    assert luck(failing, passing + 1) < luck(failing, passing)


@given(COUNTS, COUNTS)
def test_the_samples_that_are_needed_are_enough_or_all_there_are(
    failing: int, passing: int
) -> None:
    more, also = samples_needed(failing, passing)
    assert 0 <= more <= MOST_SAMPLES
    assert 0 <= also <= MOST_SAMPLES
    is_enough = luck(failing + more, passing + also) < LUCK
    assert is_enough or (more, also) == (MOST_SAMPLES, MOST_SAMPLES)
    fewer = [
        (one, other)
        for one in range(MOST_SAMPLES + 1)
        for other in range(MOST_SAMPLES + 1)
        if one + other < more + also
    ]
    assert all(luck(failing + one, passing + other) >= LUCK for one, other in fewer)


def test_a_bug_that_always_shows_is_absent_where_it_stays_away_once() -> None:
    assert runs_needed(Count()) == 1
    assert runs_needed(Count(bad=1)) == 1
    assert runs_needed(Count(bad=5)) == 1
    assert runs_needed(Count(good=5)) == 1


def test_a_bug_that_shows_one_time_in_three_stays_away_often() -> None:
    assert runs_needed(Count(bad=1, good=2)) == 8
    assert (2 / 3) ** 8 < MISSED < (2 / 3) ** 7


@given(st.integers(1, 60), st.integers(1, 60))
def test_as_many_passes_are_needed_as_make_a_miss_unlikely(bad: int, good: int) -> None:
    needed = runs_needed(Count(bad=bad, good=good))
    assert 1 <= needed <= 4 * MOST_SAMPLES
    missed = good / (bad + good)
    assert missed**needed < MISSED or needed == 4 * MOST_SAMPLES
    assert needed == 1 or missed ** (needed - 1) >= MISSED


def test_a_sample_that_says_nothing_is_not_counted() -> None:
    count = Count()
    for mark in (Mark.BAD, Mark.GOOD, Mark.UNTESTABLE, Mark.BAD):
        count = count.plus(mark)
    assert count == Count(bad=2, good=1)
    assert (count.runs, str(count)) == (3, "2/3")


def commit(*files: str, is_merge: bool = False) -> CommitInfo:
    return CommitInfo(
        commit="c" * 40,
        subject="mm: change things",
        author_name="A",
        author_address="a@example.org",
        parents=("p" * 40, "q" * 40) if is_merge else ("p" * 40,),
        files=files,
    )


@pytest.mark.parametrize(
    ("culprit", "doubts"),
    [
        (commit(), 0),
        (commit("kernel/fork.c"), 0),
        (commit("arch/x86/kernel/head.S"), 0),
        (commit("arch/Kconfig", "arch/arm64/Kconfig"), 0),
        (commit("Documentation/arch/x86/boot.rst", "mm/slub.c"), 0),
        (commit("arch/arm64/kernel/head.S"), 1),
        (commit("Documentation/arch/x86/boot.rst", "arch/arm64/Makefile"), 1),
        (commit("kernel/fork.c", is_merge=True), 1),
        (commit("Documentation/index.rst", is_merge=True), 2),
    ],
)
def test_a_commit_that_cannot_have_done_it_is_doubted(culprit: CommitInfo, doubts: int) -> None:
    assert len(doubts_about(culprit, "x86_64")) == doubts


def test_what_is_foreign_depends_on_the_architecture() -> None:
    assert doubts_about(commit("arch/arm64/kernel/head.S"), "arm64") == ()
    assert doubts_about(commit("arch/x86/kernel/head.S"), "arm64") != ()
