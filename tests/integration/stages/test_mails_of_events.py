# SPDX-License-Identifier: GPL-2.0-or-later
"""The mails that the real stages write about a generated history, over a real repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from kwatch.adapters.git import Git
from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.mail.story import Correspondence, Release, ReportKind
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.source.revision import Tree
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.case import GIVE_UP
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.regression import RegressionState
from kwatch.stages import investigate
from kwatch.stages.report import stage as report
from kwatch.store import investigations, mail, regressions, series, steps
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database, transaction
from tests.integration.store.world import TREE, Bug, Kind, World
from tests.unit.domain.trials import MBOX, SERIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.domain.facts import Facts
    from kwatch.domain.verdict.regression import Regression
    from kwatch.store.mail import StoredMail

OWNER, LIST, AUTHOR, PEOPLE = (
    f"{name}@example.org" for name in ("owner", "list", "commit.author", "people")
)
LAB = Correspondence(
    from_name="kwatch", from_address="kwatch@lab.example.org", message_id_domain="lab.example.org",
    owner=OWNER, tree_mail_to=(LIST,), series_mail_to=(PEOPLE,), release=Release.AUTOMATIC,
)  # fmt: skip
MAINLINE = replace(LAB, tree_mail_to=("mainline.list@example.org",))
NAMES = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", AUTHOR), ("DATE", "1800000000 +0000"))
}


@dataclass(slots=True, kw_only=True)
class Desk:
    """A world whose commits are in git, with the real stages that read them."""

    world: World
    database: Database
    blobs: Blobs
    git: Git
    source: Path
    tags: int = 0
    failing: Callable[[Job], bool] = field(default=lambda _: False)

    def run_git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.source), *words], env=NAMES, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def commit(self, *parents: str, path: str = "kernel/fork.c") -> str:
        """One more commit, on ``parents`` or on the newest one, that changes ``path``."""
        over = parents or tuple(self.world.commits[-1:])
        number = len(self.world.commits)
        blob = self.source / "content"
        blob.write_text(f"{number}\n")
        if over:
            self.run_git("read-tree", over[0])
        digest = self.run_git("hash-object", "-w", str(blob))
        self.run_git("update-index", "--add", "--cacheinfo", f"100644,{digest},{path}")
        tree = self.run_git("write-tree")
        words = [word for one in over for word in ("-p", one)]
        made = self.run_git("commit-tree", tree, *words, "-m", f"change {number}")
        self.world.parents[made] = over
        self.world.commits.append(made)
        return made

    async def tag(self, tree: str = TREE) -> None:
        """Upstream tags the newest commit, with all that comes of it."""
        self.tags += 1
        tag = f"{'next-' if tree == TREE else 'v'}{self.tags}"
        self.run_git("tag", tag, self.world.commits[-1])
        await self.git.fetch(str(self.source), ["+refs/tags/*:refs/kwatch/next/*"])
        self.world.tag(tag, tree=tree)
        await self.settle()

    async def settle(self) -> None:
        while job := self.world.claim():
            if self.failing(job):
                self.world.fail(replace(job, failures=9))
            else:
                self.world.record(job, await self._work(job))
            self.world.check()

    async def _work(self, job: Job) -> Facts | None:
        if job.kind is JobKind.INVESTIGATE:
            return await investigate.run(job, git=self.git, database=self.database, slots=1)
        if job.kind is JobKind.REPORT:
            return await report.run(
                job,
                trees={
                    name: Tree(name=name, url=f"u-{name}", tags=("*",), variants=("cov", "plain"))
                    for name in (TREE, "mainline")
                },
                correspondence=lambda tree, _: LAB if tree == TREE else MAINLINE,
                git=self.git, blobs=self.blobs,
                database=self.database, token=lambda: "tok1", status_url="https://lab.example.org",
            )  # fmt: skip
        return self.world.work(job)

    @property
    def regression(self) -> Regression:
        (found,) = regressions.newest_first(self.world.connection)
        return found

    @property
    def is_fixed(self) -> bool:
        return self.regression.state is RegressionState.FIXED

    @property
    def grade(self) -> Grade | None:
        cause = investigations.of_regression(self.world.connection, self.regression.id)[0]
        assert cause.answer is not None
        return cause.answer.grade

    @property
    def mails(self) -> list[StoredMail]:
        return list(mail.thread(self.world.connection, of_regression(self.regression.id)))

    def text(self, one: StoredMail) -> str:
        """A mail in one line."""
        parsed = message_from_bytes(one.message, policy=policy.default)
        body = parsed.get_body(("plain",))
        assert body is not None
        return " ".join(str(body.get_content()).split())


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    world = World.on_disk(tmp_path)
    assert world.path is not None
    database = await Database.open(world.path)
    blobs = Blobs(tmp_path / "blobs", database=database, budget=1 << 30, clock=lambda: world.now)
    source = tmp_path / "source"
    source.mkdir()
    clone = Git(tmp_path / "linux.git")
    await clone.create()
    with transaction(world.connection):
        for number in (1, 2):
            one = replace(SERIES, digest=f"s{number}", title=f"coverage v{number}")
            series.put(world.connection, one, MBOX)
    desk = Desk(world=world, database=database, blobs=blobs, git=clone, source=source)
    desk.run_git("init", "-q")
    yield desk
    await database.close()
    world.connection.close()


def to(one: StoredMail) -> set[str]:
    return set(one.recipients)


async def test_the_author_of_a_verified_commit_is_told(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.HANG, since=2))
    desk.commit()
    await desk.tag()
    for _ in range(3):
        desk.commit()
    await desk.tag()
    new, bisected = desk.mails
    assert desk.grade is Grade.VERIFIED
    assert (to(new), to(bisected)) == ({LIST, OWNER}, {LIST, OWNER, AUTHOR})
    assert "We are bisecting 3 commits" in desk.text(new)
    assert "Confirmed with clean builds:" in desk.text(bisected)


async def test_the_author_of_a_merge_is_not_told(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.HANG, since=3))
    base = desk.commit()
    await desk.tag()
    desk.commit(desk.commit(base), desk.commit(base))
    await desk.tag()
    bisected = desk.mails[-1]
    assert desk.grade is Grade.LIKELY
    assert to(bisected) == {LIST, OWNER}
    assert "not a proven one (it is a merge)" in desk.text(bisected)


async def test_the_author_of_code_of_another_architecture_is_not_told(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.COMPILE, since=1))
    desk.commit()
    await desk.tag()
    desk.commit(path="arch/arm64/kernel/head.S")
    await desk.tag()
    bisected = desk.mails[-1]
    assert desk.grade is Grade.LIKELY
    assert to(bisected) == {LIST, OWNER}
    assert "it changes nothing that is compiled for x86_64" in desk.text(bisected)


async def test_what_is_back_is_told_in_the_same_thread(desk: Desk) -> None:
    bug = Bug(name="a", kind=Kind.PANIC, since=1, until=2)
    desk.world.bugs += [bug, replace(bug, since=3, until=4)]
    for _ in range(5):
        desk.commit()
        await desk.tag()
    kinds = [one.kind for one in desk.mails]
    assert kinds == ["new", "bisected", "fixed", "reappeared", "fixed"]
    back, fixed = desk.mails[3:]
    assert to(back) == {LIST, OWNER, AUTHOR}
    assert desk.text(back).startswith(
        "linux-next shows this again on x86_64 since next-4. It began with next-2 and was fixed in"
        " next-3:"
    )
    assert "1/1" in desk.text(back).partition("tag with it again")[0][-25:]
    assert "in next-5. It had failed again since next-4:" in desk.text(fixed)
    assert len({one.subject.removeprefix("Re: ") for one in desk.mails}) == 1


async def test_what_comes_to_another_tree_and_leaves_one_by_one(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.PANIC, since=1, until=2))
    desk.commit()
    await desk.tag()
    await desk.tag("mainline")
    desk.commit()
    await desk.tag()
    await desk.tag("mainline")
    desk.commit()
    await desk.tag()
    kinds = [one.kind for one in desk.mails]
    assert kinds == ["new", "bisected", "spread", "gone"]
    _, _, spread, gone = desk.mails
    assert to(spread) == {LIST, OWNER, AUTHOR, "mainline.list@example.org"}
    assert desk.text(spread).startswith(
        "mainline shows this as well on x86_64 since v4; v2 does not: panic in a"
    )
    assert "tree mainline, u-mainline last good v2 " in desk.text(spread)
    assert "also in linux-next since next-3" in desk.text(spread)
    assert "also in mainline since v4" in desk.text(gone)
    assert not desk.is_fixed
    await desk.tag("mainline")
    assert desk.mails[-1].kind is ReportKind.FIXED
    assert desk.text(desk.mails[-1]).startswith(
        "mainline completes the tests on x86_64 again in v6"
    )
    assert desk.regression.state is RegressionState.FIXED


async def test_one_tree_is_free_of_it_while_the_first_one_is_not(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.PANIC, since=1, until=2))
    desk.commit()
    await desk.tag()
    await desk.tag("mainline")
    desk.commit()
    await desk.tag()
    await desk.tag("mainline")
    desk.commit()
    await desk.tag("mainline")
    gone = desk.mails[-1]
    assert gone.kind is ReportKind.GONE
    text = desk.text(gone)
    assert text.startswith(
        "mainline completes the tests on x86_64 again in v5. It had failed since v4:"
    )
    assert "first bad v4 " in text
    assert "fixed in v5 " in text
    assert "also in linux-next since next-3" in text


async def test_a_new_warning(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.WARNING, since=1, until=2))
    for _ in range(3):
        desk.commit()
        await desk.tag()
    new, bisected, fixed = desk.mails
    assert desk.text(new).startswith(
        "linux-next prints a new warning on x86_64 since next-2; next-1 does not. warning in a"
    )
    assert "boots print it on this commit" in desk.text(bisected)
    assert desk.text(fixed).startswith("linux-next no longer prints this warning on x86_64 in")


async def test_a_new_toolchain_is_the_operators(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="x", kind=Kind.HANG, axis=Blame.TOOLCHAIN, version=2))
    desk.commit()
    await desk.tag()
    desk.world.environment = 2
    desk.commit()
    await desk.tag()
    (new,) = desk.mails
    assert (new.kind, to(new)) == (ReportKind.NEW, {OWNER})
    text = desk.text(new)
    assert "It comes with the toolchain that we use since next-2: next-1 fails" in text
    assert "last good tag, as tested then" in text
    assert "bisecting" not in text


async def test_a_new_version_of_the_series_is_its_authors(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="x", kind=Kind.COMPILE, axis=Blame.SERIES, version=2))
    desk.commit()
    await desk.tag()
    desk.world.series = 2
    desk.commit()
    await desk.tag()
    (new,) = desk.mails
    assert to(new) == {PEOPLE, OWNER}
    text = desk.text(new)
    assert "It comes with the version of the out-of-tree series" in text
    assert "last good tag, as tested then" in text
    # The earlier version is no kernel without the series.
    assert "last good tag, without the series" not in text


async def test_nobody_but_the_people_of_the_series_hears_of_an_unknown_fault(desk: Desk) -> None:
    desk.world.bugs.append(Bug(name="a", kind=Kind.HANG, since=1, until=3))
    desk.commit()
    await desk.tag()
    desk.commit()

    def is_control(job: Job) -> bool:
        trial = steps.wanted(desk.world.connection, job.kind, job.key)
        return job.kind is JobKind.BOOT and trial is not None and trial.is_control

    desk.failing = is_control
    await desk.tag()
    for _ in range(1, GIVE_UP):
        assert desk.world.recover() > 0
        await desk.settle()
    new, bisected = desk.mails
    assert (to(new), to(bisected)) == ({PEOPLE, OWNER}, {PEOPLE, OWNER})
    assert "We do not know whether the out-of-tree series" in desk.text(new)
    desk.failing = lambda _: False
    for _ in range(2):
        desk.commit()
        await desk.tag()
    assert desk.mails[-1].kind is ReportKind.FIXED
    assert to(desk.mails[-1]) == {PEOPLE, OWNER}


async def test_what_is_hidden_or_began_earlier_is_on_record_only(desk: Desk) -> None:
    desk.world.bugs += [
        Bug(name="a", kind=Kind.HANG, since=1),
        Bug(name="b", kind=Kind.COMPILE, since=3),
    ]
    desk.commit()
    await desk.tag()
    desk.failing = lambda job: job.kind is JobKind.BOOT
    desk.commit()
    await desk.tag()
    desk.failing = lambda _: False
    desk.commit()
    await desk.tag()
    (hang,) = regressions.newest_first(desk.world.connection)
    assert hang.bad.tag == "next-3"
    desk.world.recover()
    await desk.settle()
    desk.commit()
    await desk.tag()
    _, hang = regressions.newest_first(desk.world.connection)
    assert (hang.good.tag, hang.bad.tag) == ("next-1", "next-2")
    events = regressions.timeline(desk.world.connection, hang.id)
    kinds = [one.kind for one in events]
    assert kinds == [
        "opened", "spread", "confirmed", "bisected", "earlier", "earlier", "masked", "masked"
    ]  # fmt: skip
    assert all(one.reported_at for one in events)
    thread = mail.thread(desk.world.connection, of_regression(hang.id))
    assert [one.kind for one in thread] == ["new", "bisected"]
