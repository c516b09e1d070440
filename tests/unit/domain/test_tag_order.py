# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.source.tag_order import branch_of, branches, tag_order

TAGS = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"v[0-9]{1,2}\.[0-9]{1,2}(\.[0-9]{1,2})?(-rc[0-9])?", fullmatch=True),
    st.from_regex(r"next-2026[01][0-9][0-2][0-9](\.[0-9])?", fullmatch=True),
)


@pytest.mark.parametrize(
    "tags",
    [
        ("next-20261117", "next-20261117.1", "next-20261118", "next-20270101"),
        ("v6.9", "v6.10-rc1", "v6.10-rc2", "v6.10-rc10", "v6.10", "v6.10.1", "v6.10.12"),
        ("v6.12-rc7", "v6.12", "v6.13-rc1"),
        ("v6.12", "v6.12.1-rc1", "v6.12.1"),
        ("v2.6.9", "v2.6.10", "v3.0-rc1"),
    ],
)
def test_tags_stand_in_the_order_they_were_made(tags: tuple[str, ...]) -> None:
    newest_first = tags[::-1]
    assert sorted(newest_first, key=tag_order) == list(tags)


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_tag_has_a_place(tags: list[str]) -> None:
    assert len(sorted(tags, key=tag_order)) == len(tags)


@pytest.mark.parametrize(
    "tag", ["next-\u00b2", "1\u00b2", "\u0663", "v" + "9" * 5000, "v1-rc" + "9" * 5000, ""]
)
def test_a_tag_that_only_looks_like_a_number_is_no_crash(tag: str) -> None:
    assert tag_order(tag)
    assert branches([tag]) == (([], [tag]),)


@pytest.mark.parametrize(
    ("tag", "branch"),
    [
        ("next-20261117", "next-"),
        ("next-20261117.1", "next-"),
        ("v6.12-rc3", "v"),
        ("v6.12", "v"),
        ("v6.12.4", "v6.12"),
        ("v6.12.4-rc1", "v6.12"),
        ("v6.6.66-rt12", "v6.6"),
        ("asahi-6.12", "asahi-"),
        ("asahi-6.12.4-1", "asahi-6.12"),
        ("nightly", "nightly"),
        ("20261117", ""),
    ],
)
def test_a_tag_says_on_which_branch_it_is(tag: str, branch: str) -> None:
    assert branch_of(tag) == branch


def test_a_stable_branch_begins_at_its_release() -> None:
    tags = ["v6.13-rc1", "v6.12.4", "v6.12", "v6.6.66", "v6.12.5", "v6.12-rc7", "v6.6", "v6.13"]
    assert {tuple(own): list(base) for base, own in branches(tags)} == {
        ("v6.6", "v6.12-rc7", "v6.12", "v6.13-rc1", "v6.13"): [],
        ("v6.6.66",): ["v6.6"],
        ("v6.12.4", "v6.12.5"): ["v6.6", "v6.12-rc7", "v6.12"],
    }


def test_a_stable_branch_of_which_no_release_is_known_begins_with_itself() -> None:
    assert branches(["v6.6.67", "v6.6.66"]) == (([], ["v6.6.66", "v6.6.67"]),)


def test_tags_of_another_name_are_a_branch_of_their_own() -> None:
    tags = ["v6.12", "next-20261118", "next-20261117", "v6.12-rc7"]
    assert sorted(list(own) for _, own in branches(tags)) == [
        ["next-20261117", "next-20261118"],
        ["v6.12-rc7", "v6.12"],
    ]


@given(st.lists(TAGS, unique=True, max_size=10), st.randoms(use_true_random=False))
def test_every_tag_is_on_one_branch_whatever_the_order_they_come_in(
    tags: list[str], order: object
) -> None:
    found = branches(tags)
    shuffled = list(tags)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(tag for _, own in found for tag in own) == sorted(tags)
    by_branch = {branch_of(own[0]): (base, own) for base, own in found}
    assert {branch_of(own[0]): (base, own) for base, own in branches(shuffled)} == by_branch
    for base, own in found:
        assert not set(base) & set(own)
        assert list(own) == sorted(own, key=tag_order)
        assert list(base) == sorted(base, key=tag_order)
        assert {branch_of(tag) for tag in own} == {branch_of(own[0])}
