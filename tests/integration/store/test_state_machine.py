# SPDX-License-Identifier: GPL-2.0-or-later
"""The store under a worker that is killed at any instant, on real SQLite files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.integration.store.bench_lab import Lab, Trouble, Truth, reopened

from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.mail.story import DeliveryState
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Verdict
from kwatch.domain.verdict.regression import RegressionState
from kwatch.errors import LeaseLostError
from kwatch.store import problems, queue, record
from kwatch.store.database import transaction

if TYPE_CHECKING:
    from kwatch.domain.facts import Facts

TRUTHS = st.builds(Truth, trouble=st.sampled_from(Trouble), blame=st.sampled_from(
    [Blame.TREE, Blame.SERIES]))  # fmt: skip
# Whole stretches of history: upstream is healthy most of the time.
STRETCHES = st.lists(st.one_of(st.just(Truth()), TRUTHS), min_size=1, max_size=4)


class KilledError(Exception):
    """The process dies inside a transaction."""


class StateMachine(RuleBasedStateMachine):
    """Two workers, one of which may die; every rule ends with a commit."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kwatch-machine-"))
        self.lab = Lab.create(self.folder)
        self.running: list[Job] = []
        self.stale: list[Job] = []
        self.found: dict[int, Facts | None] = {}

    def teardown(self) -> None:
        self.lab.connection.close()
        shutil.rmtree(self.folder)

    def _take(self, data: st.DataObject) -> Job:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1), label="job"))

    @initialize(truth=TRUTHS)
    def a_good_day_and_a_bad_one(self, truth: Truth) -> None:
        self.lab.grow([Truth()])
        while job := self.lab.claim():
            self.lab.record(job, self.lab.work(job))
        self.lab.grow([Truth(), Truth(), truth, truth, truth])

    @precondition(lambda self: self.lab.tags < 5)
    @rule(truths=STRETCHES)
    def upstream_tags(self, truths: list[Truth]) -> None:
        self.lab.grow(truths)

    @rule()
    def claim(self) -> None:
        job = self.lab.claim()
        if job is not None:
            assert job.id not in {other.id for other in self.running}
            self.running.append(job)

    @rule()
    def two_workers_claim(self) -> None:
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
        lie=st.one_of(st.none(), st.none(), st.sampled_from(Trouble)),
        delivery=st.sampled_from(DeliveryState),
    )
    def finish(self, data: st.DataObject, lie: Trouble | None, delivery: DeliveryState) -> None:
        job = self._take(data)
        if job.id not in self.found:
            self.found[job.id] = self.lab.work(job, lie=lie, delivery=delivery)
        self.lab.record(job, self.found.pop(job.id))
        self.stale.append(job)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), lie=st.one_of(st.none(), st.sampled_from(Trouble)))
    def work(self, data: st.DataObject, lie: Trouble | None) -> None:
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
            record.record(self.lab.connection, job, facts, now=self.lab.now)
            raise KilledError

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), lie=st.sampled_from(Trouble))
    def a_dead_worker_comes_back(self, data: st.DataObject, lie: Trouble) -> None:
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
    trouble=st.sampled_from([one for one in Trouble if one is not Trouble.NONE]),
    blame=st.sampled_from([Blame.TREE, Blame.SERIES]),
    days=st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4),
    nights=st.lists(st.integers(0, 40), max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_every_regression_comes_to_an_end(
    trouble: Trouble, blame: Blame, days: list[list[bool]], nights: list[int]
) -> None:
    """One problem that comes and goes over some days, and restarts in between."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.create(Path(folder))
        lab.grow([Truth()])
        limit = 0
        for day in days:
            lab.grow([Truth(trouble=trouble, blame=blame) if is_bad else Truth() for is_bad in day])
            limit += 120 + 30 * len(day)
            for step in range(limit):
                if step in nights:
                    lab.claim()
                    lab.restart()
                job = lab.claim()
                if job is None:
                    break
                lab.record(job, lab.work(job))
                lab.check()
            else:
                pytest.fail("there is always something left to do")
        regressions = problems.regressions(lab.connection)
        assert bool(regressions) == any(day[-1] for day in days)
        for regression in regressions:
            assert regression.state in {RegressionState.BISECTED, RegressionState.FIXED}
            check_culprit(lab, regression.id, trouble)
        assert not queue.alive(lab.connection)
        assert not problems.open_investigations(lab.connection)
        assert {row["state"] for row in lab.rows("SELECT state FROM mail")} <= {"sent"}
        lab.connection.close()


def check_culprit(lab: Lab, number: int, trouble: Trouble) -> None:
    """The one to blame has the problem, and its parent has not."""
    cause = problems.investigations(lab.connection, number)[0]
    assert cause.answer is not None
    assert cause.answer.verdict is Verdict.FOUND
    (culprit,) = cause.answer.commits
    parent = lab.commits[lab.commits.index(culprit) - 1]
    assert lab.truth[culprit].trouble is trouble
    assert lab.truth[parent].trouble is Trouble.NONE
    is_series = lab.truth[culprit].blame is Blame.SERIES or trouble in {
        Trouble.APPLY, Trouble.COVERAGE}  # fmt: skip
    assert cause.answer.blame is (Blame.SERIES if is_series else Blame.TREE)
