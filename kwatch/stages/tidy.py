# SPDX-License-Identifier: GPL-2.0-or-later
"""tidy: delete what nothing needs any more, once a night, and keep the repositories quick.

Each part is a transaction or a git command of its own, so that a kill in between loses nothing,
and has a bound; what is left over is deleted the next night.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from kwatch.adapters.kernel import caches, kbuild
from kwatch.domain.lab.host import Health, Slot
from kwatch.domain.lab.job import CACHES, JobKind
from kwatch.errors import InfraError
from kwatch.store import queue, tidy, verifications

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kwatch.adapters.git import Git
    from kwatch.adapters.host.host import Host
    from kwatch.adapters.host.pool import Pool
    from kwatch.domain.lab.job import Handle, Job
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

# A restart of the daemon asks for everything that the schedule does.
STAMP = "kwatch-tidied"
AT_MOST_EVERY = 20 * 3600.0
BATCHES = 100
REFS = 20_000
PREFIX = "refs/kwatch/"
CHECKOUT = f"{PREFIX}checkout/"


async def run(
    job: Job, *, git: Git, pool: Pool, database: Database, clock: Callable[[], float]
) -> None:
    """Tidy the history, the repository, and the hosts. There are no facts."""
    await _drop_caches(pool, database)
    if job.key == CACHES:
        return
    now = clock()
    stamp = git.directory / STAMP
    if stamp.exists() and now - stamp.stat().st_mtime < AT_MOST_EVERY:
        return
    jobs = await _delete(database, partial(tidy.old_jobs, now=now))
    mails = await _delete(database, partial(tidy.old_mails, now=now))
    await asyncio.to_thread(tidy.compact, database.path)
    refs = await _drop_refs(git, database, now=now)
    await git.maintain()
    on_hosts = await _tidy_hosts(pool)
    stamp.touch()
    log.info(
        "removed %d jobs, %d patch mails, %d refs, %d refs on hosts", jobs, mails, refs, on_hosts
    )


async def _delete(database: Database, batch: Callable[[Transaction], int]) -> int:
    """Run ``batch`` until it deletes nothing more; how many rows it deleted in all."""
    total = 0
    for _ in range(BATCHES):
        deleted = await database.write(batch)
        total += deleted
        if deleted == 0:
            break
    return total


async def _drop_refs(git: Git, database: Database, *, now: float) -> int:
    """Delete refs that nothing needs; how many.

    A checkout stays as long as the commit that it was made of is reachable.
    """
    refs = await git.refs(PREFIX)
    wanted = await database.read(tidy.needed, now=now)
    gone = tidy.unneeded(refs, wanted)
    checkouts = {ref: key for ref in refs if (key := ref.removeprefix(CHECKOUT)) != ref}
    tips = {refs[ref] for ref in refs.keys() - set(gone) - checkouts.keys()} | wanted.commits
    lost = await git.unreachable(_bases(checkouts, wanted), tips)
    unfinished = wanted.under_way[JobKind.CHECKOUT]
    gone += tuple(
        ref
        for ref, key in checkouts.items()
        if key not in unfinished and wanted.checkouts.get(key) in {None, *lost}
    )
    dropped = {ref: refs[ref] for ref in gone[:REFS]}
    await git.drop(dropped)
    return len(dropped)


def _bases(checkouts: Mapping[str, str], wanted: tidy.Needed) -> frozenset[str]:
    found = (wanted.checkouts.get(key) for key in checkouts.values())
    return frozenset(commit for commit in found if commit)


async def _tidy_hosts(pool: Pool) -> int:
    """Tidy the repository of each build host that is well; how many refs are gone there."""
    total = 0
    for host in _builders(pool):
        try:
            total += await kbuild.tidy(host)
        except InfraError as error:
            log.warning("%s", error)
    return total


async def _drop_caches(pool: Pool, database: Database) -> None:
    """Delete the compiler caches of verifications that ended, on each build host that is well.

    A host that is not is tidied when it is back.
    """
    for host in _builders(pool):
        try:
            # In this order: a verification is on record before it has a cache.
            left = await caches.found(host)
            alive, handles = await database.read(_in_use)
            ended = [name for name in left if caches.verification_of(name) not in alive]
            if ended:
                building = {
                    one.slot
                    for one in handles
                    if one.host == host.name and one.run_id.startswith("build-")
                }
                await caches.drop(host, ended, building=building)
        except InfraError as error:
            log.warning("%s", error)


def _in_use(tx: Transaction) -> tuple[frozenset[str], tuple[Handle, ...]]:
    """The verifications that go on, and the commands of jobs: an order may end the former first."""
    return verifications.alive(tx), queue.handles(tx)


def _builders(pool: Pool) -> Iterator[Host]:
    """The build hosts that are well."""
    for name, host in pool.hosts.items():
        if pool.state(name).health is Health.OK and host.spec.slots.get(Slot.BUILD, 0):
            yield host
