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
from kwatch.adapters.kernel import caches, kbuild
from kwatch.domain.facts import ListMail
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.lab.job import CACHES, Handle, Job, JobKind
from kwatch.domain.source.message import Mail, MailKind
from kwatch.domain.source.series import Series
from kwatch.domain.verdict.question import Goal, Phase
from kwatch.stages import tidy as stage
from kwatch.store import (
    inbox,
    queue,
    recipes,
    series,
    tidy,
    verifications,
)
from kwatch.store.database import Database
from tests.integration.stages.tidy_lab import DAY, JOB, NOW, TREE, TidyLab, history_of_a_year
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.store.database import Transaction


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[TidyLab]:
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
    yield TidyLab(git, database, source, pool)
    await pool.close()
    await database.close()


async def test_only_refs_that_something_needs_are_kept(lab: TidyLab) -> None:
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


async def test_what_is_under_way_is_kept(lab: TidyLab) -> None:
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


async def test_the_commit_graph_serves_bisections(lab: TidyLab) -> None:
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


async def test_a_locked_commit_graph_stops_neither_fetches_nor_the_tidy(lab: TidyLab) -> None:
    lock = lab.git.directory / "objects/info/commit-graphs/commit-graph-chain.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    commit = lab.commit(None, "root")
    await lab.tag("next-1", commit, days=1)
    await lab.git.write_commit_graph()
    await lab.tidy()
    assert await lab.git.resolve(f"refs/kwatch/{TREE}/next-1") == commit


async def test_all_loose_refs_and_small_packs_become_few_files(lab: TidyLab) -> None:
    await history_of_a_year(lab)
    await lab.tidy()
    assert [path for path in lab.git.directory.glob("refs/kwatch/**/*") if path.is_file()] == []
    packs = list(lab.git.directory.glob("objects/pack/*.pack"))
    assert len(packs) <= 2  # what is reachable, and what is not old enough to be deleted
    await lab.git.run("fsck", "--full", "--strict")


async def test_rows_of_the_past_are_deleted_and_no_others(lab: TidyLab) -> None:
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
    mail = Mail(
        digest=name, message_id=name, in_reply_to=None, references=(), from_name="A",
        from_address="a@example.org", subject=f"[PATCH] {name}", date=None,
        received_at=datetime.fromtimestamp(at, UTC), kind=MailKind.PATCH, prefixes=(), title=name,
        index=1, total=1, version=1, has_diff=True, new_files=(), links=(), change_id=None,
        base_commit=None,
    )  # fmt: skip
    return ListMail(mail=mail, raw=b"raw")


async def test_evidence_of_an_open_regression_is_protected(lab: TidyLab) -> None:
    await history_of_a_year(lab)
    protected = await lab.database.read(tidy.protected)
    assert protected == {"console-n270", "console-n240", "console-m240"}
    # So is that of every tag in which it was seen.
    await lab.sighted("n300")
    assert await lab.database.read(tidy.protected) == protected | {"console-n300"}
    await lab.database.write(lambda tx: tx.execute("UPDATE regression SET state = 'fixed'"))
    assert await lab.database.read(tidy.protected) == frozenset()


async def test_a_host_forgets_old_commits(lab: TidyLab, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_the_caches_of_verifications_that_ended_are_deleted(lab: TidyLab) -> None:
    (host,) = lab.pool.hosts.values()
    slots = Path(await host.account.path("slots"))
    folder = Path(await host.account.path("ccache"))

    def begun(tx: Transaction) -> str:
        before = verifications.alive(tx)
        tx.execute(
            "INSERT INTO investigation (goal, question, phase, opened_at) VALUES (?, '{}', ?, ?)",
            (Goal.CAUSE, Phase.VERIFY, NOW),
        )
        (token,) = verifications.alive(tx) - before
        return token

    def ended(tx: Transaction) -> None:
        tx.execute("UPDATE investigation SET ended_at = ? WHERE id = 1", (NOW,))

    def building(tx: Transaction, run_id: str) -> None:
        queue.enqueue(tx, JobKind.BUILD, run_id, now=NOW)
        job = queue.claim(tx, [JobKind.BUILD], now=NOW)
        assert job is not None
        queue.remember(tx, job, Handle(host="here", run_id=run_id, slot=0))

    async def tidied() -> list[str]:
        job = Job(id=1, kind=JobKind.TIDY, key=CACHES, attempt=1, failures=0)
        await stage.run(job, git=lab.git, pool=lab.pool, database=lab.database, clock=time.time)
        return sorted(path.name for path in folder.iterdir())

    tokens = [await lab.database.write(begun) for _ in range(2)]
    # Such a number was given away before, in a history that is gone.
    tokens.append("0" * 16)
    names = [caches.name(token, "control") for token in tokens]
    for name in (*names, "control", "series-1"):
        (folder / name).mkdir(parents=True)
    (slots / "0").mkdir(parents=True)
    (slots / "0" / "ccache").write_text(f"{names[0]}\n")
    assert await tidied() == sorted([names[0], names[1], "control", "series-1"])
    # A build may go on after the end, for somebody else; a boot uses no cache.
    await lab.database.write(ended)
    await lab.database.write(building, "build-1-1-make")
    assert names[0] in await tidied()
    await lab.database.write(lambda tx: tx.execute("DELETE FROM job"))
    await lab.database.write(building, "boot-1-1")
    assert await tidied() == sorted([names[1], "control", "series-1"])


async def test_a_restart_does_not_tidy_again(lab: TidyLab) -> None:
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


async def test_a_kill_at_any_instant_loses_nothing(lab: TidyLab) -> None:
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
