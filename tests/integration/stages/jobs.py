# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs as the worker gives them to a stage, and what it does with the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.store import queue, record

if TYPE_CHECKING:
    from kwatch.domain.facts import Facts
    from kwatch.domain.lab.job import Job, JobKind
    from kwatch.store.database import Database

NOW = 1_800_000_000.0


async def claimed(database: Database, kind: JobKind, key: str) -> Job:
    """A job of this kind, asked for and claimed."""
    await database.write(queue.enqueue, kind, key, now=0.0)
    return await next_of(database, kind)


async def next_of(database: Database, kind: JobKind) -> Job:
    """The job of this kind that is next in the queue."""
    job = await database.write(queue.claim, [kind], now=NOW)
    assert job is not None
    return job


async def keep(database: Database, job: Job, facts: Facts) -> None:
    """Record what the stage found."""
    await database.write(record.record, job, facts, now=NOW)


async def queued(database: Database, kind: JobKind) -> list[str]:
    """The keys of the jobs of a kind that wait."""
    return [job.key for job in await database.read(queue.alive)
            if job.kind == kind and job.state == "queued"]  # fmt: skip
