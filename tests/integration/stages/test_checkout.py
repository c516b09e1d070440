# SPDX-License-Identifier: GPL-2.0-or-later
"""A series on a commit by real git am: applied, conflicting, killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.domain.finding import FindingKind
from kwatch.domain.source.series import PatchFate
from kwatch.errors import InfraError
from kwatch.stages import checkout
from tests.integration.stages.checkout_lab import (
    FIRST,
    SECOND,
    CheckoutLab,
    patch,
    toy_series,
)
from tests.lab.process import descendants
from tests.lab.toy import history

if TYPE_CHECKING:
    from kwatch.store.database import Database


@pytest_asyncio.fixture
async def lab(tmp_path: Path, database: Database) -> CheckoutLab:
    return await CheckoutLab.create(tmp_path, database)


async def test_a_series_that_applies(lab: CheckoutLab) -> None:
    commit = await lab.fetch()
    found = await lab.apply(commit, toy_series())
    assert found.finding is None
    assert [(one.subject, one.fate) for one in found.patches] == [
        (FIRST, PatchFate.APPLIED),
        (SECOND, PatchFate.APPLIED),
    ]
    assert found.result is not None
    assert await lab.git.resolve(f"{found.result}~2") == commit
    assert await lab.git.resolve(f"{found.result}^{{tree}}") == found.tree_id
    info = await lab.git.commit_info(found.result)
    assert (info.subject, info.author_address) == (SECOND, "author@example.org")
    # It is kept, whatever git clears away.
    await lab.git.run("worktree", "remove", "--force", str(lab.scratch))
    await lab.git.run("gc", "--quiet", "--prune=now")
    assert await lab.git.resolve(f"{found.result}^{{commit}}") == found.result


async def test_without_a_series_the_commit_is_the_result(lab: CheckoutLab) -> None:
    commit = await lab.fetch()
    found = await lab.apply(commit, None)
    assert (found.result, found.patches, found.finding) == (commit, (), None)
    assert found.tree_id == await lab.git.resolve(f"{commit}^{{tree}}")
    assert not lab.scratch.exists()


async def test_what_does_not_apply_names_patch_and_file(lab: CheckoutLab) -> None:
    history.commit(lab.source, branch="mm", subject="mm: only here",
                   edits=history.PLANTS["series-conflict"])  # fmt: skip
    commit = await lab.fetch()
    found = await lab.apply(commit, toy_series())
    assert (found.result, found.tree_id) == (None, None)
    assert found.finding is not None
    assert found.finding.kind is FindingKind.APPLY
    assert found.finding.title == f"patch 1/2 does not apply: {FIRST}"
    assert found.finding.file == "Makefile"
    assert found.finding.excerpt[-1] == "conflict in Makefile"
    assert [one.fate for one in found.patches] == [PatchFate.CONFLICT, PatchFate.UNTRIED]
    assert await lab.is_clean(commit)
    # The next one finds a clean place.
    history.git(lab.source, "checkout", "-q", history.STABLE)
    assert (await lab.apply(await lab.fetch(), toy_series())).finding is None


async def test_a_patch_of_which_nothing_is_known_here_names_its_file(lab: CheckoutLab) -> None:
    """Its base is in no tree that we have, so that there is no three-way merge."""
    mbox = patch("mm: a", "mm/page.c", ["never there"], ["new"])
    found = await lab.apply(await lab.fetch(), mbox, 1)
    assert found.finding is not None
    assert found.finding.title == "patch 1/1 does not apply: mm: a"
    assert found.finding.file == "mm/page.c"


async def test_a_patch_that_upstream_took_is_skipped_and_the_others_are_counted(
    lab: CheckoutLab,
) -> None:
    edits = {"mm/page.c": ("RESERVED = 4", "RESERVED = 8")}
    taken = history.commit(lab.source, branch="mm", subject="mm: taken", edits=edits)
    history.commit(lab.source, branch="mm", subject="mm: ours",
                   edits={"lib/sort.c": ("void sort(", "/* Sorts. */\nvoid sort(")})  # fmt: skip
    ours = history.git(lab.source, "format-patch", "-2", "--stdout").encode() + b"\n\n"
    broken = patch("break", "mm/page.c", ["never there"], ["new"])
    history.git(lab.source, "checkout", "-q", "--detach", taken)
    commit = await lab.fetch()
    well = await lab.apply(commit, ours)
    assert well.finding is None
    assert well.result is not None
    assert await lab.git.resolve(f"{well.result}~1") == commit
    found = await lab.apply(commit, ours + broken, 3)
    assert found.finding is not None
    assert found.finding.title == "patch 3/3 does not apply: break"
    assert [one.fate for one in found.patches] == [
        PatchFate.APPLIED, PatchFate.APPLIED, PatchFate.CONFLICT,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mbox", "text"),
    [
        (b"no mbox at all\n", "patch 1/0 does not apply: the series"),
        ((b"From mboxrd@z Mon Sep 17 00:00:00 2001\nFrom: a <a@example.org>\nSubject: [PATCH] x\n"
         b"Message-ID: <x@example.org>\n\nNo diff.\n\n"), "patch 1/1 does not apply: x"),
        (patch("x", "../../outside", [], ["evil"]), "patch 1/1 does not apply: x"),
        (patch("x", ".git/hooks/post-checkout", [], ["evil"]), "patch 1/1 does not apply: x"),
        (patch("x", "mm/page.c", ["x" * 200_000], ["y"]), "patch 1/1 does not apply"),
    ],
)  # fmt: skip
async def test_what_is_no_series_is_data(lab: CheckoutLab, mbox: bytes, text: str) -> None:
    found = await lab.apply(await lab.fetch(), mbox, 1)
    assert found.finding is not None
    assert found.finding.title.startswith(text)
    assert not (lab.scratch.parent / "outside").exists()
    assert not list((lab.git.directory / "hooks").glob("post-checkout"))


def many(count: int) -> bytes:
    return b"".join(patch(f"file {number}", f"f/{number}", [], ["x"]) for number in range(count))


async def test_killed_in_the_middle_and_repeated_gives_the_same_commit(
    lab: CheckoutLab, tmp_path: Path
) -> None:
    mbox = many(60)
    commit = await lab.fetch()
    job = await lab.want(commit, mbox, 60)
    for delay in (0.15, 0.3):
        task = asyncio.ensure_future(lab.run(job))
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    first = await lab.run(job)
    assert first.finding is None
    # Elsewhere, by another clock, undisturbed.
    other = replace(lab, scratch=tmp_path / "elsewhere")
    assert (await other.run(job)).result == first.result
    assert (await lab.run(job)).result == first.result


async def test_a_git_that_the_machine_kills_says_nothing_of_the_series(lab: CheckoutLab) -> None:
    """The out-of-memory killer takes git am: the lab failed, not the series."""
    job = await lab.want(await lab.fetch(), many(200), 200)
    task = asyncio.ensure_future(lab.run(job))
    async with asyncio.timeout(20):
        while not (applying := am_of(os.getpid())):
            await asyncio.sleep(0.005)
            assert not task.done()
    await asyncio.sleep(0.1)
    os.kill(applying[0], signal.SIGKILL)
    with pytest.raises(InfraError, match="git am"):
        await task
    assert (await lab.run(job)).finding is None


def am_of(root: int) -> list[int]:
    """The processes below ``root`` that run git am."""
    found = []
    for pid in descendants(root):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[:2] == [b"git", b"am"]:
                found.append(pid)
    return found


async def test_what_an_earlier_am_left_is_no_conflict(lab: CheckoutLab) -> None:
    commit = await lab.fetch()
    await lab.apply(commit, None)
    job = await lab.want(commit, toy_series())
    first = await lab.run(job)
    left = lab.git.directory / "worktrees" / lab.scratch.name / "rebase-apply"
    left.mkdir()
    for name in ("next", "last"):
        (left / name).write_bytes(b"")
    (lab.scratch / "Makefile").write_text("half")
    assert (await lab.run(job)).result == first.result


async def test_a_checkout_that_nobody_wants(lab: CheckoutLab) -> None:
    job = await lab.want(await lab.fetch(), toy_series())
    await lab.database.write(lambda tx: tx.execute("DELETE FROM want"))
    found = await checkout.run(
        job, git=lab.git, scratch=lab.scratch, blobs=lab.blobs, database=lab.database
    )
    assert found is None
    assert not lab.scratch.exists()


async def test_a_commit_that_is_gone_is_the_labs_trouble(lab: CheckoutLab) -> None:
    job = await lab.want("1" * 40, toy_series())
    with pytest.raises(InfraError, match="git worktree add"):
        await lab.run(job)
