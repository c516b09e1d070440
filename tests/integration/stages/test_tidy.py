# SPDX-License-Identifier: GPL-2.0-or-later
"""The nightly tidy over a real history, a real repository and a real host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.git import Git
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.adapters.kernel import kbuild
from kwatch.domain.facts import ListMail
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.lab.job import WHOLE, Job, JobKind
from kwatch.domain.source.message import MailKind
from kwatch.domain.source.posting import PostingMail
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import Series
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.investigation import Goal, Phase
from kwatch.domain.verdict.judge import Opened
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.problem import Facet
from kwatch.stages import tidy as stage
from kwatch.store import (
    inbox,
    investigations,
    lanes,
    queue,
    recipes,
    regressions,
    revisions,
    series,
    steps,
    tidy,
    trials,
)
from kwatch.store.database import Database
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.database import Transaction

DAY = 86400.0
NOW = time.time()
JOB = Job(id=1, kind=JobKind.TIDY, key=WHOLE, attempt=1, failures=0)
TREE = "next"
LANE = Lane(tree=TREE, variant=samples.VARIANT.name)


class Lab:
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
                tx, number, Goal.CAUSE, fixed=None, now=then
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


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    database = await Database.open(tmp_path / "history.sqlite")
    await database.write(recipes.put, samples.BUILD, samples.BOOT)
    source = tmp_path / "source"
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    git = Git(tmp_path / "linux.git")
    await git.create()
    host = HostSpec(
        name="here", directory=str(tmp_path / "host"), arch="x86_64", slots={Slot.BUILD: 1}
    )
    pool = Pool([Host(host)], clock=time.time)
    await pool.admit("here")
    yield Lab(git, database, source, pool)
    await pool.close()
    await database.close()


async def history_of_a_year(lab: Lab) -> dict[str, str]:
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


async def test_only_refs_that_something_needs_are_kept(lab: Lab) -> None:
    found = await history_of_a_year(lab)
    await lab.tidy()
    kept = {270, 240, 50, 1}  # an open regression, and the last 60 days with the newest good one
    assert await lab.refs() == {
        *(f"{TREE}/next-{days}" for days in kept),
        *(f"keep/{found[f'n{days}']}" for days in kept),
        *(f"checkout/{lab.keys[name]}" for name in ("n270", "n240", "n50", "n1", "m240")),
    }
    # Suspects of the open regression can be listed and checked out.
    assert set(await lab.git.suspects(found["n240"], [found["n270"]])) == {
        found["n240"], found["m240"],
    }  # fmt: skip
    await lab.git.run("fsck", "--full", "--strict")
    before = await lab.refs()
    await lab.tidy()
    assert await lab.refs() == before


async def test_what_is_under_way_is_kept(lab: Lab) -> None:
    commit = lab.commit(None, "fetched, and not recorded yet")
    lab._git("tag", "next-0", commit)
    await lab.git.fetch(str(lab.source), [f"+refs/tags/next-0:refs/kwatch/{TREE}/next-0"])
    await lab.git.pin(f"refs/kwatch/keep/{commit}", commit)
    await lab.git.pin("refs/kwatch/checkout/key", commit)
    await lab.git.pin("refs/kwatch/seed/next/heads/master", commit)
    before = await lab.refs()
    for kind, key in ((JobKind.WATCH, TREE), (JobKind.CHECKOUT, "key")):
        await lab.database.write(queue.enqueue, kind, key, now=NOW)
    await lab.tidy()
    assert await lab.refs() == before
    await lab.database.write(lambda tx: tx.execute("DELETE FROM job"))
    await lab.tidy()
    assert await lab.refs() == {"seed/next/heads/master"}


async def test_the_commit_graph_serves_bisections(lab: Lab) -> None:
    commits = [lab.commit(None, "0")]
    for number in range(1, 40):
        commits.append(lab.commit(commits[-1], str(number)))
    await lab.tag("next-1", commits[0], days=2)
    await lab.tag("next-2", commits[-1], days=1)
    expected = await lab.git.suspects(commits[-1], [commits[0]])
    assert list(expected) == commits[:0:-1]
    await lab.tidy()
    chain = lab.git.directory / "objects/info/commit-graphs/commit-graph-chain"
    assert chain.exists()
    await lab.git.run("commit-graph", "verify")
    assert await lab.git.suspects(commits[-1], [commits[0]]) == expected
    # What is fetched later is added to it.
    commits.append(lab.commit(commits[-1], "40"))
    await lab.tag("next-3", commits[-1], days=0)
    await lab.git.write_commit_graph()
    await lab.git.run("commit-graph", "verify")
    assert len(await lab.git.suspects(commits[-1], [commits[0]])) == 40


async def test_a_locked_commit_graph_stops_neither_fetches_nor_the_tidy(lab: Lab) -> None:
    lock = lab.git.directory / "objects/info/commit-graphs/commit-graph-chain.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    commit = lab.commit(None, "root")
    await lab.tag("next-1", commit, days=1)
    await lab.git.write_commit_graph()
    await lab.tidy()
    assert await lab.git.resolve(f"refs/kwatch/{TREE}/next-1") == commit


async def test_all_loose_refs_and_small_packs_become_few_files(lab: Lab) -> None:
    await history_of_a_year(lab)
    await lab.tidy()
    assert [path for path in lab.git.directory.glob("refs/kwatch/**/*") if path.is_file()] == []
    packs = list(lab.git.directory.glob("objects/pack/*.pack"))
    assert len(packs) <= 2  # what is reachable, and what is not old enough to be deleted
    await lab.git.run("fsck", "--full", "--strict")


async def test_rows_of_the_past_are_deleted_and_no_others(lab: Lab) -> None:
    def put(tx: Transaction) -> None:
        for number, (kind, state, days) in enumerate(
            [("watch", "done", 20), ("watch", "done", 10), ("build", "dead", 400),
             ("build", "dead", 300), ("boot", "queued", 400), ("watch", "dropped", 1)]
        ):  # fmt: skip
            ended = None if state == "queued" else NOW - days * DAY
            tx.execute(
                "INSERT INTO job (id, kind, key, state, run_after, created_at, ended_at)"
                " VALUES (?, ?, 'k', ?, 0, 0, ?)", (number, kind, state, ended),
            )  # fmt: skip
        for name, days in (("old", 91), ("root", 91), ("new", 89)):
            inbox.keep(tx, "list", [list_mail(name, at=NOW - days * DAY)])
        held = Series(
            name="s", digest="d", title="t", origin="root", patches=1, accepted_by=None,
            posted_at=0.0,
        )  # fmt: skip
        series.put(tx, held, b"")

    await lab.database.write(put)
    await lab.tidy()
    left = await lab.database.read(
        lambda tx: [row["id"] for row in tx.execute("SELECT id FROM job ORDER BY id")]
    )
    assert left == [1, 3, 4, 5]
    rows = await lab.database.read(
        lambda tx: tx.execute(
            "SELECT message_id FROM posting_mail UNION ALL SELECT message_id FROM posting_raw"
            " UNION ALL SELECT message_id FROM posting_list"
            " UNION ALL SELECT message_id FROM posting_key"
        ).fetchall()
    )
    assert {row["message_id"] for row in rows} == {"root", "new"}


def list_mail(name: str, *, at: float) -> ListMail:
    """A patch that came at a moment."""
    header = PostingMail(
        digest=name, message_id=name, in_reply_to=None, references=(), from_name="A",
        from_address="a@example.org", subject=f"[PATCH] {name}", date=None,
        received_at=datetime.fromtimestamp(at, UTC), kind=MailKind.PATCH, prefixes=(), title=name,
        index=1, total=1, version=1, has_diff=True, new_files=(), links=(), change_id=None,
        base_commit=None,
    )  # fmt: skip
    return ListMail(header=header, raw=b"raw")


async def test_evidence_of_an_open_regression_is_protected(lab: Lab) -> None:
    await history_of_a_year(lab)
    protected = await lab.database.read(tidy.protected)
    assert protected == {"console-n270", "console-n240", "console-m240"}
    # So is that of every tag in which it was seen.
    await lab.sighted("n300")
    assert await lab.database.read(tidy.protected) == protected | {"console-n300"}
    await lab.database.write(lambda tx: tx.execute("UPDATE regression SET state = 'fixed'"))
    assert await lab.database.read(tidy.protected) == frozenset()


async def test_a_host_forgets_old_commits(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kbuild, "KNOWN", 2)
    (host,) = lab.pool.hosts.values()
    commits: list[str] = []
    for number in range(5):
        commits.append(lab.commit(commits[-1] if commits else None, f"c{number}"))
        await lab.tag(f"next-{number}", commits[-1], days=5 - number)
        await kbuild.push(lab.git, host, commits[-1])
    await lab.tidy()
    there = Git(Path(await host.account.path("linux.git")))
    assert len(await there.refs("refs/kwatch/have/")) == 2
    assert len(list(there.directory.glob("objects/pack/*.pack"))) == 1
    # What it forgot can be built again.
    repository = await kbuild.push(lab.git, host, commits[0])
    slot = await kbuild.slot(host, 0, recipe="r", cache=None, tools={})
    await kbuild.fill(host, slot, repository, commits[0], is_fresh=False)
    assert (Path(slot.source) / "file").read_text() == "c0"


async def test_a_restart_does_not_tidy_again(lab: Lab) -> None:
    await lab.tidy()
    before = (lab.git.directory / "objects/pack").stat().st_mtime_ns
    await stage.run(JOB, git=lab.git, pool=lab.pool, database=lab.database, clock=lambda: NOW)
    assert (lab.git.directory / "objects/pack").stat().st_mtime_ns == before
    assert (lab.git.directory / stage.STAMP).exists()


# What a daemon does that is killed while it tidies.
KILLED = """
import asyncio, sys, time
from pathlib import Path
from kwatch.adapters.git import Git
from kwatch.adapters.host.pool import Pool
from kwatch.domain.lab.job import Job, JobKind
from kwatch.stages import tidy
from kwatch.store.database import Database

async def main():
    database = await Database.open(Path(sys.argv[1]))
    print("go", flush=True)
    job = Job(id=1, kind=JobKind.TIDY, key="all", attempt=1, failures=0)
    await tidy.run(job, git=Git(Path(sys.argv[2])), pool=Pool([], clock=time.time),
                   database=database, clock=time.time)
    await database.close()

asyncio.run(main())
"""


async def test_a_kill_at_any_instant_loses_nothing(lab: Lab) -> None:
    found = await history_of_a_year(lab)
    argv = [sys.executable, "-c", KILLED, str(lab.database.path), str(lab.git.directory)]
    root = str(Path(__file__).parents[3])
    for milliseconds in (0, 5, 10, 20, 30, 40, 60, 80, 120, 200):
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"go\n"
        await asyncio.sleep(milliseconds / 1000)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        await lab.git.clear_locks()  # as each start of the daemon does
        await lab.git.run("fsck", "--full", "--strict")
        for name in ("n270", "n240", "m240", "n50", "n1"):
            assert await lab.git.resolve(f"{found[name]}^{{tree}}"), name
            assert await lab.git.resolve(f"refs/kwatch/checkout/{lab.keys[name]}"), name
    await lab.tidy()
    assert len(await lab.refs()) == 13
