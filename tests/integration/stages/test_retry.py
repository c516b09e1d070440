# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab failed at is tried again once an hour, for a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.lab.job import WHOLE, JobKind
from kwatch.stages import retry
from kwatch.store import effects, queue, trials
from tests.integration.web_history import NOW, fill

if TYPE_CHECKING:
    from kwatch.store.database import Database, Transaction


async def retried(database: Database) -> None:
    await database.write(queue.enqueue, JobKind.RETRY, WHOLE, now=NOW)
    job = await database.write(queue.claim, [JobKind.RETRY], now=NOW)
    assert job is not None
    await database.write(effects.record, job, await retry.run(job), now=NOW)


def failed(tx: Transaction) -> tuple[int, ...]:
    return trials.failed_by_lab(tx, tries=None)


async def test_a_failure_of_the_lab_is_tried_again(database: Database) -> None:
    await database.write(fill)
    (number,) = await database.read(failed)
    assert (await database.read(trials.load, number)).tries == 1
    await retried(database)
    again = await database.read(trials.load, number)
    assert (again.outcome, again.waits_kind) == (None, JobKind.BOOT)
    alive = await database.read(queue.alive)
    assert (JobKind.BOOT, again.waits_key) in {(job.kind, job.key) for job in alive}


async def test_one_that_never_works_waits_for_a_host_or_an_order(database: Database) -> None:
    await database.write(fill)
    (number,) = await database.read(failed)
    await database.write(
        lambda tx: tx.execute("UPDATE trial SET tries = ?", (effects.RETRIES,)).fetchone()
    )
    await retried(database)
    assert await database.read(failed) == (number,)


async def test_what_nobody_wants_is_left_alone(database: Database) -> None:
    await database.write(fill)
    await database.write(lambda tx: tx.execute("DELETE FROM want").fetchone())
    await retried(database)
    rows = await database.read(
        lambda tx: tx.execute("SELECT count(*) FROM trial WHERE outcome = 'infra'").fetchone()
    )
    assert rows[0] == 1
