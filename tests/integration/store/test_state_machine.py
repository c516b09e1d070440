# SPDX-License-Identifier: GPL-2.0-or-later
"""The store under a worker that is killed at any instant, on real SQLite files."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.mail.story import DeliveryState
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.question import Verdict
from kwatch.domain.verdict.regression import RegressionState
from kwatch.errors import LeaseLostError
from kwatch.store import effects, investigations, lanes, motion, queue, regressions
from kwatch.store.database import transaction
from tests.integration.store.world import NEEDS_SERIES, Bug, Kind, World, reopened

if TYPE_CHECKING:
    from kwatch.domain.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A day of commits, of which the last ``bad`` have a bug; 0: of which none has one."""

    commits: int
    bad: int
    name: str
    kind: Kind
    axis: Blame


# Upstream is healthy most of the time.
STRETCHES = st.builds(
    Stretch,
    commits=st.integers(1, 4),
    bad=st.sampled_from([0, 0, 1, 2, 4]),
    name=st.sampled_from("ab"),
    kind=st.sampled_from(Kind),
    axis=st.sampled_from([Blame.TREE, Blame.SERIES]),
)


class KilledError(Exception):
    """The process dies inside a transaction."""


class StateMachine(RuleBasedStateMachine):
    """Two workers, one of which may die; every rule ends with a commit."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kwatch-machine-"))
        self.lab = World.on_disk(self.folder)
        self.running: list[Job] = []
        self.stale: list[Job] = []
        self.found: dict[int, Facts | None] = {}

    def teardown(self) -> None:
        self.lab.connection.close()
        shutil.rmtree(self.folder)

    def _take(self, data: st.DataObject) -> Job:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1), label="job"))

    def _grow(self, stretch: Stretch) -> None:
        if stretch.bad:
            self.lab.bugs.append(
                Bug(
                    name=stretch.name,
                    kind=stretch.kind,
                    axis=stretch.axis,
                    since=len(self.lab.commits) + max(stretch.commits - stretch.bad, 0),
                    until=len(self.lab.commits) + stretch.commits + stretch.bad % 2,
                )
            )
        for _ in range(stretch.commits):
            self.lab.add_commit()
        self.lab.tag(f"next-{len(self.lab.tags) + 1}")

    @initialize(stretch=STRETCHES)
    def a_good_day_and_a_bad_one(self, stretch: Stretch) -> None:
        self.lab.add_commit()
        self.lab.tag("next-1")
        self.lab.run()
        self._grow(replace(stretch, commits=5, bad=3))

    @precondition(lambda self: len(self.lab.tags) < 5)
    @rule(stretch=STRETCHES)
    def upstream_tags(self, stretch: Stretch) -> None:
        self._grow(stretch)

    @precondition(lambda self: len(self.lab.tags) < 5)
    @rule()
    def a_tag_moves(self) -> None:
        self.lab.tag(f"next-{len(self.lab.tags)}", self.lab.add_commit())

    @precondition(lambda self: max(self.lab.series, self.lab.recipe, self.lab.environment) < 3)
    @rule(what=st.sampled_from(["series", "recipe", "environment"]))
    def the_setup_changes(self, what: str) -> None:
        setattr(self.lab, what, getattr(self.lab, what) + 1)

    @precondition(lambda self: max(self.lab.hosts) < 3)
    @rule(number=st.integers(0, 1))
    def a_host_is_upgraded(self, number: int) -> None:
        self.lab.hosts[number] += 1

    @rule(tries=st.one_of(st.none(), st.integers(1, 3)))
    def what_the_lab_failed_at_is_tried_again(self, tries: int | None) -> None:
        self.lab.recover(tries)

    @rule(data=st.data())
    def an_operator_tests_a_tag_again(self, data: st.DataObject) -> None:
        tx = self.lab.connection
        revisions = [row["revision"] for row in self.lab.rows("SELECT revision FROM planned")]
        if revisions:
            revision = data.draw(st.sampled_from(sorted(set(revisions))), label="revision")
            with transaction(tx):
                for lane, trial in lanes.planned(tx, revision):
                    motion.retest(tx, lane, revision, trial, now=self.lab.now)

    @rule()
    def claim(self) -> None:
        job = self.lab.claim()
        if job is not None:
            assert job.id not in {other.id for other in self.running}
            self.running.append(job)

    @rule()
    def two_workers_claim(self) -> None:
        assert self.lab.path is not None
        rival = reopened(self.lab.path)
        try:
            with transaction(rival):
                theirs = queue.claim(rival, tuple(JobKind), now=self.lab.now)
            ours = self.lab.claim()
        finally:
            rival.close()
        found = [job for job in (theirs, ours) if job is not None]
        self.running.extend(found)
        assert len({(job.kind, job.key) for job in self.running}) == len(self.running)

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        lie=st.one_of(st.none(), st.none(), st.sampled_from(Kind)),
        delivery=st.sampled_from(DeliveryState),
    )
    def finish(self, data: st.DataObject, lie: Kind | None, delivery: DeliveryState) -> None:
        job = self._take(data)
        if job.id not in self.found:
            self.found[job.id] = self.lab.work(job, lie=lie, delivery=delivery)
        self.lab.record(job, self.found.pop(job.id))
        self.stale.append(job)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), lie=st.one_of(st.none(), st.sampled_from(Kind)))
    def work(self, data: st.DataObject, lie: Kind | None) -> None:
        """The stage is through; by the time its facts are recorded, the world may be another."""
        job = data.draw(st.sampled_from(self.running))
        self.found[job.id] = self.lab.work(job, lie=lie)

    @rule(steps=st.integers(1, 12))
    def go_on(self, steps: int) -> None:
        """A while without trouble."""
        for _ in range(steps):
            job = self.running.pop() if self.running else self.lab.claim()
            if job is None:
                return
            known = job.id in self.found
            self.lab.record(job, self.found.pop(job.id) if known else self.lab.work(job))
            self.lab.check()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        job = self._take(data)
        self.found.pop(job.id, None)
        self.lab.fail(job)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail_until_it_is_given_up(self, data: st.DataObject) -> None:
        """The host of one job is gone for the night."""
        victim = self._take(data)
        self.found.pop(victim.id, None)
        for _ in range(12):
            if self.lab.fail(victim):
                return
            self.lab.check()
            due = self.lab.connection.execute(
                "SELECT run_after FROM job WHERE id = ?", (victim.id,)
            ).fetchone()
            self.lab.now = max(self.lab.now, due["run_after"])
            with transaction(self.lab.connection):
                again = queue.claim(self.lab.connection, [victim.kind], now=self.lab.now)
            assert again is not None
            if again.id != victim.id:
                self.running.append(again)
                return
            victim = again
        self.running.append(victim)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        job = self._take(data)
        with transaction(self.lab.connection):
            queue.release(self.lab.connection, job, now=self.lab.now)
        self.found.pop(job.id, None)
        self.stale.append(job)

    @rule()
    def crash(self) -> None:
        assert self.lab.restart() == len(self.running)
        self.found.clear()
        self.stale.extend(self.running)
        self.running.clear()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def crash_inside_a_transaction(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.running))
        facts = self.lab.work(job)
        before = self.lab.dump()
        if facts is not None:
            with pytest.raises(KilledError):
                self._die_while_recording(job, facts)
        assert self.lab.dump() == before
        self.crash()

    def _die_while_recording(self, job: Job, facts: Facts) -> None:
        with transaction(self.lab.connection):
            effects.record(self.lab.connection, job, facts, now=self.lab.now)
            raise KilledError

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), lie=st.sampled_from(Kind))
    def a_dead_worker_comes_back(self, data: st.DataObject, lie: Kind) -> None:
        job = data.draw(st.sampled_from(self.stale))
        facts = None if job.kind is JobKind.SEND else self.lab.work(job, lie=lie)
        before = self.lab.dump()
        with pytest.raises(LeaseLostError):
            self.lab.record(job, facts)
        with pytest.raises(LeaseLostError):
            self.lab.fail(job)
        with pytest.raises(LeaseLostError), transaction(self.lab.connection):
            queue.renew(self.lab.connection, job, now=self.lab.now)
        assert self.lab.dump() == before

    @invariant()
    def history_is_sound(self) -> None:
        self.lab.check()
        assert len(self.running) == len(self.lab.rows("SELECT id FROM job WHERE state = 'running'"))


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@given(
    kind=st.sampled_from(Kind),
    axis=st.sampled_from([Blame.TREE, Blame.SERIES]),
    days=st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4),
    nights=st.lists(st.integers(0, 40), max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_every_regression_comes_to_an_end(
    kind: Kind, axis: Blame, days: list[list[bool]], nights: list[int]
) -> None:
    """One problem that comes and goes over some days, and restarts in between."""
    world = World(bugs=bugs_of([False, *chain.from_iterable(days)], kind, axis))
    world.add_commit()
    world.tag("next-1")
    for day in days:
        for _ in day:
            world.add_commit()
        world.tag(f"next-{len(world.tags) + 1}")
        for step in range(500 + 100 * len(day)):
            if step in nights:
                world.claim()
                world.restart()
            job = world.claim()
            if job is None:
                break
            world.record(job, world.work(job))
            world.check()
        else:
            pytest.fail("there is always something left to do")
    found = regressions.newest_first(world.connection)
    assert len(found) == any(day[-1] for day in days)
    for regression in found:
        is_there = days[-1][-1]
        assert regression.state is (
            RegressionState.CONFIRMED if is_there else RegressionState.FIXED
        )
        check_culprit(world, regression.id)
    assert not queue.alive(world.connection)
    assert not world.rows("SELECT id FROM investigation WHERE ended_at IS NULL")
    assert {row["state"] for row in world.rows("SELECT state FROM mail")} <= {"sent"}
    world.connection.close()


def bugs_of(commits: list[bool], kind: Kind, axis: Blame) -> list[Bug]:
    """One bug that is in the commits (by their numbers) that are True."""
    found, number = [], 0
    for is_bad, group in groupby(commits):
        end = number + len(list(group))
        if is_bad:
            found.append(Bug(name="it", kind=kind, axis=axis, since=number, until=end))
        number = end
    return found


def check_culprit(world: World, number: int) -> None:
    """The one to blame has the problem, and its parent has not."""
    cause = investigations.of_regression(world.connection, number)[0]
    assert cause.answer is not None
    assert (cause.answer.verdict, cause.answer.grade) == (Verdict.FOUND, Grade.VERIFIED)
    (culprit,) = cause.answer.commits
    assert world.commits.index(culprit) in {bug.since for bug in world.bugs}
    (bug, *_) = world.bugs
    is_series = bug.axis is Blame.SERIES or bug.kind in NEEDS_SERIES
    assert cause.answer.blame is (Blame.SERIES if is_series else Blame.TREE)
