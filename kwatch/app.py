# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place where everything is put together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import platform
import random
import secrets
import shutil
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from kwatch import __version__
from kwatch.adapters.git import Git
from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.guest.environment import KnownEnvironments
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.adapters.lore import Lore
from kwatch.adapters.smtp import Smtp
from kwatch.domain.lab.host import Slot
from kwatch.domain.lab.job import WHOLE, JobKind
from kwatch.domain.source.series import Series, series_digest
from kwatch.engine.schedule import Tick
from kwatch.engine.slots import count_slots
from kwatch.engine.worker import Stage, Worker
from kwatch.errors import ConfigError
from kwatch.stages import (
    baseline,
    boot,
    build,
    checkout,
    collect,
    command,
    investigate,
    judge,
    listen,
    plan,
    reread,
    retry,
    send,
    tidy,
    watch,
)
from kwatch.stages.report import stage as report
from kwatch.state import StateDirectory
from kwatch.store import lock, motion, queue
from kwatch.store import series as series_store
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from kwatch.config.settings import Settings
    from kwatch.domain.mail.story import Correspondence
    from kwatch.domain.source.posting import SeriesRule
    from kwatch.store.database import Transaction

log = logging.getLogger(__name__)

DAY = 86400.0
HOUR = 3600.0


class Lab:
    """A running lab: what the verbs of the command line work with."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        pool: Pool,
        accelerators: Accelerators,
        worker: Worker,
    ) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.pool = pool
        self.accelerators = accelerators
        self.worker = worker

    async def put(self, kind: JobKind, key: str) -> None:
        """Ask for a job."""
        await self.database.write(queue.enqueue, kind, key, now=time.time())
        self.worker.wake()

    def ticks(self) -> list[Tick]:
        """What the schedule asks for."""
        polls = self.settings.schedule
        return [
            *(Tick(kind=JobKind.WATCH, key=tree.name, every=polls.tree_poll[tree.name])
              for tree in self.settings.trees),
            *(Tick(kind=JobKind.LISTEN, key=one.name, every=polls.list_poll[one.name])
              for one in self.settings.lists),
            Tick(kind=JobKind.REREAD, key=WHOLE, every=DAY),
            Tick(kind=JobKind.TIDY, key=WHOLE, every=DAY),
            Tick(kind=JobKind.RETRY, key=WHOLE, every=HOUR),
        ]  # fmt: skip


@contextlib.asynccontextmanager
async def open_lab(settings: Settings) -> AsyncIterator[Lab]:
    """Take the state directory, recover what a killed daemon left, and put the parts together.

    Raises ConfigError, and touches nothing, where the directory is in use or the database is of
    a newer kwatch.
    """
    check_tools()
    state = settings.state
    owner = hashlib.sha256(f"{platform.node()}:{state.root}".encode()).hexdigest()[:12]
    # A key or a pinned host key that cannot be used is found here.
    pool = Pool([Host(spec, owner=owner) for spec in settings.hosts], clock=time.time)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(lock.hold(state.root))
        database = await Database.open(state.database)
        stack.push_async_callback(database.close)
        blobs = Blobs(state.blobs, database=database, budget=settings.blobs_budget, clock=time.time)
        git = Git(state.git)
        await _recover(settings, git=git, blobs=blobs, database=database)
        stack.push_async_callback(pool.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ports = _Ports(
            database=database,
            git=git,
            pool=pool,
            blobs=blobs,
            lore=Lore(
                directory=state.lore,
                user_agent=f"kwatch/{__version__}+{settings.contact}",
                session=session,
            ),
            state=state,
            accelerators=Accelerators(),
        )
        yield Lab(
            settings=settings,
            database=database,
            blobs=blobs,
            pool=pool,
            accelerators=ports.accelerators,
            worker=_worker(settings, ports),
        )


async def _recover(settings: Settings, *, git: Git, blobs: Blobs, database: Database) -> None:
    """Bring the state directory into the shape in which a daemon begins."""
    state = settings.state
    await git.create()
    for repository in (git.directory, *state.lore.glob("*/*.git")):
        await Git(repository).clear_locks()
    await asyncio.to_thread(_clear, state)
    await blobs.sweep()
    recovered = await database.write(queue.recover, now=time.time())
    if recovered:
        log.info("going on with %d jobs of the last run", recovered)
    await _series_from_files(settings, database)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    """The doors and stores that stages work with."""

    database: Database
    git: Git
    pool: Pool
    blobs: Blobs
    lore: Lore
    state: StateDirectory
    accelerators: Accelerators


def _worker(settings: Settings, ports: _Ports) -> Worker:
    """The worker with every stage."""
    return Worker(
        database=ports.database,
        stages={
            **_stages_of_sources(settings, ports),
            **_stages_of_trials(settings, ports),
            **_stages_of_verdicts(settings, ports),
            **_stages_beside(settings, ports),
        },
        slots=count_slots(
            settings.hosts, checkouts=settings.checkouts, collections=settings.collections
        ),
        share=settings.schedule.bisections,
        clock=time.time,
        jitter=random.random,
    )


def _stages_of_sources(settings: Settings, ports: _Ports) -> Mapping[JobKind, Stage]:
    """What finds something to test, and plans its trials."""
    trees = {tree.name: tree for tree in settings.trees}
    database = ports.database
    return {
        JobKind.WATCH: partial(
            watch.run, trees=trees, git=ports.git, database=database, clock=time.time
        ),
        JobKind.LISTEN: partial(
            listen.run,
            lists={one.name: one for one in settings.lists},
            rules=_rules(settings),
            lore=ports.lore,
            database=database,
            clock=time.time,
        ),
        JobKind.PLAN: partial(plan.run, trees=trees, variants=settings.variants, database=database),
    }


def _stages_of_trials(settings: Settings, ports: _Ports) -> Mapping[JobKind, Stage]:
    """The steps of a trial."""
    git, pool, blobs, database = ports.git, ports.pool, ports.blobs, ports.database
    scratch = ports.state.scratch
    variants = settings.variants.values()
    return {
        JobKind.CHECKOUT: partial(
            checkout.run, git=git, scratch=ports.state.source, blobs=blobs, database=database
        ),
        JobKind.BUILD: partial(
            build.run,
            git=git,
            pool=pool,
            blobs=blobs,
            database=database,
            scratch=scratch,
            labels={one.build.digest: one.build_labels for one in variants},
        ),
        JobKind.BOOT: partial(
            boot.run,
            pool=pool,
            blobs=blobs,
            database=database,
            scratch=scratch,
            busybox={arch: path.read_bytes() for arch, path in settings.busybox.items()},
            accelerators=ports.accelerators,
            known=KnownEnvironments(),
            cares={one.boot.recipe.digest: one.boot.care for one in variants},
            labels={one.boot.recipe.digest: one.boot_labels for one in variants},
        ),
        JobKind.COLLECT: partial(
            collect.run, pool=pool, blobs=blobs, database=database, scratch=scratch
        ),
    }


def _stages_of_verdicts(settings: Settings, ports: _Ports) -> Mapping[JobKind, Stage]:
    """Judging, investigating, and the mails about it."""
    git, database = ports.git, ports.database
    trees = {tree.name: tree for tree in settings.trees}
    return {
        JobKind.JUDGE: partial(judge.run, database=database),
        JobKind.BASELINE: partial(
            baseline.run, trees=trees, git=git, database=database, clock=time.time
        ),
        JobKind.INVESTIGATE: partial(
            investigate.run, git=git, database=database, slots=_search_slots(settings)
        ),
        JobKind.REPORT: partial(
            report.run,
            trees=trees,
            correspondence=partial(_correspondence, settings),
            git=git,
            blobs=ports.blobs,
            database=database,
            token=partial(secrets.token_hex, 4),
            status_url=settings.web.url,
        ),
        JobKind.SEND: partial(
            send.run, smtp=Smtp(settings.smtp), database=database, clock=time.time
        ),
    }


def _search_slots(settings: Settings) -> int:
    """The commits that a search tests at a time: a build slot each, of those that it may have."""
    builds = sum(host.slots[Slot.BUILD] for host in settings.hosts)
    return max(int(builds * settings.schedule.bisections), 1)


def _stages_beside(settings: Settings, ports: _Ports) -> Mapping[JobKind, Stage]:
    """What is done beside the way of a tag."""
    pool, database = ports.pool, ports.database
    return {
        JobKind.COMMAND: partial(
            command.run,
            sources=settings.schedule.sources.keys(),
            hosts=[one.name for one in settings.hosts],
            pool=pool,
            database=database,
        ),
        JobKind.REREAD: partial(reread.run, blobs=ports.blobs, database=database),
        JobKind.RETRY: retry.run,
        JobKind.TIDY: partial(
            tidy.run, git=ports.git, pool=pool, database=database, clock=time.time
        ),
    }


def _rules(settings: Settings) -> Mapping[str, Sequence[SeriesRule]]:
    """The series to look for on each list."""
    return {
        one.name: [series.rule for series in settings.series if series.list == one.name]
        for one in settings.lists
    }


def _correspondence(settings: Settings, tree: str, series: str | None) -> Correspondence:
    """The lab's rules for mail about one tree and one series."""
    watched = next((one for one in settings.series if one.rule.name == series), None)
    return dataclasses.replace(
        settings.correspondence,
        tree_mail_to=next((one.mail_to for one in settings.trees if one.name == tree), ()),
        series_mail_to=watched.mail_to if watched else (),
        series_archive=next(
            (one.url for one in settings.lists if watched and one.name == watched.list), None
        ),
    )


async def _series_from_files(settings: Settings, database: Database) -> None:
    """Patches that the operator keeps as files are accepted, and current, by being there."""
    for watched in settings.series:
        if not watched.files:
            continue
        mbox = b"".join(path.read_bytes() for path in watched.files)
        series = Series(
            name=watched.rule.name,
            digest=series_digest(mbox),
            title=watched.rule.name,
            origin="files",
            patches=len(watched.files),
            accepted_by="the configuration",
            posted_at=time.time(),
        )
        await database.write(_put_series, series, mbox)


def _put_series(tx: Transaction, series: Series, mbox: bytes) -> None:
    if series_store.use(tx, series, mbox):
        motion.plan_newest(tx, now=series.posted_at)


def check_tools() -> None:
    """ConfigError that names every program the daemon itself needs and does not find."""
    missing = [name for name in ("git", "setpriv") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"not installed: {', '.join(missing)} (Debian: git, util-linux)")


def _clear(state: StateDirectory) -> None:
    """Make the scratch folder, without what a killed daemon left in it."""
    state.scratch.mkdir(parents=True, exist_ok=True)
    for left in state.scratch.iterdir():
        if left != state.source:
            shutil.rmtree(left, ignore_errors=True)
