# SPDX-License-Identifier: GPL-2.0-or-later
"""A series on a commit by real git am: applied, conflicting, killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.adapters.git import Git
from kwatch.domain.finding import FindingKind
from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.source.posting import am_ready
from kwatch.domain.source.series import PatchFate, series_digest
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.regression import judge_key
from kwatch.errors import InfraError
from kwatch.stages import checkout
from kwatch.store import history as store
from kwatch.store import record, versions
from kwatch.store.database import Database
from tests.integration.stages.jobs import NOW, keep, next_of
from tests.lab.process import descendants
from tests.lab.toy import history
from tests.lab.toykernel import KERNEL
from tests.unit.domain.trials import CONTROL, SERIES, VARIANT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kwatch.domain.trial.steps import CheckoutResult
    from kwatch.domain.trial.variant import Variant
    from kwatch.store.database import Transaction

FIRST = "llvm-cov: add Clang's source-based code coverage support"
SECOND = "llvm-cov: add Clang's MC/DC support"


def toy_series() -> bytes:
    return am_ready([path.read_bytes() for path in KERNEL.series])


def patch(title: str, name: str, old: Sequence[str], new: Sequence[str], *, day: int = 1) -> bytes:
    """A mail whose one hunk replaces all lines of a file."""
    lines = [*(f"-{line}" for line in old), *(f"+{line}" for line in new)]
    head = f"--- a/{name}" if old else "--- /dev/null"
    mode = "" if old else "new file mode 100644\n"
    return (
        f"From mboxrd@z Mon Sep 17 00:00:00 2001\nFrom: series author <author@example.org>\n"
        f"Date: Tue, {day:02} Dec 2026 00:00:01 +0000\nMessage-ID: <{day}.{name}@example.org>\n"
        f"Subject: [PATCH] {title}\n\nWhy.\n\n---\n"
        f"diff --git a/{name} b/{name}\n{mode}{head}\n+++ b/{name}\n"
        f"@@ -{1 if old else 0},{len(old)} +1,{len(new)} @@\n" + "\n".join(lines) + "\n\n"
    ).encode()


@dataclass(slots=True, kw_only=True)
class Lab:
    """A repository of the toy kernel, and the database that wants it checked out."""

    source: Path
    git: Git
    scratch: Path
    database: Database

    async def fetch(self) -> str:
        await self.git.fetch(str(self.source), ["+HEAD:refs/kwatch/head"])
        commit = await self.git.resolve("refs/kwatch/head")
        assert commit is not None
        return commit

    async def want(self, commit: str, mbox: bytes | None, patches: int = 2) -> Job:
        """The job of the checkout of a commit with a series, or of the commit as it is."""
        variant = CONTROL
        if mbox is not None:
            series = replace(SERIES, digest=series_digest(mbox), patches=patches)
            variant = replace(VARIANT, series=series)

            def put(tx: Transaction) -> None:
                versions.put(tx, series, mbox)

            await self.database.write(put)
        await self.database.write(_want, commit, variant)
        return await next_of(self.database, JobKind.CHECKOUT)

    async def run(self, job: Job) -> CheckoutResult:
        found = await checkout.run(job, git=self.git, scratch=self.scratch, database=self.database)
        assert found is not None
        return found

    async def apply(self, commit: str, mbox: bytes | None, patches: int = 2) -> CheckoutResult:
        job = await self.want(commit, mbox, patches)
        result = await self.run(job)
        await keep(self.database, job, result)
        return result


def _want(tx: Transaction, commit: str, variant: Variant) -> None:
    store.put_variant(tx, variant)
    trial = Trial(commit=commit, variant=variant.digest)
    record.want(tx, trial, JobKind.JUDGE, judge_key("next", variant.digest), now=NOW)


@pytest_asyncio.fixture
async def lab(tmp_path: Path, database: Database) -> AsyncIterator[Lab]:
    source = tmp_path / "source"
    history.make_repository(source)
    git = Git(tmp_path / "linux.git")
    await git.create()
    yield Lab(source=source, git=git, scratch=tmp_path / "scratch", database=database)


async def test_a_series_that_applies(lab: Lab) -> None:
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


async def test_without_a_series_the_commit_is_the_result(lab: Lab) -> None:
    commit = await lab.fetch()
    found = await lab.apply(commit, None)
    assert (found.result, found.patches, found.finding) == (commit, (), None)
    assert found.tree_id == await lab.git.resolve(f"{commit}^{{tree}}")
    assert not lab.scratch.exists()


async def test_what_does_not_apply_names_patch_and_file(lab: Lab) -> None:
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
    # The next one finds a clean place.
    history.git(lab.source, "checkout", "-q", history.STABLE)
    assert (await lab.apply(await lab.fetch(), toy_series())).finding is None


async def test_a_patch_of_which_nothing_is_known_here_names_its_file(lab: Lab) -> None:
    """Its base is in no tree that we have, so that there is no three-way merge."""
    mbox = patch("mm: a", "mm/page.c", ["never there"], ["new"])
    found = await lab.apply(await lab.fetch(), mbox, 1)
    assert found.finding is not None
    assert found.finding.title == "patch 1/1 does not apply: mm: a"
    assert found.finding.file == "mm/page.c"


async def test_a_patch_that_upstream_took_is_skipped_and_the_others_are_counted(lab: Lab) -> None:
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
async def test_what_is_no_series_is_data(lab: Lab, mbox: bytes, text: str) -> None:
    found = await lab.apply(await lab.fetch(), mbox, 1)
    assert found.finding is not None
    assert found.finding.title.startswith(text)
    assert not (lab.scratch.parent / "outside").exists()
    assert not list((lab.git.directory / "hooks").glob("post-checkout"))


def many(count: int) -> bytes:
    return b"".join(patch(f"file {number}", f"f/{number}", [], ["x"]) for number in range(count))


async def test_killed_in_the_middle_and_repeated_gives_the_same_commit(
    lab: Lab, tmp_path: Path
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
    other = replace_scratch(lab, tmp_path / "elsewhere")
    assert (await other.run(job)).result == first.result
    assert (await lab.run(job)).result == first.result


def replace_scratch(lab: Lab, scratch: Path) -> Lab:
    return Lab(source=lab.source, git=lab.git, scratch=scratch, database=lab.database)


async def test_a_git_that_the_machine_kills_says_nothing_of_the_series(lab: Lab) -> None:
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


async def test_what_an_earlier_am_left_is_no_conflict(lab: Lab) -> None:
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


async def test_a_checkout_that_nobody_wants(lab: Lab) -> None:
    job = await lab.want(await lab.fetch(), toy_series())
    await lab.database.write(lambda tx: tx.execute("DELETE FROM want"))
    found = await checkout.run(job, git=lab.git, scratch=lab.scratch, database=lab.database)
    assert found is None
    assert not lab.scratch.exists()


async def test_a_commit_that_is_gone_is_the_labs_trouble(lab: Lab) -> None:
    job = await lab.want("1" * 40, toy_series())
    with pytest.raises(InfraError, match="git worktree add"):
        await lab.run(job)
