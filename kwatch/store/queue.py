# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue: leased rows, fenced by the attempt.

A job is unique by (kind, key) while it is *queued*; a wake-up that comes while its reader runs
queues the reader once more, and the claim refuses a key that is running.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.lab.fairness import Turns, Waiting, choose
from kwatch.domain.lab.job import (
    LEASE_SECONDS,
    RESOURCE,
    STEPS,
    Handle,
    Job,
    JobKind,
    JobState,
    Party,
    Purpose,
    delay_after,
    is_hopeless,
)
from kwatch.errors import LeaseLostError
from kwatch.store.codec import decode_optional, encode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from kwatch.store.database import Transaction

FIRST_TURN = Turns()
NOBODY = Party(tree="", purpose=Purpose.TAG)


def enqueue(
    tx: Transaction,
    kind: JobKind,
    key: str,
    *,
    now: float,
    after: float = 0.0,
    party: Party = NOBODY,
) -> None:
    """Queue a job on behalf of ``party``; if the same one is queued, it may come sooner.

    A tag takes over a step that was queued for a search. A job that failed keeps to its back-off: a
    tick must not hammer a server that asked for a pause.
    """
    tx.execute(
        "INSERT INTO job (kind, key, tree, purpose, state, run_after, created_at)"
        " VALUES (?, ?, ?, ?, 'queued', ?, ?) ON CONFLICT (kind, key) WHERE state = 'queued'"
        " DO UPDATE SET run_after = CASE WHEN error IS NULL"
        "     THEN min(run_after, excluded.run_after) ELSE run_after END,"
        " tree = CASE WHEN excluded.purpose = 'tag' THEN excluded.tree ELSE tree END,"
        " purpose = CASE WHEN excluded.purpose = 'tag' THEN 'tag' ELSE purpose END",
        (kind, key, party.tree, party.purpose, now + after, now),
    )


def demand(tx: Transaction, kind: JobKind, key: str, *, now: float) -> None:
    """Ask for a job in the name of an operator, who does not wait for a back-off to end."""
    enqueue(tx, kind, key, now=now)
    tx.execute(
        "UPDATE job SET run_after = min(run_after, ?)"
        " WHERE kind = ? AND key = ? AND state = 'queued'",
        (now, kind, key),
    )


# A queued job whose key does not run. (The partial index job_alive serves only a statement that
# repeats its condition.)
_FREE = """
    candidate.state = 'queued' AND NOT EXISTS (
        SELECT 1 FROM job AS other
        WHERE other.state IN ('queued', 'running') AND other.state = 'running'
            AND other.kind = candidate.kind AND other.key = candidate.key)
"""


def claim(
    tx: Transaction, kinds: Iterable[JobKind], *, now: float, turns: Turns = FIRST_TURN
) -> Job | None:
    """Take the next job of ``kinds`` that is due, for one lease; call it in a transaction.

    Jobs that were interrupted with a command under way come first, so that it is adopted before
    anything else takes its slot; then by age, and steps by turns.
    """
    wanted = list(kinds)
    found = tx.execute(
        f"SELECT id, kind FROM job AS candidate WHERE {_FREE} AND run_after <= ?"
        f" AND kind IN ({marks(wanted)}) ORDER BY handle IS NULL, run_after, id LIMIT 1",
        (now, *wanted),
    ).fetchone()
    if found is None:
        return None
    number, party = found["id"], None
    if found["kind"] in STEPS:
        number, party = _by_turns(tx, JobKind(found["kind"]), turns, now=now)
    row = tx.execute(
        "UPDATE job SET state = 'running', attempt = attempt + 1, lease_until = ?, started_at = ?"
        " WHERE id = ? AND state = 'queued' RETURNING *",
        (now + LEASE_SECONDS, now, number),
    ).fetchone()
    return replace(_job(row), party=party)


def _by_turns(tx: Transaction, kind: JobKind, turns: Turns, *, now: float) -> tuple[int, Party]:
    """Which step of ``kind`` is next, of which at least one is due, and on whose behalf."""
    rows = tx.execute(
        f"""
        SELECT id, state, run_after, handle IS NOT NULL AS is_interrupted, tree, purpose
        FROM job AS candidate
        WHERE candidate.state IN ('queued', 'running') AND candidate.kind = ?
            AND (candidate.state = 'running' OR run_after <= ? AND {_FREE})
        """,
        (kind, now),
    ).fetchall()
    running = [_party(row) for row in rows if row["state"] == JobState.RUNNING]
    waiting = [
        Waiting(
            id=row["id"],
            party=_party(row),
            due=row["run_after"],
            is_interrupted=bool(row["is_interrupted"]),
        )
        for row in rows
        if row["state"] == JobState.QUEUED
    ]
    chosen = choose(waiting, running, turns, RESOURCE[kind])
    return chosen.id, chosen.party


def _party(row: sqlite3.Row) -> Party:
    return Party(tree=row["tree"], purpose=Purpose(row["purpose"]))


def renew(tx: Transaction, job: Job, *, now: float) -> None:
    """Keep the lease. Raises LeaseLostError if another attempt owns the job."""
    _fenced(
        tx.execute(
            "UPDATE job SET lease_until = ?"
            " WHERE id = ? AND attempt = ? AND state = 'running' RETURNING id",
            (now + LEASE_SECONDS, job.id, job.attempt),
        ),
        job,
    )


def remember(tx: Transaction, job: Job, handle: Handle | None) -> None:
    """Store the command that the job is about to start on a host."""
    _fenced(
        tx.execute(
            "UPDATE job SET handle = ?"
            " WHERE id = ? AND attempt = ? AND state = 'running' RETURNING id",
            (encode(handle) if handle else None, job.id, job.attempt),
        ),
        job,
    )


def finish(tx: Transaction, job: Job, *, now: float) -> None:
    """The job is done; raises LeaseLostError if this attempt is not the newest."""
    _end(tx, job, JobState.DONE, error=None, now=now)


def drop(tx: Transaction, job: Job, *, now: float) -> None:
    """Nobody wants the job any more."""
    _end(tx, job, JobState.DROPPED, error=None, now=now)


def fail(
    tx: Transaction, job: Job, error: str, *, now: float, jitter: float, after: float | None
) -> bool:
    """The lab failed: try again later, or give up. True when it was given up.

    ``after`` overrides the back-off and does not count as a failure (a full disk, a server that
    says when to come back).
    """
    failures = job.failures if after is not None else job.failures + 1
    if is_hopeless(job.kind, failures):
        _end(tx, job, JobState.DEAD, error=error, now=now)
        return True
    delay = after if after is not None else delay_after(failures, jitter=jitter)
    _requeue(tx, job, run_after=now + delay, failures=failures, error=error)
    return False


def release(tx: Transaction, job: Job, *, now: float) -> None:
    """Put an interrupted job back as if it had not been claimed."""
    _put_back(tx, job, error=None, now=now)


def recover(tx: Transaction, *, now: float) -> int:
    """At the start: put back what a killed daemon left running. How many there were."""
    rows = tx.execute("SELECT * FROM job WHERE state = 'running'").fetchall()
    for row in rows:
        _put_back(tx, _job(row), error=row["error"], now=now)
    return len(rows)


def reap(
    tx: Transaction, *, now: float, but: Collection[int] = (), jitter: float = 0.5
) -> tuple[Job, ...]:
    """Put back jobs whose lease ended, and return them; ``but`` are the ids of those under way.

    It counts as a failure: the next attempt comes after the usual delay.
    """
    rows = tx.execute(
        "SELECT * FROM job WHERE state IN ('queued', 'running') AND state = 'running'"
        " AND lease_until < ?",
        (now,),
    ).fetchall()
    expired = tuple(_job(row) for row in rows if row["id"] not in but)
    for job in expired:
        failures = job.failures + 1
        later = now + delay_after(failures, jitter=jitter)
        _requeue(tx, job, run_after=later, failures=failures, error="its lease ended")
    return expired


def _put_back(tx: Transaction, job: Job, *, error: str | None, now: float) -> None:
    """Queue a job of which no attempt works any more.

    A boot with a run gets its attempt back: the id of the run contains it, so that the next attempt
    finds the run.
    """
    _requeue(tx, job, run_after=now, failures=job.failures, error=error)
    tx.execute(
        "UPDATE job SET attempt = attempt - 1 WHERE id = ? AND kind = ? AND handle IS NOT NULL",
        (job.id, JobKind.BOOT),
    )


def handles(tx: Transaction) -> tuple[Handle, ...]:
    """The commands on hosts that belong to a job that is alive."""
    rows = tx.execute(
        "SELECT handle FROM job WHERE state IN ('queued', 'running') AND handle IS NOT NULL"
    )
    found = (decode_optional(Handle, row["handle"]) for row in rows)
    return tuple(handle for handle in found if handle)


def next_due(tx: Transaction, kinds: Iterable[JobKind]) -> float | None:
    """When the next queued job of ``kinds`` is due, whose key does not run."""
    wanted = list(kinds)
    row = tx.execute(
        f"SELECT min(run_after) AS due FROM job AS candidate WHERE {_FREE}"
        f" AND kind IN ({marks(wanted)})",
        wanted,
    ).fetchone()
    due: float | None = row["due"]
    return due


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A line of the queue, for people."""

    id: int
    kind: str
    key: str
    state: str
    attempt: int
    failures: int
    run_after: float
    started_at: float | None
    error: str | None
    host: str | None


def alive(tx: Transaction) -> tuple[QueuedJob, ...]:
    """Every job that is queued or running, the running ones first."""
    rows = tx.execute(
        "SELECT * FROM job WHERE state IN ('queued', 'running')"
        " ORDER BY state = 'queued', run_after, id"
    ).fetchall()
    return tuple(
        QueuedJob(
            id=row["id"],
            kind=row["kind"],
            key=row["key"],
            state=row["state"],
            attempt=row["attempt"],
            failures=row["failures"],
            run_after=row["run_after"],
            started_at=row["started_at"],
            error=row["error"],
            host=handle.host if (handle := decode_optional(Handle, row["handle"])) else None,
        )
        for row in rows
    )


def marks(values: Sequence[object]) -> str:
    """Question marks for an IN list."""
    return ", ".join("?" * len(values))


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        kind=JobKind(row["kind"]),
        key=row["key"],
        attempt=row["attempt"],
        failures=row["failures"],
        handle=decode_optional(Handle, row["handle"]),
    )


def _end(tx: Transaction, job: Job, state: JobState, *, error: str | None, now: float) -> None:
    _fenced(
        tx.execute(
            "UPDATE job SET state = ?, error = ?, ended_at = ?, lease_until = NULL, handle = NULL"
            " WHERE id = ? AND attempt = ? AND state = 'running' RETURNING id",
            (state, error, now, job.id, job.attempt),
        ),
        job,
    )


def _requeue(
    tx: Transaction, job: Job, *, run_after: float, failures: int, error: str | None
) -> None:
    """Queue the job again; a wake-up that came meanwhile is the same job and gives way."""
    twin = tx.execute(
        "DELETE FROM job WHERE kind = ? AND key = ? AND state = 'queued' RETURNING tree, purpose",
        (job.kind, job.key),
    ).fetchone()
    if twin is not None and twin["purpose"] == Purpose.TAG:
        tx.execute(
            "UPDATE job SET tree = ?, purpose = ? WHERE id = ?",
            (twin["tree"], twin["purpose"], job.id),
        )
    _fenced(
        tx.execute(
            "UPDATE job SET state = 'queued', run_after = ?, failures = ?, error = ?,"
            " lease_until = NULL WHERE id = ? AND attempt = ? AND state = 'running' RETURNING id",
            (run_after, failures, error, job.id, job.attempt),
        ),
        job,
    )


def _fenced(cursor: sqlite3.Cursor, job: Job) -> None:
    if cursor.fetchone() is None:
        raise LeaseLostError(
            f"{job.kind} {job.key[:12]}: attempt {job.attempt} is not the newest; its result is"
            " discarded"
        )
