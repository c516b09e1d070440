# SPDX-License-Identifier: GPL-2.0-or-later
"""A year of a tree that is rebuilt for each tag: real history, repository and host."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from kwatch.domain.lab.job import WHOLE, Job, JobKind
from kwatch.domain.source.revision import Revision
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.judge import Opened
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Goal, Phase
from kwatch.stages import tidy as stage
from kwatch.store import investigations, lanes, regressions, revisions, steps, trials
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.adapters.git import Git
    from kwatch.adapters.host.pool import Pool
    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.database import Database, Transaction

DAY = 86400.0
NOW = time.time()
JOB = Job(id=1, kind=JobKind.TIDY, key=WHOLE, attempt=1, failures=0)
TREE = "next"
LANE = Lane(tree=TREE, variant=samples.VARIANT.name)


class TidyLab:
    """A repository with tags of a tree that is rebuilt, each on a commit of its own."""

    def __init__(self, git: Git, database: Database, source: Path, pool: Pool) -> None:
        self.git, self.database, self.source, self.pool = git, database, source, pool
        self.commits = 0
        self.revisions: dict[str, int] = {}
        self.trials: dict[str, int] = {}
        self.keys: dict[str, str] = {}

    def commit(self, parent: str | None, text: str) -> str:
        """A commit in the source, with one file."""
        self.commits += 1
        blob = self._git("hash-object", "-w", "--stdin", stdin=text)
        tree = self._git("mktree", stdin=f"100644 blob {blob}\tfile\n")
        return self._git("commit-tree", tree, "-m", text, *(["-p", parent] if parent else []))

    def _git(self, *args: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=n", "-c", "user.email=e", *args], cwd=self.source,
            input=stdin, capture_output=True, text=True, check=True,
            env={**os.environ, "GIT_COMMITTER_DATE": f"{int(NOW) - 1000 + self.commits} +0000"},
        )  # fmt: skip
        return done.stdout.strip()

    async def tag(self, name: str, commit: str, *, days: float) -> None:
        """The lab has seen a tag so many days ago."""
        self._git("tag", name, commit)
        await self.git.fetch(str(self.source), [f"+refs/tags/{name}:refs/kwatch/{TREE}/{name}"])
        await self.git.pin(f"refs/kwatch/keep/{commit}", commit)
        revision = Revision(tree=TREE, tag=name, commit=commit, seen_at=NOW - days * DAY)
        self.revisions[commit] = await self.database.write(revisions.add, revision)

    async def tried(self, commit: str, outcome: Outcome, *, days: float, name: str) -> None:
        """A trial of ``commit`` that ended so, whose checkout has a commit of its own."""
        trial = samples.trial(commit)
        self.keys[name] = key = trial.source.key
        result = self.commit(commit, f"series on {commit}")
        self._git("tag", "-f", "result", result)
        await self.git.fetch(str(self.source), [f"+refs/tags/result:refs/kwatch/checkout/{key}"])

        def put(tx: Transaction) -> int:
            number = trials.put(tx, trial, now=NOW - days * DAY)
            if commit in self.revisions:
                lanes.plan(tx, lanes.number(tx, LANE), self.revisions[commit], number)
            tx.execute(
                "UPDATE trial SET outcome = ?, checkout_key = ?, boot_key = ? WHERE id = ?",
                (outcome, key, f"boot-{name}", number),
            )
            steps.put_artifacts(
                tx, JobKind.BOOT, f"boot-{name}",
                {"console": f"console-{name}", "image": f"image-{name}"},
            )  # fmt: skip
            return number

        self.trials[name] = await self.database.write(put)

    async def regressed(self, good: str, bad: str, *, days: float) -> int:
        """An open regression between two trials of tags; its investigation has ended."""

        def put(tx: Transaction) -> int:
            first, last = (self._run(tx, name) for name in (good, bad))
            opened = Opened(facet=Facet.FAILURE, finding=samples.HANG, good=first, bad=last)
            lane, then = lanes.number(tx, LANE), NOW - days * DAY
            number = regressions.open_regression(tx, lane, opened, now=then)
            investigation = investigations.open_investigation(
                tx, number, Goal.CAUSE, lane=lane, fixed=None, now=then
            )
            assert investigation is not None
            tx.execute(
                "UPDATE investigation SET ended_at = ? WHERE id = ?",
                (NOW - (days - 2) * DAY, investigation),
            )
            return investigation

        return await self.database.write(put)

    def _run(self, tx: Transaction, name: str) -> TagRun:
        number = self.trials[name]
        return lanes.run(tx, self.revisions[trials.load(tx, number).trial.commit], number)

    async def sighted(self, name: str) -> None:
        """The regression shows in this tag too."""

        def sight(tx: Transaction) -> None:
            lane = lanes.number(tx, LANE)
            regressions.sight(tx, 1, lane, self._run(tx, name), now=NOW)

        await self.database.write(sight)

    async def asked(self, investigation: int, name: str) -> None:
        """The investigation asked for this trial."""
        await self.database.write(
            investigations.note_step, investigation, self.trials[name], Phase.BISECT, now=NOW
        )

    async def tidy(self) -> None:
        (self.git.directory / stage.STAMP).unlink(missing_ok=True)
        await stage.run(
            JOB, git=self.git, pool=self.pool, database=self.database, clock=lambda: NOW
        )

    async def refs(self) -> set[str]:
        return {ref.removeprefix("refs/kwatch/") for ref in await self.git.refs("refs/kwatch/")}


async def history_of_a_year(lab: TidyLab) -> dict[str, str]:
    """Tags of a year, one a month, each rebuilt from the root, with a commit in between."""
    root = lab.commit(None, "root")
    found = {}
    for days in (360, 330, 300, 270, 240, 90, 50, 1):
        middle = lab.commit(root, f"middle {days}")
        found[f"m{days}"] = middle
        found[f"n{days}"] = tip = lab.commit(middle, f"tip {days}")
        await lab.tag(f"next-{days}", tip, days=days)
        is_good = days in {360, 270, 90, 50}
        outcome = Outcome.PASS if is_good else Outcome.FAIL
        await lab.tried(tip, outcome, days=days, name=f"n{days}")
    investigation = await lab.regressed("n270", "n240", days=240)
    await lab.tried(found["m240"], Outcome.PASS, days=239, name="m240")
    await lab.asked(investigation, "m240")
    # Nobody who is still interested asked for this one.
    await lab.tried(found["m300"], Outcome.PASS, days=239, name="m300")
    return found
