# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs as the worker gives them to a stage, and what it does with the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.lab.job import JobKind
from kwatch.store import effects, lanes, motion, queue, recipes
from tests.unit.domain import trials

if TYPE_CHECKING:
    from kwatch.domain.facts import Facts
    from kwatch.domain.lab.job import Job
    from kwatch.domain.recipe.boot import BootRecipe
    from kwatch.domain.recipe.build import BuildRecipe
    from kwatch.domain.trial.trial import Trial
    from kwatch.store.database import Database, Transaction

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
    await database.write(effects.record, job, facts, now=NOW)


async def queued(database: Database, kind: JobKind) -> list[str]:
    """The keys of the jobs of a kind that wait."""
    return [job.key for job in await database.read(queue.alive)
            if job.kind == kind and job.state == "queued"]  # fmt: skip


def want(
    tx: Transaction,
    trial: Trial,
    *,
    build: BuildRecipe = trials.BUILD,
    boot: BootRecipe = trials.BOOT,
    now: float = NOW,
) -> int:
    """A lane wants a trial by these recipes; the number of the trial."""
    assert (trial.build, trial.boot) == (build.digest, boot.digest)
    recipes.put(tx, build, boot)
    lane = lanes.number(tx, trials.LANE)
    return motion.want(tx, trial, JobKind.JUDGE, str(lane), now=now)
