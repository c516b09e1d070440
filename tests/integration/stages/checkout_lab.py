# SPDX-License-Identifier: GPL-2.0-or-later
"""Checkouts of the toy kernel by real git, wanted by a real database."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.git import Git
from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.source.posting import mboxrd
from kwatch.domain.source.series import series_digest
from kwatch.domain.source.source import Change, Source, with_series
from kwatch.domain.trial.trial import Trial
from kwatch.stages import checkout
from kwatch.store import series, steps
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.stages.jobs import keep, next_of, want
from tests.lab.toy import history
from tests.lab.toykernel import KERNEL
from tests.unit.domain.trials import BOOT, BUILD, SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from kwatch.domain.trial.steps import CheckoutResult

FIRST = "llvm-cov: add Clang's source-based code coverage support"
SECOND = "llvm-cov: add Clang's MC/DC support"


def toy_series() -> bytes:
    """The patches, without their cover letter."""
    return mboxrd([path.read_bytes() for path in KERNEL.series[1:]])


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
class CheckoutLab:
    """A repository of the toy kernel, and the database that wants it checked out."""

    source: Path
    git: Git
    scratch: Path
    blobs: Blobs
    database: Database

    @classmethod
    async def create(cls, folder: Path, database: Database) -> Self:
        """A lab with a toy kernel and nothing wanted."""
        history.make_repository(folder / "source")
        git = Git(folder / "linux.git")
        await git.create()
        blobs = Blobs(folder / "blobs", database=database, budget=1 << 30, clock=time.time)
        return cls(
            source=folder / "source", git=git, scratch=folder / "scratch", blobs=blobs,
            database=database,
        )  # fmt: skip

    async def fetch(self) -> str:
        await self.git.fetch(str(self.source), ["+HEAD:refs/kwatch/head"])
        commit = await self.git.resolve("refs/kwatch/head")
        assert commit is not None
        return commit

    async def known(self, mbox: bytes, patches: int = 2) -> str:
        """The digest of a series that the lab has."""
        found = replace(SERIES, digest=series_digest(mbox), patches=patches)
        await self.database.write(series.put, found, mbox)
        return found.digest

    async def want(self, commit: str, mbox: bytes | None, patches: int = 2) -> Job:
        """The job of the checkout of a commit with a series, or of the commit as it is."""
        digest = None if mbox is None else await self.known(mbox, patches)
        return await self.want_source(with_series(commit, digest))

    async def want_source(self, source: Source) -> Job:
        """The job of the checkout of a source."""
        trial = Trial(source=source, build=BUILD.digest, boot=BOOT.digest)
        await self.database.write(want, trial)
        return await next_of(self.database, JobKind.CHECKOUT)

    async def run(self, job: Job) -> CheckoutResult:
        found = await checkout.run(
            job, git=self.git, scratch=self.scratch, blobs=self.blobs, database=self.database
        )
        assert found is not None
        return found

    async def apply(self, commit: str, mbox: bytes | None, patches: int = 2) -> CheckoutResult:
        job = await self.want(commit, mbox, patches)
        result = await self.run(job)
        await keep(self.database, job, result)
        return result

    async def change(self, commit: str, *changes: Change) -> CheckoutResult:
        """The checkout of a commit with changes on top, made twice."""
        source = Source(base=commit, changes=changes)
        job = await self.want_source(source)
        assert job.key == source.key
        result = await self.run(job)
        if result.result is not None:
            # Elsewhere and later it is the same commit.
            await asyncio.sleep(1.1)
            elsewhere = replace(self, scratch=self.scratch.with_name("elsewhere"))
            assert (await elsewhere.run(job)).result == result.result
            assert await self.git.resolve(f"refs/kwatch/checkout/{job.key}") == result.result
        await keep(self.database, job, result)
        assert await self.database.read(steps.checkout, job.key) == result
        return result

    async def commit(self, subject: str, edits: history.Edits, *, branch: str = "mm") -> str:
        """One more commit of a branch, fetched."""
        history.commit(self.source, branch=branch, subject=subject, edits=edits)
        return await self.fetch()

    async def is_clean(self, head: str) -> bool:
        """Whether the worktree stands at ``head`` with nothing changed and nothing under way."""
        tree = Git(self.scratch)
        folder = Path((await tree.run("rev-parse", "--absolute-git-dir")).text())
        names = ("CHERRY_PICK_HEAD", "REVERT_HEAD", "MERGE_MSG", "sequencer", "rebase-apply")
        status = await tree.run("status", "--porcelain", "--ignored")
        under_way = [name for name in names if (folder / name).exists()]
        return (await tree.resolve("HEAD"), status.text(), under_way) == (head, "", [])
