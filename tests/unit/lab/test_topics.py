# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab tree's commits, as far as they can be judged without a kernel source."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.lab.linux.history import LabTreeError, apply_edits
from tests.lab.linux.topics import COMMITS, CULPRIT_SUBJECT, Branch, Commit, Edit, Tag

COLUMNS = 75


def test_second_tag_brings_enough_commits_to_bisect_on_several_branches() -> None:
    branches = Counter(commit.branch for commit in COMMITS if commit.tag is Tag.BROKEN)

    assert branches.total() >= 12
    assert len(branches) >= 5


def test_culprit_stands_between_other_commits_of_its_branch() -> None:
    culprit = next(commit for commit in COMMITS if commit.subject == CULPRIT_SUBJECT)
    siblings = [
        commit.subject
        for commit in COMMITS
        if (commit.tag, commit.branch) == (Tag.BROKEN, culprit.branch)
    ]

    assert 0 < siblings.index(CULPRIT_SUBJECT) < len(siblings) - 1
    assert [commit.subject for commit in COMMITS if commit.author == culprit.author] == [
        CULPRIT_SUBJECT,
        "lib/sort: pass a mask to parent() again",
    ]


def test_repair_names_the_culprit() -> None:
    repair = next(commit for commit in COMMITS if "{culprit}" in commit.body)

    assert repair.tag is Tag.REPAIRED
    assert repair.body.endswith(f'Fixes: {{culprit}} ("{CULPRIT_SUBJECT}")')


def test_files_belong_to_one_branch_so_that_merges_are_clean() -> None:
    owners = {(edit.path, commit.branch) for commit in COMMITS for edit in commit.edits}

    assert [path for path, count in Counter(path for path, _ in owners).items() if count > 1] == []


def test_commits_stand_in_the_order_of_their_tags() -> None:
    assert all(before.tag <= after.tag for before, after in pairwise(COMMITS))


def test_messages_have_the_form_of_a_kernel_commit() -> None:
    subjects = [commit.subject for commit in COMMITS]

    assert len(set(subjects)) == len(subjects)
    assert [line for line in subjects if len(line) > COLUMNS or ": " not in line] == []
    for commit in COMMITS:
        long = [line for line in commit.body.splitlines() if len(line) > COLUMNS]
        assert [line for line in long if not line.startswith("Fixes: ")] == []
        assert all(edit.old != edit.new for edit in commit.edits)


@pytest.mark.parametrize(("text", "count"), [("", 0), ("old old", 2)])
def test_edit_that_does_not_fit_once_is_refused_by_name(text: str, count: int) -> None:
    commit = Commit(
        tag=Tag.GOOD,
        branch=Branch.LIB,
        subject="lib: change",
        body="Why.",
        edits=(Edit(path="lib/file.c", old="old", new="new"),),
    )

    with pytest.raises(LabTreeError, match=f"'lib: change'.*{count} times in lib/file.c"):
        apply_edits(commit, {"lib/file.c": text})


def test_edit_replaces_only_its_text() -> None:
    commit = Commit(
        tag=Tag.GOOD,
        branch=Branch.LIB,
        subject="lib: change",
        body="Why.",
        edits=(Edit(path="lib/file.c", old="b", new="B"),),
    )
    texts = {"lib/file.c": "abc", "lib/other.c": "b"}

    apply_edits(commit, texts)

    assert texts == {"lib/file.c": "aBc", "lib/other.c": "b"}
