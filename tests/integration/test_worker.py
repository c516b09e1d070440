# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker over a real database, with stages that are plain functions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.adapters.host.runs import OnCancel, cancellation_of_job
from kwatch.domain.facts import Facts, Judged, Plan, Planned, Watched
from kwatch.domain.lab.job import GIVE_UP_AFTER, LEASE_SECONDS, Job, JobKind, Resource
from kwatch.domain.source.revision import Revision
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.lane import Lane
from kwatch.engine import worker as module
from kwatch.engine.worker import Stage, Worker
from kwatch.errors import DiskFullError, InfraError
from kwatch.store import cursors, lanes, motion, queue, recipes, revisions
from kwatch.store import database as database_module
from kwatch.store import trials as trial_store
from kwatch.store.database import Database, Transaction, connect
from tests.unit.domain import trials
from tests.unit.domain.trials import BOOT, BUILD, LANE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from kwatch.domain.lab.fairness import Turns

SLOTS = dict.fromkeys(Resource, 2)
TRIAL = trials.trial("a" * 40)


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "kwatch.db")
    yield database
    await database.close()


def nothing(job: Job) -> Judged:
    """A fact that changes nothing."""
    return Judged(lane=1, judgements=())


def worker_of(
    database: Database,
    stages: Mapping[JobKind, Stage],
    *,
    slots: Mapping[Resource, int] = SLOTS,
    clock: Callable[[], float] = time.time,
) -> Worker:
    return Worker(database=database, stages=stages, slots=slots, clock=clock, jitter=lambda: 0.5)


@contextlib.asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """The worker runs while the body does, and must end within two seconds."""
    task = asyncio.ensure_future(worker.run())
    try:
        yield task
    finally:
        task.cancel()
        started = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 2.0


async def until(is_so: Callable[[], Awaitable[bool]], *, within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not await is_so():
            await asyncio.sleep(0.01)


async def ask(database: Database, kind: JobKind, *keys: str) -> None:
    for key in keys:
        await database.write(queue.enqueue, kind, key, now=0.0)


async def states(database: Database) -> list[str]:
    def read(tx: Transaction) -> list[str]:
        return [row["state"] for row in tx.execute("SELECT state FROM job ORDER BY id")]

    return await database.read(read)


async def job_row(database: Database) -> dict[str, object]:
    return dict(await database.read(lambda tx: tx.execute("SELECT * FROM job").fetchone()))


async def all_done(database: Database) -> bool:
    return set(await states(database)) == {"done"}


async def want_checkout(database: Database) -> None:
    """A trial that waits for its checkout, wanted by a judge that never comes."""

    def want(tx: Transaction) -> None:
        recipes.put(tx, BUILD, BOOT)
        lane = lanes.number(tx, Lane(tree="linux-next", variant="x86_64"))
        motion.want(tx, TRIAL, JobKind.JUDGE, str(lane), now=0.0)

    await database.write(want)


async def outcome(database: Database) -> Outcome | None:
    found = await database.read(trial_store.find, TRIAL)
    assert found is not None
    return found.outcome


async def test_slots_bound_what_runs_at_the_same_time(database: Database) -> None:
    together = most = 0

    async def stage(job: Job) -> Facts:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.02)
        together -= 1
        return nothing(job)

    await ask(database, JobKind.BUILD, *map(str, range(9)))
    worker = worker_of(database, {JobKind.BUILD: stage}, slots={Resource.BUILD: 3})
    async with at_work(worker):
        await until(lambda: all_done(database))
    assert most == 3


async def test_kinds_that_share_a_resource_share_its_slots(database: Database) -> None:
    running: set[str] = set()

    async def stage(job: Job) -> Facts:
        assert not running
        running.add(job.kind)
        await asyncio.sleep(0.01)
        running.clear()
        return nothing(job)

    for kind in (JobKind.JUDGE, JobKind.INVESTIGATE, JobKind.REPORT):
        await ask(database, kind, "1", "2")
    stages = dict.fromkeys((JobKind.JUDGE, JobKind.INVESTIGATE, JobKind.REPORT), stage)
    async with at_work(worker_of(database, stages, slots={Resource.THOUGHT: 1})):
        await until(lambda: all_done(database))


async def test_what_a_stage_finds_wakes_the_next_at_once(database: Database) -> None:
    order: list[str] = []

    async def plan(job: Job) -> Facts:
        order.append(job.kind)
        return Planned(
            revision=int(job.key), plans=(Plan(lane=LANE, trial=TRIAL, build=BUILD, boot=BOOT),)
        )

    async def checkout(job: Job) -> Facts:
        order.append(job.kind)
        return trials.checkout(job.key, None)

    async def judge(job: Job) -> Facts:
        order.append(job.kind)
        return nothing(job)

    revision = Revision(tree=LANE.tree, tag="next-1", commit=TRIAL.commit, seen_at=0.0)
    await ask(database, JobKind.PLAN, str(await database.write(revisions.add, revision)))
    stages: dict[JobKind, Stage] = {
        JobKind.PLAN: plan,
        JobKind.CHECKOUT: checkout,
        JobKind.JUDGE: judge,
    }
    started = time.monotonic()
    async with at_work(worker_of(database, stages)):
        await until(lambda: all_done(database))
    assert order == ["plan", "checkout", "judge"]
    assert time.monotonic() - started < 2.0


async def test_a_failure_of_the_lab_is_tried_again_and_then_given_up(database: Database) -> None:
    now = 1000.0
    attempts: list[float] = []

    async def stage(job: Job) -> Facts:
        attempts.append(now)
        raise InfraError("lab-1 does not answer: see that it is on")

    await want_checkout(database)
    async with at_work(worker := worker_of(database, {JobKind.CHECKOUT: stage}, clock=lambda: now)):
        while await outcome(database) is None:
            row = await job_row(database)
            if row["state"] == "queued" and attempts:
                assert row["error"] == "lab-1 does not answer: see that it is on"
                now = max(now, float(str(row["run_after"])))
                worker.wake()
            await asyncio.sleep(0.01)
    assert await outcome(database) is Outcome.INFRA
    assert len(attempts) == GIVE_UP_AFTER[JobKind.CHECKOUT]
    waits = [later - sooner for sooner, later in pairwise(attempts)]
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0]
    assert "judge" in {job.kind for job in await database.read(queue.alive)}


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (DiskFullError("no room: make some"), module.DISK_FULL_SECONDS),
        (InfraError("come back later", retry_after=timedelta(seconds=7)), 7.0),
    ],
)
async def test_a_failure_that_passes_by_itself_does_not_count(
    database: Database, error: InfraError, wait: float
) -> None:
    async def stage(job: Job) -> Facts:
        raise error

    await ask(database, JobKind.BUILD, "k")

    async def is_put_off() -> bool:
        return (await job_row(database))["error"] is not None

    async with at_work(worker_of(database, {JobKind.BUILD: stage}, clock=lambda: 1000.0)):
        await until(is_put_off)
    row = await job_row(database)
    assert (row["failures"], row["run_after"], row["state"]) == (0, 1000.0 + wait, "queued")


async def test_a_full_disk_of_a_host_is_not_waited_for(database: Database) -> None:
    """Another host has room: the job goes on as after any failure of a host."""

    async def stage(job: Job) -> Facts:
        raise DiskFullError("kvm-1: no room left on the disk", host="kvm-1")

    await ask(database, JobKind.BOOT, "k")

    async def is_put_off() -> bool:
        return (await job_row(database))["error"] is not None

    async with at_work(worker_of(database, {JobKind.BOOT: stage}, clock=lambda: 1000.0)):
        await until(is_put_off)
    row = await job_row(database)
    assert (row["failures"], row["run_after"]) == (1, 1005.0)


async def test_a_defect_does_not_take_the_worker_with_it(database: Database) -> None:
    async def defect(job: Job) -> Facts:
        raise KeyError("never thought of this")

    async def rubbish(job: Job) -> Facts:
        # A boot of a build that does not exist: the store refuses it.
        return trials.boot(job.key, "no such build")

    async def fine(job: Job) -> Facts:
        return nothing(job)

    await ask(database, JobKind.BUILD, "k")
    await ask(database, JobKind.BOOT, "k")
    await ask(database, JobKind.JUDGE, "k")
    stages: dict[JobKind, Stage] = {
        JobKind.BUILD: defect,
        JobKind.BOOT: rubbish,
        JobKind.JUDGE: fine,
    }

    async def is_settled() -> bool:
        return await states(database) == ["queued", "queued", "done"]

    async with at_work(worker_of(database, stages)) as task:
        await until(is_settled)
        assert not task.done()
    failures = await database.read(
        lambda tx: [tuple(row) for row in tx.execute("SELECT failures, error FROM job LIMIT 2")]
    )
    assert [number for number, _ in failures] == [1, 1]
    assert "never thought of this" in failures[0][1]
    assert "FOREIGN KEY" in failures[1][1]


async def test_on_cancellation_jobs_go_back_as_if_nothing_had_happened(
    database: Database,
) -> None:
    cleaned: list[str] = []
    reasons: list[OnCancel] = []

    async def stage(job: Job) -> Facts:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(job.key)
            reasons.append(cancellation_of_job().on_cancel)
        return nothing(job)

    await ask(database, JobKind.BUILD, "a", "b", "c")

    async def are_running() -> bool:
        return (await states(database)).count("running") == 2

    worker = worker_of(database, {JobKind.BUILD: stage})
    async with at_work(worker):
        await until(are_running)
        await asyncio.sleep(0.1)
    assert sorted(cleaned) == ["a", "b"]
    assert reasons == [OnCancel.LEAVE, OnCancel.LEAVE]
    assert worker.running == {}
    jobs = await database.read(queue.alive)
    assert {(job.state, job.failures, job.error) for job in jobs} == {("queued", 0, None)}
    assert all(job.run_after <= time.time() for job in jobs)


async def test_who_is_cancelled_while_he_claims_puts_the_job_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    claim = queue.claim

    def slow_claim(
        tx: Transaction, kinds: Iterable[JobKind], *, now: float, turns: Turns
    ) -> object:
        begun.set()
        goes_on.wait(5)
        return claim(tx, kinds, now=now, turns=turns)

    async def stage(job: Job) -> Facts:
        return nothing(job)

    monkeypatch.setattr(queue, "claim", slow_claim)
    await ask(database, JobKind.BUILD, "a")
    task = asyncio.ensure_future(worker_of(database, {JobKind.BUILD: stage}).run())
    assert await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await asyncio.sleep(0.05)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    # What was written before it is seen after it.
    await ask(database, JobKind.BUILD, "b")
    assert await states(database) == ["queued", "queued"]


async def test_what_nobody_wants_any_more_is_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1)
    stopped = asyncio.Event()
    reasons: list[OnCancel] = []

    async def stage(job: Job) -> Facts:
        try:
            await asyncio.sleep(60)
        finally:
            reasons.append(cancellation_of_job().on_cancel)
            stopped.set()
        return nothing(job)

    await want_checkout(database)
    async with at_work(worker := worker_of(database, {JobKind.CHECKOUT: stage})):
        await until(lambda: is_in(worker, 1))
        await asyncio.sleep(0.35)
        assert not stopped.is_set()
        await database.write(lambda tx: tx.execute("DELETE FROM want"))
        async with asyncio.timeout(1.0):
            await stopped.wait()
        await until(lambda: is_in(worker, 0))
    assert await states(database) == ["dropped"]
    assert reasons == [OnCancel.STOP]


async def is_in(worker: Worker, count: int) -> bool:
    return len(worker.running) == count


async def test_a_lease_is_renewed_while_the_stage_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    now = 1000.0

    async def stage(job: Job) -> Facts:
        nonlocal now
        for _ in range(5):
            now += 100.0
            await asyncio.sleep(0.15)
            row = await job_row(database)
            assert float(str(row["lease_until"])) > now
        return nothing(job)

    await ask(database, JobKind.BUILD, "k")
    # A build that belongs to no trial is stopped at the first renewal; a judgement is not.
    await database.write(lambda tx: tx.execute("UPDATE job SET kind = 'judge'"))
    async with at_work(worker_of(database, {JobKind.JUDGE: stage}, clock=lambda: now)):
        await until(lambda: all_done(database))


async def test_an_attempt_that_lost_its_lease_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1)
    may_end = asyncio.Event()
    attempts: list[int] = []

    async def stage(job: Job) -> Facts:
        attempts.append(job.attempt)
        if len(attempts) == 1:
            await may_end.wait()
            return Watched(tree="from the dead", revisions=())
        return Watched(tree="from the living", revisions=())

    await ask(database, JobKind.WATCH, "t")
    async with at_work(worker_of(database, {JobKind.WATCH: stage})):
        await until(lambda: has_begun(attempts))
        # Somebody else took the job over, as a second daemon's recovery would.
        await database.write(queue.recover, now=0.0)
        may_end.set()
        await until(lambda: all_done(database))
    assert attempts == [1, 2]
    assert [one.name for one in await database.read(cursors.sources)] == ["tree:from the living"]


async def test_a_job_that_could_not_be_ended_comes_back_when_its_lease_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, attempts = 1000.0, []
    fail = queue.fail

    def broken(*args: object, **kwargs: object) -> bool:
        monkeypatch.setattr(queue, "fail", fail)
        raise ValueError("a defect in the bookkeeping")

    async def stage(job: Job) -> Facts:
        attempts.append(job.attempt)
        if len(attempts) == 1:
            raise InfraError("the host is away")
        return nothing(job)

    monkeypatch.setattr(queue, "fail", broken)
    await ask(database, JobKind.JUDGE, "k")
    async with at_work(
        worker := worker_of(database, {JobKind.JUDGE: stage}, clock=lambda: now)
    ) as task:
        await until(lambda: has_begun(attempts))
        await until(lambda: is_in(worker, 0))
        assert await states(database) == ["running"]
        now += LEASE_SECONDS + 1
        worker.wake()
        await until(lambda: is_queued(database))
        row = await job_row(database)
        assert (row["failures"], row["error"]) == (1, "its lease ended")
        now += 10.0
        worker.wake()
        await until(lambda: all_done(database))
        assert not task.done()
    assert attempts == [1, 2]


async def is_queued(database: Database) -> bool:
    return await states(database) == ["queued"]


async def has_begun(attempts: list[int]) -> bool:
    return bool(attempts)


async def test_the_failure_of_a_source_is_shown_until_it_succeeds(database: Database) -> None:
    is_broken = True

    async def stage(job: Job) -> Facts:
        if is_broken:
            raise InfraError("the server is away")
        return Watched(tree=job.key, revisions=())

    async def error() -> str | None:
        found = await database.read(cursors.sources)
        return found[0].error if found else None

    async def is_told() -> bool:
        return await error() is not None

    await ask(database, JobKind.WATCH, "linux-next")
    now = 0.0
    async with at_work(worker := worker_of(database, {JobKind.WATCH: stage}, clock=lambda: now)):
        await until(is_told)
        assert await error() == "the server is away"
        is_broken, now = False, 10.0
        worker.wake()
        await until(lambda: all_done(database))
    assert await error() is None


async def test_a_database_that_is_locked_for_a_while_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup, or an operator with sqlite3 open."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 20)
    database = await Database.open(tmp_path / "kwatch.db")
    other = connect(database.path, read_only=False)
    done: list[str] = []

    async def stage(job: Job) -> Facts:
        other.execute("BEGIN IMMEDIATE")
        done.append(job.key)
        return nothing(job)

    await ask(database, JobKind.BUILD, "k")
    async with at_work(worker := worker_of(database, {JobKind.BUILD: stage})) as task:
        await until(lambda: is_in_transaction(other))
        await asyncio.sleep(0.5)
        assert not task.done()
        assert await states(database) == ["running"]
        other.rollback()
        await until(lambda: all_done(database))
        # Nor does it end the worker when it looks for work.
        other.execute("BEGIN IMMEDIATE")
        worker.wake()
        await asyncio.sleep(0.3)
        assert not task.done()
        other.rollback()
    other.close()
    await database.close()
    assert done == ["k"]


async def is_in_transaction(connection: object) -> bool:
    return bool(getattr(connection, "in_transaction", False))


async def test_idle_is_when_nothing_runs_and_nothing_is_due(database: Database) -> None:
    worker = worker_of(database, {}, clock=lambda: 1000.0)
    assert await worker.is_idle(patience=0.0)
    await database.write(queue.enqueue, JobKind.BUILD, "k", now=1000.0, after=60.0)
    assert await worker.is_idle(patience=59.0)
    assert not await worker.is_idle(patience=61.0)
    # Claimed this instant; the worker has not got to hear of it yet.
    await database.write(queue.claim, [JobKind.BUILD], now=2000.0)
    assert not await worker.is_idle(patience=0.0)
