# SPDX-License-Identifier: GPL-2.0-or-later
"""Each kind of change of a source, by real git: what it makes, and what is left when it fails."""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.domain.finding import FindingKind
from kwatch.domain.source.series import PatchFate
from kwatch.domain.source.source import (
    ApplyMail,
    ApplySeries,
    Change,
    Mutate,
    Pick,
    Revert,
    Source,
)
from kwatch.errors import InfraError
from tests.integration.stages.checkout_lab import (
    FIRST,
    SECOND,
    CheckoutLab,
    patch,
    toy_series,
)
from tests.lab.toy import history

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.store.database import Database

MORE = {"mm/page.c": ("RESERVED = 4", "RESERVED = 8")}
EVEN_MORE = {"mm/page.c": ("RESERVED = 8", "RESERVED = 16")}
ELSEWHERE = {"lib/sort.c": ("void sort(", "/* Sorts. */\nvoid sort(")}


@pytest_asyncio.fixture
async def lab(tmp_path: Path, database: Database) -> CheckoutLab:
    return await CheckoutLab.create(tmp_path, database)


def planted(source: Path, old: str, new: str) -> bytes:
    """A diff of mm/page.c as it stands: ``new`` instead of ``old``."""
    text = (source / "mm/page.c").read_text()
    assert text.count(old) == 1
    before, after = (one.splitlines(keepends=True) for one in (text, text.replace(old, new)))
    return "".join(unified_diff(before, after, "a/mm/page.c", "b/mm/page.c")).encode()


async def test_the_patches_of_a_series_one_by_one_make_the_whole(lab: CheckoutLab) -> None:
    commit = await lab.fetch()
    digest = await lab.known(toy_series())
    whole = await lab.change(commit, ApplySeries(series=digest))
    first = await lab.change(commit, ApplySeries(series=digest, last=1))
    assert [(one.subject, one.fate) for one in first.patches] == [(FIRST, PatchFate.APPLIED)]
    assert first.result == await lab.git.resolve(f"{whole.result}~1")
    assert first.result is not None
    second = await lab.change(first.result, ApplySeries(series=digest, first=2))
    assert [(one.subject, one.fate) for one in second.patches] == [(SECOND, PatchFate.APPLIED)]
    assert second.result == whole.result
    # Two changes are put on top of each other.
    both = await lab.change(
        commit, ApplySeries(series=digest, last=1), ApplySeries(series=digest, first=2)
    )
    assert both.result == whole.result
    assert both.patches == whole.patches


async def test_a_patch_whose_forerunner_is_left_out_does_not_apply(lab: CheckoutLab) -> None:
    commit = await lab.fetch()
    digest = await lab.known(toy_series())
    found = await lab.change(commit, ApplySeries(series=digest, first=2, last=2))
    assert (found.result, found.tree_id) == (None, None)
    assert found.finding is not None
    assert found.finding.kind is FindingKind.APPLY
    assert found.finding.title == f"patch 1/1 does not apply: {SECOND}"
    assert await lab.is_clean(commit)
    # A range that is none of the series.
    found = await lab.change(commit, ApplySeries(series=digest, first=3))
    assert found.finding is not None
    assert (found.finding.kind, found.finding.title) == (
        FindingKind.APPLY, "the series has no patch 3",
    )  # fmt: skip
    assert await lab.is_clean(commit)


async def test_a_commit_is_reverted(lab: CheckoutLab) -> None:
    before = await lab.fetch()
    bad = await lab.commit("mm: keep more", MORE)
    tip = await lab.commit("lib: elsewhere", ELSEWHERE)
    found = await lab.change(tip, Revert(commit=bad))
    assert (found.finding, found.patches) == (None, ())
    assert found.result is not None
    info = await lab.git.commit_info(found.result)
    assert (info.subject, info.parents) == ('Revert "mm: keep more"', (tip,))
    assert info.files == ("mm/page.c",)
    back = await lab.git.run("show", f"{found.result}:mm/page.c")
    assert back.stdout == (await lab.git.run("show", f"{before}:mm/page.c")).stdout
    assert found.tree_id == await lab.git.resolve(f"{found.result}^{{tree}}")


async def test_a_commit_is_picked(lab: CheckoutLab) -> None:
    fix = await lab.commit("mm: keep more", MORE)
    tip = await lab.commit("lib: elsewhere", ELSEWHERE, branch="lib")
    found = await lab.change(tip, Pick(commit=fix))
    assert (found.finding, found.patches) == (None, ())
    assert found.result is not None
    info = await lab.git.commit_info(found.result)
    assert (info.subject, info.parents, info.files) == ("mm: keep more", (tip,), ("mm/page.c",))
    # Its author stays its author.
    assert info.author_address == "developer@example.org"


async def test_a_merge_is_picked_and_reverted_as_what_it_brings(lab: CheckoutLab) -> None:
    await lab.commit("mm: keep more", MORE)
    await lab.commit("mm: and more", EVEN_MORE)
    main = await lab.commit("lib: elsewhere", ELSEWHERE, branch="lib")
    history.git(lab.source, "merge", "-q", "--no-ff", "-m", "Merge mm", "mm")
    merge = await lab.fetch()
    assert len((await lab.git.commit_info(merge)).parents) == 2
    picked = await lab.change(main, Pick(commit=merge))
    assert picked.finding is None
    assert picked.tree_id == await lab.git.resolve(f"{merge}^{{tree}}")
    reverted = await lab.change(merge, Revert(commit=merge))
    assert reverted.finding is None
    assert reverted.tree_id == await lab.git.resolve(f"{main}^{{tree}}")


async def test_a_mailed_patch_is_applied(lab: CheckoutLab) -> None:
    mbox = patch("mm: a file", "mm/new.c", [], ["int new;"])
    change = ApplyMail(blob=await lab.blobs.put(mbox), message_id="1.mm/new.c@example.org")
    commit = await lab.fetch()
    found = await lab.change(commit, change)
    assert found.finding is None
    assert [(one.subject, one.fate) for one in found.patches] == [("mm: a file", PatchFate.APPLIED)]
    assert found.result is not None
    info = await lab.git.commit_info(found.result)
    assert (info.subject, info.author_address) == ("mm: a file", "author@example.org")
    assert (info.parents, info.files) == ((commit,), ("mm/new.c",))


async def test_a_planted_change_is_applied(lab: CheckoutLab) -> None:
    diff = planted(lab.source, "RESERVED = 4", "RESERVED = 5")
    commit = await lab.fetch()
    found = await lab.change(commit, Mutate(blob=await lab.blobs.put(diff)))
    assert (found.finding, found.patches) == (None, ())
    assert found.result is not None
    info = await lab.git.commit_info(found.result)
    assert (info.parents, info.files) == ((commit,), ("mm/page.c",))
    assert "RESERVED = 5" in (await lab.git.run("show", f"{found.result}:mm/page.c")).text()


async def test_a_planted_change_that_takes_itself_back_is_no_failure_of_the_lab(
    lab: CheckoutLab,
) -> None:
    one, other = ("RESERVED = 4", "RESERVED = 5")
    there = planted(lab.source, one, other)
    back = there.replace(b"-enum", b"~enum").replace(b"+enum", b"-enum").replace(b"~enum", b"+enum")
    commit = await lab.fetch()
    found = await lab.change(commit, Mutate(blob=await lab.blobs.put(there + back)))
    assert found.finding is None
    assert found.tree_id == await lab.git.resolve(f"{commit}^{{tree}}")


async def test_changes_that_do_not_apply_are_findings_and_leave_nothing_behind(
    lab: CheckoutLab,
) -> None:
    diff = planted(lab.source, "RESERVED = 4", "RESERVED = 5")
    start = await lab.fetch()
    first = await lab.commit("mm: keep more", MORE)
    second = await lab.commit("mm: and more", EVEN_MORE)
    mail = ApplyMail(
        blob=await lab.blobs.put(patch("mm: a", "mm/page.c", ["never there"], ["new"])),
        message_id="1.mm/page.c@example.org",
    )
    mutation = Mutate(blob=await lab.blobs.put(diff))
    for base, change, title in (
        (second, Revert(commit=first), f"revert of {first[:12]} does not apply"),
        (start, Pick(commit=second), f"cherry-pick of {second[:12]} does not apply"),
        (start, mail, "patch 1/1 does not apply: mm: a"),
        (first, mutation, "the planted change does not apply"),
    ):
        found = await lab.change(base, change)
        assert (found.result, found.tree_id) == (None, None), change
        assert found.finding is not None
        assert (found.finding.kind, found.finding.title) == (FindingKind.APPLY, title)
        assert found.finding.file == "mm/page.c", change
        assert found.finding.excerpt[-1] == "conflict in mm/page.c"
        assert await lab.is_clean(base), change
        assert await lab.git.resolve(f"refs/kwatch/checkout/{found.key}") is None
    # The next one finds a clean place.
    assert (await lab.change(second, Revert(commit=second))).finding is None


async def test_a_change_after_one_that_does_not_apply_is_not_tried(lab: CheckoutLab) -> None:
    """What applied before it says so; the commits between are no result."""
    fix = await lab.commit("mm: keep more", MORE)
    diff = planted(lab.source, "RESERVED = 8", "RESERVED = 5")
    history.git(lab.source, "checkout", "-q", history.STABLE)
    commit = await lab.fetch()
    digest = await lab.known(toy_series())
    changes = (
        ApplySeries(series=digest),
        Mutate(blob=await lab.blobs.put(diff)),
        Pick(commit=fix),
    )
    found = await lab.change(commit, *changes)
    assert found.result is None
    assert found.finding is not None
    assert found.finding.title == "the planted change does not apply"
    assert [one.fate for one in found.patches] == [PatchFate.APPLIED] * 2
    well = await lab.change(commit, changes[0], changes[2], changes[1])
    assert well.finding is None
    assert well.result is not None
    assert await lab.git.resolve(f"{well.result}~4") == commit


async def test_what_is_there_already_is_no_change(lab: CheckoutLab) -> None:
    """A fix that the tree has by now, a revert of what is not there: a finding that says so."""
    fix = await lab.commit("mm: keep more", MORE)
    found = await lab.change(fix, Pick(commit=fix))
    assert found.finding is not None
    assert found.finding.kind is FindingKind.APPLY
    assert "now empty" in "\n".join(found.finding.excerpt)
    assert await lab.is_clean(fix)


@pytest.mark.parametrize(
    "diff",
    [
        b"",
        b"no diff at all\n",
        b"--- /dev/null\n+++ b/../../outside\n@@ -0,0 +1 @@\n+evil\n",
        b"--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+evil\n",
        b"diff --git a/mm/page.c b/mm/page.c\nold mode 100644\nnew mode 100644\n",
    ],
    ids=["empty", "text", "outside", "of git", "no change"],
)
async def test_what_is_no_diff_is_data(lab: CheckoutLab, diff: bytes) -> None:
    commit = await lab.fetch()
    found = await lab.change(commit, Mutate(blob=await lab.blobs.put(diff)))
    assert found.finding is not None
    assert (found.finding.kind, found.finding.title) == (
        FindingKind.APPLY, "the planted change does not apply",
    )  # fmt: skip
    assert await lab.is_clean(commit)
    assert not (lab.scratch.parent / "outside").exists()


@pytest.mark.parametrize("change", [Revert(commit="1" * 40), Pick(commit="1" * 40)])
async def test_a_change_by_a_commit_that_is_gone_is_the_labs_trouble(
    lab: CheckoutLab, change: Change
) -> None:
    job = await lab.want_source(Source(base=await lab.fetch(), changes=(change,)))
    with pytest.raises(InfraError, match="git show"):
        await lab.run(job)


async def test_what_a_killed_pick_left_is_no_conflict(lab: CheckoutLab) -> None:
    start = await lab.fetch()
    first = await lab.commit("mm: keep more", MORE)
    second = await lab.commit("mm: and more", EVEN_MORE)
    # A pick and a revert that were killed in the middle of a conflict.
    for verb, base, commit, change in (
        ("cherry-pick", start, second, Pick(commit=first)),
        ("revert", second, first, Revert(commit=second)),
    ):
        tree = await lab.git.worktree(lab.scratch, base)
        assert (await tree.run(verb, "--no-edit", commit, check=False)).status == 1
        assert not await lab.is_clean(base)
        assert (await lab.change(base, change)).finding is None
