# SPDX-License-Identifier: GPL-2.0-or-later
"""The claim gives turns to those whom the wants in the database name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.lab.fairness import Start, Turns
from kwatch.domain.lab.job import RESOURCE, Handle, Job, JobKind, Party, Purpose, Resource
from kwatch.domain.source.revision import Revision
from kwatch.domain.verdict.judge import Opened
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Goal
from kwatch.engine.worker import Worker
from kwatch.store import (
    investigations,
    lanes,
    motion,
    queue,
    recipes,
    regressions,
    revisions,
    trials,
)
from kwatch.store.database import Database, transaction
from tests.integration.store.world import World
from tests.unit.domain.trials import BOOT, BUILD, HANG, VARIANT, trial

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path


class Desk:
    """A queue in which tags and investigations of several trees want checkouts."""

    def __init__(self, connection: sqlite3.Connection, slots: int = 1) -> None:
        self.tx = connection
        self.now = 0.0
        self.turns = Turns(slots={Resource.GIT: slots})
        self.investigations: dict[str, str] = {}
        recipes.put(connection, BUILD, BOOT)

    def tag(self, tree: str, commit: str) -> None:
        self._want(commit, JobKind.JUDGE, str(self._lane(tree)))

    def search(self, tree: str, commit: str) -> None:
        if tree not in self.investigations:
            self.investigations[tree] = self._investigation(tree)
        self._want(commit, JobKind.INVESTIGATE, self.investigations[tree])

    def _want(self, commit: str, kind: JobKind, key: str) -> None:
        self.now += 1
        motion.want(self.tx, trial(commit), kind, key, now=self.now)

    def _lane(self, tree: str) -> int:
        return lanes.number(self.tx, Lane(tree=tree, variant=VARIANT.name))

    def _investigation(self, tree: str) -> str:
        revision = revisions.add(
            self.tx, Revision(tree=tree, tag="t", commit=f"tag of {tree}", seen_at=0.0)
        )
        number = trials.put(self.tx, trial(f"tag of {tree}"), now=0.0)
        run = lanes.run(self.tx, revision, number)
        opened = regressions.open_regression(
            self.tx,
            self._lane(tree),
            Opened(facet=Facet.FAILURE, finding=HANG, good=run, bad=run),
            now=0.0,
        )
        # Numbers of investigations and of regressions are not the same.
        found = investigations.open_investigation(
            self.tx, opened, Goal.CAUSE, lane=self._lane(tree), fixed=None, now=0.0
        )
        return str(found)

    def claim(self) -> Job:
        self.now += 1
        job = queue.claim(self.tx, tuple(JobKind), now=self.now, turns=self.turns)
        assert job is not None
        assert job.party is not None
        self.turns = self.turns.after(RESOURCE[job.kind], Start(party=job.party, at=self.now))
        return job

    def work(self) -> Party:
        """Claim the next step and be done with it at once."""
        job = self.claim()
        assert job.party is not None
        queue.finish(self.tx, job, now=self.now)
        return job.party


def tag(tree: str) -> Party:
    return Party(tree=tree, purpose=Purpose.TAG)


def search(tree: str) -> Party:
    return Party(tree=tree, purpose=Purpose.SEARCH)


@pytest.fixture
def desk() -> Iterator[Desk]:
    world = World()
    yield Desk(world.connection)
    world.connection.close()


def test_a_new_tag_goes_before_the_next_step_of_a_bisection(desk: Desk) -> None:
    desk.search("next", "a")
    assert desk.work() == search("next")
    desk.search("next", "b")
    desk.search("next", "c")
    desk.tag("next", "d")
    assert [desk.work() for _ in range(3)] == [tag("next"), search("next"), search("next")]


def test_trees_take_turns_in_tags_and_in_searches(desk: Desk) -> None:
    for commit in "abc":
        desk.tag("next", commit)
        desk.search("next", f"{commit}1")
    desk.tag("mainline", "d")
    desk.search("mainline", "e")
    assert [desk.work() for _ in range(4)] == [
        tag("next"), search("next"), tag("mainline"), search("mainline"),
    ]  # fmt: skip


def test_what_a_tag_wants_as_well_is_no_search(desk: Desk) -> None:
    desk.search("next", "a")
    desk.search("next", "b")
    desk.tag("mainline", "b")
    assert [desk.work() for _ in range(2)] == [tag("mainline"), search("next")]


def test_a_search_does_not_take_over_what_is_a_tags(desk: Desk) -> None:
    desk.tag("mainline", "a")
    desk.search("next", "a")
    assert desk.work() == tag("mainline")


def test_those_that_run_are_counted(desk: Desk) -> None:
    desk.turns = Turns(slots={Resource.GIT: 4})
    for commit in "abcdef":
        desk.search("next", commit)
        desk.tag("next", f"{commit}1")
    found = [desk.claim().party for _ in range(6)]
    # Two searches run, which is their quota.
    assert found == [tag("next"), search("next"), tag("next"), search("next"), *[tag("next")] * 2]
    desk.turns = replace(desk.turns, slots={Resource.GIT: 8})
    assert desk.claim().party == search("next")


def test_an_interrupted_command_goes_first_whosever_it_is(desk: Desk) -> None:
    desk.search("next", "a")
    job = desk.claim()
    queue.remember(desk.tx, job, Handle(host="kvm1", run_id="r", slot=0))
    desk.tag("next", "b")
    queue.recover(desk.tx, now=desk.now)
    assert desk.claim().id == job.id


def test_what_nobody_wants_any_more_is_no_obstacle(desk: Desk) -> None:
    desk.search("next", "a")
    desk.tx.execute("DELETE FROM want")
    # On behalf of the one that it was queued for.
    assert desk.work() == search("next")


def test_an_investigation_finds_its_tree_by_its_own_number(desk: Desk) -> None:
    for tree in ("next", "mainline", "stable"):
        desk.search(tree, f"of-{tree}")
    # The second of a regression: numbers are no longer the same.
    desk.tx.execute("UPDATE investigation SET ended_at = 1.0 WHERE regression_id = 1")
    later = investigations.open_investigation(desk.tx, 1, Goal.CAUSE, lane=1, fixed=None, now=2.0)
    desk.investigations["next"] = str(later)
    desk.search("next", "again")
    assert [desk.work().tree for _ in range(4)] == ["next", "mainline", "stable", "next"]


async def test_the_worker_gives_turns(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "history.sqlite")
    order: list[Party | None] = []
    worker: list[asyncio.Task[None]] = []

    def ask(tx: sqlite3.Connection) -> None:
        desk = Desk(tx)
        for number in range(4):
            desk.search("next", f"s{number}")
        for number in range(4):
            desk.tag("next", f"t{number}")

    async def stage(job: Job) -> None:
        order.append(job.party)
        if len(order) == 8:
            worker[0].cancel()

    await database.write(ask)
    running = Worker(
        database=database, stages={JobKind.CHECKOUT: stage}, slots={Resource.GIT: 1},
        clock=lambda: time.time() + 10, jitter=lambda: 0.5,
    )  # fmt: skip
    worker.append(asyncio.ensure_future(running.run()))
    async with asyncio.timeout(30):
        with contextlib.suppress(asyncio.CancelledError):
            await worker[0]
    await database.close()
    assert order == [tag("next"), search("next")] * 4


def test_a_long_queue_is_no_burden(desk: Desk) -> None:
    with transaction(desk.tx):
        for number in range(1000):
            desk.search("next", f"s{number}")
            desk.tag("next", f"t{number}")
    begin = time.perf_counter()
    with transaction(desk.tx):
        desk.claim()
    took = time.perf_counter() - begin
    print(f"a claim among 2000 waiting steps: {took * 1000:.1f} ms")
    assert took < 0.5
