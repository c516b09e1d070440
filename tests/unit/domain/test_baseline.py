# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kwatch.domain.verdict.baseline import MOST_TAGS, Baseline, in_order, releases

FORK = Baseline(name="stable-gffffffffffff", commit="f" * 40)
CANDIDATE = Baseline(name="v6.17-rc2", commit="c" * 40)
RELEASE = Baseline(name="v6.16", commit="a" * 40)


def test_releases_and_candidates_come_newest_first() -> None:
    names = ["v6.9", "v6.16", "v6.17-rc1", "v6.17-rc10", "v6.12.4", "v6.17-rc2", "v2.6.39"]
    others = ["next-20261117", "v6.16-dontuse", "v6", "v6.16-rc1-1", "x6.16", "v6.1-rc"]
    finals, candidates = releases({name: name for name in names + others})
    assert [one.name for one in finals] == ["v6.16", "v6.12.4", "v6.9", "v2.6.39"]
    assert [one.name for one in candidates] == ["v6.17-rc10", "v6.17-rc2", "v6.17-rc1"]


def test_a_repository_with_very_many_tags_is_cut() -> None:
    finals, candidates = releases({f"v6.{number}": "" for number in range(2 * MOST_TAGS)})
    assert (len(finals), finals[0].name, candidates) == (MOST_TAGS, f"v6.{2 * MOST_TAGS - 1}", ())


def test_the_fork_is_tried_first_and_then_the_newer_tag() -> None:
    assert in_order("b", fork=FORK, candidate=CANDIDATE, release=RELEASE) == (
        FORK, CANDIDATE, RELEASE,
    )  # fmt: skip
    old = Baseline(name="v6.12-rc7", commit="d" * 40)
    stable = Baseline(name="v6.12.3", commit="e" * 40)
    assert in_order("b", fork=None, candidate=old, release=stable) == (stable, old)
    assert in_order("b", fork=None, candidate=None, release=None) == ()


@pytest.mark.parametrize("bad", ["b", RELEASE.commit])
def test_each_commit_is_tried_once_and_never_the_failing_one(bad: str) -> None:
    fork = Baseline(name="stable-gcccccccccccc", commit=CANDIDATE.commit)
    found = in_order(bad, fork=fork, candidate=CANDIDATE, release=RELEASE)
    assert found == ((CANDIDATE, RELEASE) if bad == "b" else (CANDIDATE,))
