# SPDX-License-Identifier: GPL-2.0-or-later
"""History that an older reader has read, on a real database with real blobs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.facts import Reread
from kwatch.domain.finding import FindingKind
from kwatch.domain.lab.job import WHOLE, Job, JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.steps import BootResult, BuildResult
from kwatch.stages import reread
from kwatch.store import steps
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.unit.domain import trials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.store.database import Transaction

JOB = Job(id=1, kind=JobKind.REREAD, key=WHOLE, attempt=1, failures=0)
CONSOLE = (
    b"[    0.000000] Linux version 7.0.0-next\n"
    b"[    1.300000] kernel BUG at fs/thing.c:77!\n"
    b"[    1.300000] RIP: 0010:thing_free+0x3/0x20\n"
)
LOG = b"fs/thing.c:42:1: error: no such type\nmake: *** [fs/thing.o] Error 1\n"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "history.sqlite")
    yield database
    await database.close()


@pytest.fixture
def blobs(tmp_path: Path, database: Database) -> Blobs:
    return Blobs(tmp_path / "blobs", database=database, budget=1 << 30, clock=time.time)


def _of_an_older_reader(tx: Transaction) -> None:
    tx.execute("UPDATE build SET reader = 1")
    tx.execute("UPDATE boot SET reader = 1")


async def keep(database: Database, *results: BuildResult | BootResult) -> None:
    for number, result in enumerate(results):
        if isinstance(result, BuildResult):
            await database.write(steps.put_build, result, trials.BUILD.digest, now=float(number))
        else:
            await database.write(steps.put_boot, result, trials.BOOT.digest, now=float(number))
    await database.write(_of_an_older_reader)


async def test_what_an_older_reader_read_is_read_again(database: Database, blobs: Blobs) -> None:
    console, log = await blobs.put(CONSOLE), await blobs.put(LOG)
    broken = trials.build("b1", finding=trials.COMPILE, artifacts={"log": log})
    fine = trials.build("b2", artifacts={"log": log})
    boot = trials.boot(
        "t1",
        fine.row,
        finding=trials.HANG,
        milestone=Milestone.KERNEL,
        artifacts={"console": console},
    )
    boot = replace(boot, end=BootEnd.HANG)
    gone = trials.boot("t2", fine.row, finding=trials.HANG, milestone=Milestone.KERNEL)
    await keep(database, broken, fine, boot, gone)

    read = await reread.run(JOB, blobs=blobs, database=database)
    assert isinstance(read, Reread)
    found = {result.key: result.finding for result in read.results}
    assert not read.more
    # The newest come first.
    assert list(found) == ["t2", "t1", "b2", "b1"]
    assert found["t1"] is not None
    assert (found["t1"].kind, found["t1"].title) == (FindingKind.BUG, "kernel BUG in thing_free")
    assert found["b1"] is not None
    assert found["b1"].title == "fs/thing.c:42:1: error: no such type"
    # What went well, and what is no longer there to be read, stays as it is.
    assert found["b2"] is None
    assert found["t2"] == trials.HANG


async def test_a_log_that_is_damaged_holds_up_no_other(database: Database, blobs: Blobs) -> None:
    console, log = await blobs.put(CONSOLE), await blobs.put(LOG)
    blobs.path(console).write_bytes(b"rubbish")
    broken = trials.build("b1", finding=trials.COMPILE, artifacts={"log": log})
    boot = trials.boot("t1", broken.row, finding=trials.HANG, artifacts={"console": console})
    await keep(database, broken, boot)
    read = await reread.run(JOB, blobs=blobs, database=database)
    assert read is not None
    found = {result.key: result.finding for result in read.results}
    assert found["t1"] == trials.HANG
    assert found["b1"] is not None
    assert found["b1"].title == "fs/thing.c:42:1: error: no such type"


async def test_what_the_present_reader_read_is_left_alone(database: Database, blobs: Blobs) -> None:
    await database.write(steps.put_build, trials.build("b1"), trials.BUILD.digest, now=1.0)
    assert await reread.run(JOB, blobs=blobs, database=database) is None


async def test_a_long_history_is_read_in_pieces(database: Database, blobs: Blobs) -> None:
    builds = [trials.build(f"b{number}") for number in range(reread.BATCH + 1)]
    await keep(database, *builds)
    read = await reread.run(JOB, blobs=blobs, database=database)
    assert read is not None
    assert (len(read.results), read.more) == (reread.BATCH, True)
