# SPDX-License-Identifier: GPL-2.0-or-later
"""The first tag of a branch fails: what it is compared with, found in a real repository."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from kwatch.adapters.git import Git
from kwatch.domain.facts import BaselinesFound, Judged
from kwatch.domain.lab.job import JobKind, baseline_key
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Tree
from kwatch.domain.trial.route import Outcome, Settled
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.regression import RegressionState
from kwatch.stages import baseline, judge, watch
from kwatch.store import findings, lanes, motion, recipes, regressions, revisions, trials
from kwatch.store.database import Database
from kwatch.views import overview
from tests.integration.stages.jobs import NOW, claimed, keep, next_of, queued
from tests.lab.gitd import GitServer
from tests.lab.toy.history import git as run_git
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from kwatch.store.database import Transaction


@dataclass(slots=True, kw_only=True)
class Lab:
    """A tree that is based on another, and the lab that watches it."""

    source: Path
    git: Git
    database: Database
    tree: Tree
    lane: int = 0

    def commit(self, name: str, *parents: str) -> str:
        tree = run_git(self.source, "write-tree")
        flags = [flag for parent in parents for flag in ("-p", parent)]
        return run_git(self.source, "commit-tree", *flags, "-m", name, tree)

    def tag(self, name: str, commit: str) -> str:
        run_git(self.source, "tag", "-a", "-m", name, name, commit)
        return commit

    async def look(self) -> None:
        job = await claimed(self.database, JobKind.WATCH, self.tree.name)
        facts = await watch.run(
            job, trees=self._trees, git=self.git, database=self.database, clock=lambda: NOW
        )
        assert facts is not None
        await keep(self.database, job, facts)

    async def find(self, failing: int) -> list[tuple[str, str]]:
        """Look for baselines as the worker does."""
        job = await claimed(self.database, JobKind.BASELINE, baseline_key(self.lane, failing))
        facts = await baseline.run(
            job, trees=self._trees, git=self.git, database=self.database, clock=lambda: NOW
        )
        assert isinstance(facts, BaselinesFound)
        await keep(self.database, job, facts)
        return [(one.tag, one.commit) for one in facts.revisions]

    async def judge(self) -> None:
        """Judge the lane until nothing more comes of it."""
        while str(self.lane) in await queued(self.database, JobKind.JUDGE):
            job = await next_of(self.database, JobKind.JUDGE)
            facts = await judge.run(job, database=self.database)
            assert isinstance(facts, Judged)
            await keep(self.database, job, facts)

    async def settle(self, commit: str, outcome: Outcome) -> None:
        """The trial of a commit is over."""
        await self.database.write(_settle, commit, outcome)

    @property
    def _trees(self) -> dict[str, Tree]:
        return {self.tree.name: self.tree}


def _plan(tx: Transaction, revision: int, commit: str) -> int:
    lane = lanes.number(tx, Lane(tree="next", variant="plain"))
    recipes.put(tx, samples.BUILD, samples.BOOT)
    trial = samples.trial(commit)
    lanes.plan(tx, lane, revision, trials.put(tx, trial, now=NOW))
    motion.want(tx, trial, JobKind.JUDGE, str(lane), now=NOW)
    return lane


def _settle(tx: Transaction, commit: str, outcome: Outcome) -> None:
    (number,) = (
        row["id"]
        for row in tx.execute(
            "SELECT trial.id FROM trial JOIN source ON source.key = source WHERE base = ?"
            " AND outcome IS NULL",
            (commit,),
        )
    )
    failed = samples.failed(samples.HANG, Milestone.LINKED)
    seen = failed if outcome is Outcome.FAIL else replace(samples.PASSED, outcome=outcome)
    if seen.finding:
        findings.put(tx, findings.TRIAL, str(number), seen.finding)
    end = Settled(outcome=outcome, milestone=seen.milestone, finding=seen.finding)
    motion.settle(tx, number, end, now=NOW)


@pytest_asyncio.fixture
async def lab(tmp_path: Path, database: Database) -> AsyncIterator[Lab]:
    source = tmp_path / "git" / "next"
    source.mkdir(parents=True)
    run_git(source, "init", "-q", "-b", "stable")
    git = Git(tmp_path / "linux.git")
    await git.create()
    async with GitServer(tmp_path / "git") as server:
        tree = Tree(
            name="next", url=server.url("next"), tags=("next-*",), variants=("plain",),
            base="stable",
        )  # fmt: skip
        yield Lab(source=source, git=git, database=database, tree=tree)


async def mainline(lab: Lab) -> tuple[dict[str, str], int]:
    """v6.16, v6.17-rc1, a commit after it, and next based on that; a later rc is not in it."""
    known = {"v6.16": lab.tag("v6.16", lab.commit("6.16"))}
    known["v6.17-rc1"] = lab.tag("v6.17-rc1", lab.commit("rc1", known["v6.16"]))
    known["fork"] = lab.commit("fix", known["v6.17-rc1"])
    known["topic"] = lab.commit("topic", known["v6.16"])
    known["next"] = lab.tag("next-20251117", lab.commit("next", known["fork"], known["topic"]))
    newer = lab.tag("v6.17-rc2", lab.commit("rc2", known["fork"]))
    run_git(lab.source, "update-ref", "refs/heads/stable", newer)
    await lab.look()
    number = await lab.database.read(revisions.find, "next", "next-20251117")
    assert number is not None
    lab.lane = await lab.database.write(_plan, number, known["next"])
    return known, number


async def test_what_a_tag_contains_is_found(lab: Lab) -> None:
    known, number = await mainline(lab)
    fork = known["fork"]
    assert await lab.find(number) == [
        (f"stable-g{fork[:12]}", fork),
        ("v6.17-rc1", known["v6.17-rc1"]),
        ("v6.16", known["v6.16"]),
    ]
    # None of it is a tag that is watched.
    assert await lab.database.read(revisions.known_tags, "next") == {"next-20251117": known["next"]}
    assert [one.tag for _, one in await lab.database.read(revisions.newest)] == ["next-20251117"]
    assert len(await lab.database.read(revisions.newest_first, "next")) == 1


async def test_a_baseline_that_is_watched_later_is_a_tag_like_others(lab: Lab) -> None:
    known, number = await mainline(lab)
    await lab.find(number)
    lab.tree = replace(lab.tree, tags=("v6.17-rc1",))
    await lab.look()
    commit = known["v6.17-rc1"]
    assert (await lab.database.read(revisions.known_tags, "next"))["v6.17-rc1"] == commit
    # And stays one if it is a baseline again.
    lab.lane = await lab.database.write(
        lambda tx: lanes.number(tx, Lane(tree="next", variant="other"))
    )
    await lab.find(number)
    assert (await lab.database.read(revisions.known_tags, "next"))["v6.17-rc1"] == commit


async def test_a_base_that_is_not_there_is_left_out(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    known, number = await mainline(lab)
    lab.tree = replace(lab.tree, base="stabel")
    with caplog.at_level(logging.WARNING):
        found = await lab.find(number)
    assert [name for name, _ in found] == ["v6.17-rc1", "v6.16"]
    assert "has no branch stabel" in caplog.text
    assert known["v6.16"] == found[-1][1]


async def test_one_after_the_other_is_tried_until_one_passes(lab: Lab) -> None:
    known, number = await mainline(lab)
    await lab.settle(known["next"], Outcome.FAIL)
    await lab.judge()
    assert await queued(lab.database, JobKind.BASELINE) == [baseline_key(lab.lane, number)]
    await lab.find(number)
    for name, outcome in (("fork", Outcome.FAIL), ("v6.17-rc1", Outcome.INFRA)):
        await lab.judge()
        assert await lab.database.read(regressions.newest_first) == ()
        await lab.settle(known[name], outcome)
    await lab.judge()
    await lab.settle(known["v6.16"], Outcome.PASS)
    await lab.judge()
    (found,) = await lab.database.read(regressions.newest_first)
    assert (found.state, found.good.tag, found.bad.tag) == (
        RegressionState.SUSPECTED, "v6.16", "next-20251117",
    )  # fmt: skip
    revision = await lab.database.read(revisions.load, number)
    lines = await lab.database.read(overview.baselines, revision)
    assert [(one.variant, one.name, one.outcome) for one in lines] == [
        ("plain", f"stable-g{known['fork'][:12]}", Outcome.FAIL),
        ("plain", "v6.17-rc1", Outcome.INFRA),
        ("plain", "v6.16", Outcome.PASS),
    ]


async def test_nothing_is_opened_if_all_of_them_fail(lab: Lab) -> None:
    known, number = await mainline(lab)
    await lab.settle(known["next"], Outcome.FAIL)
    await lab.judge()
    await lab.find(number)
    for name in ("fork", "v6.17-rc1", "v6.16"):
        await lab.judge()
        await lab.settle(known[name], Outcome.FAIL)
    await lab.judge()
    assert await lab.database.read(regressions.newest_first) == ()
    # It is not looked for again.
    assert await queued(lab.database, JobKind.BASELINE) == []
