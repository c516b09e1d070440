# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.source.revision import TagChanges, tag_changes, tag_order

NEXT_TAGS = st.dates().map(lambda day: f"next-{day:%Y%m%d}")


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


def test_the_first_look_takes_the_newest_tags_only() -> None:
    seen = {"next-20261117": "b", "next-20261116": "a", "next-20261118": "c"}
    assert tag_changes({}, seen, first=2).new == (("next-20261117", "b"), ("next-20261118", "c"))
    assert tag_changes({}, seen, first=9).new == tuple(
        (tag, seen[tag]) for tag in sorted(seen, key=tag_order)
    )


def test_missed_tags_are_filled_in_and_older_ones_stay_out() -> None:
    known = {"next-20261110": "a", "next-20261113": "d"}
    seen = known | {
        "next-20261114": "e",
        "next-20261111": "b",
        "next-20261112": "c",
        "next-20261109": "z",
    }
    assert tag_changes(known, seen, first=1) == TagChanges(
        new=(("next-20261111", "b"), ("next-20261112", "c"), ("next-20261114", "e")), moved=()
    )


def test_a_tag_that_moved_is_told_with_both_commits() -> None:
    changes = tag_changes(
        {"next-20261110": "a", "next-20261111": "b"},
        {"next-20261110": "a", "next-20261111": "c"},
        first=1,
    )
    assert changes == TagChanges(new=(), moved=(("next-20261111", "b", "c"),))


def test_a_tag_that_was_taken_back_is_no_change() -> None:
    assert tag_changes({"next-20261110": "a"}, {}, first=1) == TagChanges(new=(), moved=())


@given(
    st.dictionaries(NEXT_TAGS, st.sampled_from("ab")),
    st.dictionaries(NEXT_TAGS, st.sampled_from("ab")),
    st.integers(1, 5),
)
def test_nothing_is_new_or_moved_twice(
    known: dict[str, str], seen: dict[str, str], first: int
) -> None:
    changes = tag_changes(known, seen, first=first)
    after = known | dict(changes.new) | {tag: new for tag, _, new in changes.moved}
    again = tag_changes(after, seen, first=first) if after else changes
    assert again == TagChanges(new=(), moved=())
    assert list(changes.new) == sorted(changes.new, key=lambda item: tag_order(item[0]))
