# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a regression's life becomes a mail, and who was told before."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.git import Git
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import Correspondence, Release, ReportKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Tree
from kwatch.domain.trial.observation import Outcome
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.regression import Regression, RegressionEvent, RegressionState, TagResult
from kwatch.stages import report
from kwatch.store import history, problems
from tests.integration.stages.jobs import NOW, claimed, keep
from tests.integration.web_history import X86_64
from tests.lab.toy.history import three_tags

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.domain.facts import Written
    from kwatch.store.database import Database, Transaction

pytestmark = pytest.mark.asyncio

LAB = Correspondence(
    from_name="kwatch",
    from_address="kwatch@example.org",
    message_id_domain="example.org",
    owner="operator@example.org",
    tree_mail_to=("regressions@example.org",),
    release=Release.AUTOMATIC,
)
HANG = Finding(kind=FindingKind.HANG, title="hang between the kernel and init")


class Case:
    """A regression between two tags of a real repository."""

    def __init__(self, database: Database, git: Git, tree: Tree, number: int) -> None:
        self.database = database
        self.number = number
        self._git = git
        self._tree = tree
        self._tokens = count(1000)

    @classmethod
    async def create(cls, database: Database, folder: Path) -> Case:
        source = folder / "source"
        ids = three_tags(source, plant="silent", fixed=False)
        git = Git(folder / "linux.git")
        await git.create()
        await git.fetch(str(source), ["+refs/tags/*:refs/kwatch/next/*"])
        tree = Tree(name="next", url=str(source), tags=("next-*",), variants=("x86_64",))

        def opened(tx: Transaction) -> int:
            history.put_variant(tx, X86_64)
            good, bad = (
                TagResult(tag=tag, commit=ids[tag], outcome=outcome, milestone=milestone,
                          finding=HANG if outcome is Outcome.FAIL else None)
                for tag, outcome, milestone in (
                    ("next-20261116", Outcome.PASS, Milestone.COLLECTED),
                    ("next-20261117", Outcome.FAIL, Milestone.KERNEL),
                )
            )  # fmt: skip
            regression = Regression(
                id=0, tree="next", variant=X86_64.digest, variant_name=X86_64.name, finding=HANG,
                milestone=Milestone.KERNEL, good=good, bad=bad, state=RegressionState.SUSPECTED,
                opened_at=NOW,
            )  # fmt: skip
            return problems.open_regression(tx, regression, now=NOW)

        return cls(database, git, tree, await database.write(opened))

    async def happens(self, event: RegressionEvent, **detail: object) -> None:
        """Let something happen to the regression."""
        assert await self.database.write(problems.advance, self.number, event, detail, now=NOW)

    async def write(self) -> Written:
        """Run the stage, and keep what it wrote."""
        job = await claimed(self.database, JobKind.REPORT, str(self.number))
        written = await report.run(
            job, trees={"next": self._tree}, correspondence=lambda *_: LAB, git=self._git,
            database=self.database, token=lambda: f"tok{next(self._tokens)}", status_url=None,
        )  # fmt: skip
        await keep(self.database, job, written)
        return written


async def test_who_was_told_is_told_that_it_was_wrong(database: Database, tmp_path: Path) -> None:
    case = await Case.create(database, tmp_path)
    await case.happens(RegressionEvent.CONFIRM, blame=Blame.TREE)
    (new,) = (await case.write()).letters
    await case.happens(RegressionEvent.RETRACT)
    (withdrawn,) = (await case.write()).letters
    assert (new.kind, withdrawn.kind) == (ReportKind.NEW, ReportKind.RETRACTED)
    assert withdrawn.subject == f"Re: {new.subject}"
    assert withdrawn.recipients == new.recipients
    assert f"In-Reply-To: <{new.message_id}>" in withdrawn.message.decode()
    assert "Please ignore the report" in withdrawn.message.decode()


async def test_what_nobody_was_told_of_is_dropped_in_silence(
    database: Database, tmp_path: Path
) -> None:
    case = await Case.create(database, tmp_path)
    await case.happens(RegressionEvent.CONFIRM, blame=Blame.TREE)
    await case.happens(RegressionEvent.RETRACT)
    written = await case.write()
    assert written.letters == ()
    assert len(written.silent_events) >= 2
    assert (await case.write()).letters == ()
