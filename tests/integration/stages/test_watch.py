# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree on a real git server: tags that are new, missed, moved and moved back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.adapters.git import Git
from kwatch.domain.facts import Watched
from kwatch.domain.lab.job import JobKind
from kwatch.domain.source.revision import Tree
from kwatch.errors import InfraError
from kwatch.stages import watch
from kwatch.store import cursors, revisions
from kwatch.store.database import Database
from tests.integration.stages.jobs import NOW, claimed, keep, queued
from tests.lab.gitd import GitServer
from tests.lab.toy.history import git as run_git

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True, kw_only=True)
class Lab:
    """A tree that is served, and the lab that watches it."""

    server: GitServer
    source: Path
    git: Git
    database: Database
    tree: Tree
    now: float = NOW

    def clock(self) -> float:
        self.now += 60
        return self.now

    def commit(self, name: str) -> str:
        """A commit that is no child of another, as linux-next's tags are."""
        tree = run_git(self.source, "write-tree")
        return run_git(self.source, "commit-tree", "-m", name, tree)

    def tag(self, name: str, commit: str | None = None, *, annotated: bool = True) -> str:
        found = commit or self.commit(name)
        form = ["-a", "-m", name] if annotated else []
        run_git(self.source, "tag", "-f", *form, name, found)
        return found

    async def look(self, key: str = "next") -> list[tuple[str, str]]:
        """Look at the tree as the worker does; the tags and commits that are news."""
        job = await claimed(self.database, JobKind.WATCH, key)
        facts = await watch.run(
            job,
            trees={self.tree.name: self.tree},
            git=self.git,
            database=self.database,
            clock=self.clock,
        )
        assert isinstance(facts, Watched)
        await keep(self.database, job, facts)
        return [(one.tag, one.commit) for one in facts.revisions]


@pytest_asyncio.fixture
async def lab(tmp_path: Path, database: Database) -> AsyncIterator[Lab]:
    source = tmp_path / "git" / "next"
    source.mkdir(parents=True)
    run_git(source, "init", "-q")
    git = Git(tmp_path / "linux.git")
    await git.create()
    async with GitServer(tmp_path / "git") as server:
        tree = Tree(name="next", url=server.url("next"), tags=("next-*",), variants=())
        yield Lab(server=server, source=source, git=git, database=database, tree=tree)


async def test_the_first_look_takes_the_newest(lab: Lab) -> None:
    assert await lab.look() == []
    for day in (14, 15):
        lab.tag(f"next-202611{day}")
    newest = lab.tag("next-20261116")
    lab.tag("v6.12")
    assert await lab.look() == [("next-20261116", newest)]
    assert await lab.look() == []
    assert await lab.git.resolve(f"refs/kwatch/keep/{newest}") == newest
    assert await lab.git.resolve(f"{newest}^{{tree}}") is not None
    (number, revision), *_ = await lab.database.read(revisions.newest)
    assert (revision.tag, revision.seen_at) == ("next-20261116", lab.now)
    assert await queued(lab.database, JobKind.PLAN) == [str(number)]


async def test_tags_that_were_missed_are_taken_in_their_order(lab: Lab) -> None:
    lab.tag("next-20261113")
    await lab.look()
    commits = [(name, lab.tag(name)) for name in ("next-20261118", "next-20261117")]
    assert await lab.look() == sorted(commits)
    # One that was there before the first look stays out.
    lab.tag("next-20261112")
    assert await lab.look() == []
    # One that came late, in between.
    late = lab.tag("next-20261114")
    assert await lab.look() == [("next-20261114", late)]


async def test_light_and_annotated_tags_lead_to_commits(lab: Lab) -> None:
    light = lab.tag("next-20261116", annotated=False)
    assert await lab.look() == [("next-20261116", light)]
    # An exact pattern does not match what the tag leads to, by itself.
    lab.tree = Tree(name="next", url=lab.tree.url, tags=("next-20261117",), variants=())
    commit = lab.tag("next-20261117")
    assert await lab.look() == [("next-20261117", commit)]
    assert await lab.look() == []


async def test_a_tag_that_moves_is_tested_anew_and_what_it_was_stays(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    old = lab.tag("next-20261116")
    await lab.look()
    new = lab.tag("next-20261116", lab.commit("rebuilt"))
    assert old != new
    assert await lab.look() == [("next-20261116", new)]
    assert f"moved from {old[:12]} to {new[:12]}" in caplog.text
    assert await lab.look() == []
    await lab.git.run("gc", "--quiet", "--prune=now")
    for commit in (old, new):
        assert await lab.git.resolve(f"{commit}^{{commit}}") == commit
    # Back again: told once, not at every look.
    lab.tag("next-20261116", old)
    await lab.look()
    caplog.clear()
    assert await lab.look() == []
    assert caplog.text == ""


async def test_a_tag_that_is_taken_away_is_forgotten_by_nobody(lab: Lab) -> None:
    lab.tag("next-20261115")
    await lab.look()
    lab.tag("next-20261116")
    await lab.look()
    run_git(lab.source, "tag", "-d", "next-20261116")
    assert await lab.look() == []
    assert "next-20261116" in await lab.database.read(revisions.known_tags, "next")


async def test_a_kill_before_the_facts_are_stored_loses_nothing(lab: Lab) -> None:
    commit = lab.tag("next-20261116")
    job = await claimed(lab.database, JobKind.WATCH, "next")
    await watch.run(job, trees={"next": lab.tree}, git=lab.git, database=lab.database,
                    clock=lambda: NOW)  # fmt: skip
    await lab.database.write(lambda tx: tx.execute("DELETE FROM job"))
    assert await lab.look() == [("next-20261116", commit)]


async def test_a_server_that_is_away_is_the_labs_trouble(lab: Lab) -> None:
    await lab.server.stop()
    with pytest.raises(InfraError, match="unable to connect"):
        await lab.look()
    await lab.server.start()
    await lab.database.write(lambda tx: tx.execute("DELETE FROM job"))
    assert await lab.look() == []
    (source,) = await lab.database.read(cursors.sources)
    assert (source.name, source.error) == ("tree:next", None)


async def test_a_tree_that_is_no_longer_configured(lab: Lab) -> None:
    job = await claimed(lab.database, JobKind.WATCH, "gone")
    assert await watch.run(job, trees={"next": lab.tree}, git=lab.git, database=lab.database,
                           clock=lambda: NOW) is None  # fmt: skip
