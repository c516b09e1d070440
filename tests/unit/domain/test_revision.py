# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.source.revision import TagChanges, tag_changes
from kwatch.domain.source.tag_order import tag_order

TAGS = st.one_of(
    st.dates().map(lambda day: f"next-{day:%Y%m%d}"),
    st.from_regex(r"v[5-7]\.[0-3](\.[0-4])?(-rc[0-3])?", fullmatch=True),
)


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


def test_a_branch_that_is_seen_for_the_first_time_is_taken_up() -> None:
    known = {"v6.12.4": "a", "v6.12.5": "b"}
    seen = known | {"v6.6.65": "c", "v6.6.66": "d", "v6.12.6": "e", "v6.12.3": "z"}
    assert tag_changes(known, seen, first=1).new == (("v6.6.66", "d"), ("v6.12.6", "e"))


def test_tags_of_two_names_do_not_shadow_each_other() -> None:
    known = {"v6.18": "a"}
    seen = known | {"next-20261117": "b", "next-20261118": "c", "v6.19-rc1": "d"}
    assert set(tag_changes(known, seen, first=1).new) == {
        ("next-20261118", "c"),
        ("v6.19-rc1", "d"),
    }
    known = {"next-20261118": "c"}
    seen = known | {"v6.18": "a", "next-20261117": "b", "next-20261119": "e"}
    assert set(tag_changes(known, seen, first=1).new) == {("v6.18", "a"), ("next-20261119", "e")}


def test_the_first_look_takes_the_newest_tags_of_each_branch() -> None:
    seen = {"v6.12.4": "a", "v6.12.5": "b", "v6.6.65": "c", "v6.6.66": "d"}
    assert tag_changes({}, seen, first=1).new == (("v6.6.66", "d"), ("v6.12.5", "b"))


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
    st.dictionaries(TAGS, st.sampled_from("ab")),
    st.dictionaries(TAGS, st.sampled_from("ab")),
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
