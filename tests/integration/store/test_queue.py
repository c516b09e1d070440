# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.lab.job import (
    FIRST_DELAY,
    GIVE_UP_AFTER,
    LEASE_SECONDS,
    LONGEST_DELAY,
    TRANSITIONS,
    Handle,
    Job,
    JobEvent,
    JobKind,
    JobState,
    delay_after,
)
from kwatch.errors import LeaseLostError
from kwatch.store import queue
from kwatch.store.database import transaction
from tests.integration.store.world import World, reopened

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

KINDS = tuple(JobKind)
HANDLE = Handle(host="lab-1", run_id="r1", slot=0)


@pytest.fixture
def tx() -> Iterator[sqlite3.Connection]:
    world = World()
    yield world.connection
    world.connection.close()


def claimed(tx: sqlite3.Connection, now: float = 0.0) -> Job:
    job = queue.claim(tx, KINDS, now=now)
    assert job is not None
    return job


def state(tx: sqlite3.Connection, job: Job) -> str:
    found: str = tx.execute("SELECT state FROM job WHERE id = ?", (job.id,)).fetchone()["state"]
    return found


def fail(tx: sqlite3.Connection, job: Job, *, now: float, after: float | None = None) -> bool:
    return queue.fail(tx, job, "no host", now=now, jitter=0.5, after=after)


def test_asking_twice_is_asking_once_but_sooner(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0, after=50.0)
    queue.enqueue(tx, JobKind.BUILD, "k", now=10.0, after=5.0)
    queue.enqueue(tx, JobKind.BUILD, "k", now=10.0, after=90.0)
    assert queue.next_due(tx, KINDS) == 15.0
    assert queue.claim(tx, KINDS, now=14.9) is None
    claimed(tx, 15.0)
    assert queue.claim(tx, KINDS, now=1e9) is None


def test_a_wake_up_while_the_reader_runs_runs_it_once_more(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.JUDGE, "k", now=0.0)
    first = claimed(tx)
    queue.enqueue(tx, JobKind.JUDGE, "k", now=1.0)
    queue.enqueue(tx, JobKind.JUDGE, "k", now=2.0)
    assert queue.claim(tx, KINDS, now=10.0) is None
    assert queue.next_due(tx, KINDS) is None
    queue.finish(tx, first, now=10.0)
    second = claimed(tx, 10.0)
    assert (second.id != first.id, second.attempt) == (True, 1)
    assert queue.claim(tx, KINDS, now=99.0) is None


def test_only_kinds_that_have_a_slot_are_claimed(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    assert queue.claim(tx, [JobKind.BOOT], now=1.0) is None
    assert queue.claim(tx, [], now=1.0) is None
    assert queue.next_due(tx, []) is None


def test_an_interrupted_command_is_adopted_before_all_else(tx: sqlite3.Connection) -> None:
    for key in ("old", "young"):
        queue.enqueue(tx, JobKind.BOOT, key, now=0.0 if key == "old" else 1.0)
    queue.enqueue(tx, JobKind.BOOT, "interrupted", now=2.0)
    jobs = [claimed(tx, 3.0) for _ in range(3)]
    assert [job.key for job in jobs] == ["old", "young", "interrupted"]
    queue.remember(tx, jobs[2], HANDLE)
    assert queue.handles(tx) == (HANDLE,)
    assert queue.recover(tx, now=4.0) == 3
    again = claimed(tx, 4.0)
    # Under the number of its attempt the command is found again.
    assert (again.key, again.handle, again.attempt) == ("interrupted", HANDLE, 1)
    assert claimed(tx, 4.0).attempt == 2
    queue.finish(tx, again, now=5.0)
    assert queue.handles(tx) == ()


def test_a_job_that_fails_comes_back_later_and_later_until_it_is_given_up(
    tx: sqlite3.Connection,
) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    now = 0.0
    waits: list[float] = []
    while not fail(tx, job := claimed(tx, now), now=now):
        assert job.failures == len(waits)
        due = queue.next_due(tx, KINDS)
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [FIRST_DELAY * 2**number for number in range(len(waits))]
    assert len(waits) == GIVE_UP_AFTER[JobKind.BUILD] - 1
    assert state(tx, job) == JobState.DEAD
    assert queue.next_due(tx, KINDS) is None
    # Whoever wants it later gets a new job.
    queue.enqueue(tx, JobKind.BUILD, "k", now=now)
    assert claimed(tx, now).failures == 0


def test_a_failure_that_says_when_to_come_back_does_not_count(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.COMMAND, "k", now=0.0)
    for number in range(10):
        assert not fail(tx, claimed(tx, number * 60.0), now=number * 60.0, after=60.0)
    assert claimed(tx, 600.0).failures == 0


def test_an_operator_does_not_wait_for_a_pause(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.LISTEN, "lkml", now=0.0)
    job = claimed(tx)
    fail(tx, job, now=0.0, after=3600.0)
    queue.enqueue(tx, JobKind.LISTEN, "lkml", now=1.0)
    assert queue.claim(tx, KINDS, now=1.0) is None, "a tick waits"
    queue.demand(tx, JobKind.LISTEN, "lkml", now=1.0)
    assert claimed(tx, 1.0).id == job.id


def test_the_delay_is_bounded_and_spread() -> None:
    delays = [delay_after(10_000, jitter=jitter) for jitter in (0.0, 0.5, 0.99)]
    assert delays == sorted(delays)
    assert LONGEST_DELAY * 0.75 <= delays[0] < delays[-1] <= LONGEST_DELAY * 1.25


def test_a_job_that_is_put_back_has_not_failed(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    job = claimed(tx)
    queue.release(tx, job, now=1.0)
    assert queue.next_due(tx, KINDS) == 1.0
    assert claimed(tx, 1.0).failures == 0


@pytest.mark.parametrize("kind", [JobKind.BUILD, JobKind.BOOT])
@pytest.mark.parametrize("is_killed", [False, True])
def test_an_interrupted_boot_keeps_the_attempt_that_its_run_is_named_after(
    tx: sqlite3.Connection, kind: JobKind, *, is_killed: bool
) -> None:
    queue.enqueue(tx, kind, "k", now=0.0)
    job = claimed(tx)
    queue.remember(tx, job, HANDLE)
    if is_killed:
        queue.recover(tx, now=1.0)
    else:
        queue.release(tx, job, now=1.0)
    again = claimed(tx, 1.0)
    assert (again.handle, again.failures) == (HANDLE, 0)
    assert again.attempt == (1 if kind is JobKind.BOOT else 2)


def test_only_jobs_whose_lease_ended_are_reaped(tx: sqlite3.Connection) -> None:
    for key in ("stuck", "under way"):
        queue.enqueue(tx, JobKind.JUDGE, key, now=0.0)
    stuck, under_way = claimed(tx), claimed(tx)
    now = LEASE_SECONDS + 1
    queue.enqueue(tx, JobKind.JUDGE, "late", now=1.0)
    late = claimed(tx, now)
    assert queue.reap(tx, now=now - 2) == ()
    assert [one.id for one in queue.reap(tx, now=now, but={under_way.id})] == [stuck.id]
    assert (state(tx, under_way), state(tx, late)) == ("running", "running")
    with pytest.raises(LeaseLostError):
        queue.finish(tx, stuck, now=now)
    again = claimed(tx, now + LONGEST_DELAY)
    assert (again.id, again.attempt, again.failures) == (stuck.id, 2, 1)
    queue.finish(tx, again, now=now)


@pytest.mark.parametrize("does_fail", [True, False])
def test_a_job_that_comes_back_replaces_the_wake_up_of_the_meantime(
    tx: sqlite3.Connection, does_fail: bool
) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    job = claimed(tx)
    queue.enqueue(tx, JobKind.BUILD, "k", now=1.0)
    if does_fail:
        fail(tx, job, now=2.0)
    else:
        queue.release(tx, job, now=2.0)
    assert [one.id for one in queue.alive(tx)] == [job.id]


def put(tx: sqlite3.Connection, event: JobEvent, job: Job) -> None:
    match event:
        case JobEvent.FINISH:
            queue.finish(tx, job, now=1.0)
        case JobEvent.FAIL:
            fail(tx, job, now=1.0)
        case JobEvent.RELEASE:
            queue.release(tx, job, now=1.0)
        case JobEvent.DROP:
            queue.drop(tx, job, now=1.0)
        case _:
            raise AssertionError(event)


ENDS = (JobEvent.FINISH, JobEvent.FAIL, JobEvent.RELEASE, JobEvent.DROP)


@pytest.mark.parametrize("event", ENDS)
def test_the_queue_follows_the_table(tx: sqlite3.Connection, event: JobEvent) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    job = claimed(tx)
    assert state(tx, job) == TRANSITIONS[JobState.QUEUED, JobEvent.CLAIM]
    put(tx, event, job)
    assert state(tx, job) == TRANSITIONS[JobState.RUNNING, event]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ENDS, ENDS)))
def test_an_attempt_ends_once(tx: sqlite3.Connection, first: JobEvent, second: JobEvent) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    stale = claimed(tx)
    put(tx, first, stale)
    queue.enqueue(tx, JobKind.BUILD, "k", now=1.0)
    newest = claimed(tx, 1e6)
    before = list(tx.iterdump())
    with pytest.raises(LeaseLostError, match="attempt 1"), transaction(tx):
        put(tx, second, stale)
    for door in (queue.renew, queue.finish):
        with pytest.raises(LeaseLostError), transaction(tx):
            door(tx, stale, now=2.0)
    with pytest.raises(LeaseLostError), transaction(tx):
        queue.remember(tx, stale, HANDLE)
    assert list(tx.iterdump()) == before
    queue.finish(tx, newest, now=3.0)


def test_a_lease_is_renewed(tx: sqlite3.Connection) -> None:
    queue.enqueue(tx, JobKind.BUILD, "k", now=0.0)
    job = claimed(tx)
    queue.renew(tx, job, now=100.0)
    (row,) = tx.execute("SELECT lease_until FROM job")
    assert row["lease_until"] == 100.0 + LEASE_SECONDS


def test_two_connections_never_claim_the_same(tmp_path: Path) -> None:
    world = World.on_disk(tmp_path)
    assert world.path is not None
    rival = reopened(world.path)
    for number in range(50):
        queue.enqueue(world.connection, JobKind.BUILD, str(number), now=0.0)
    found: list[int] = []
    for connection in itertools.islice(itertools.cycle([world.connection, rival]), 50):
        with transaction(connection):
            found.append(claimed(connection, 1.0).id)
    assert len(set(found)) == 50
    assert queue.claim(rival, KINDS, now=1.0) is None
    for connection in (world.connection, rival):
        connection.close()
