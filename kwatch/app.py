# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place where everything is put together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from kwatch import __version__
from kwatch.adapters import systemd
from kwatch.adapters.git import Git
from kwatch.adapters.host import Host
from kwatch.adapters.lore import Lore
from kwatch.adapters.pool import Pool
from kwatch.adapters.smtp import Smtp
from kwatch.domain.facts import CommandState
from kwatch.domain.host import Health, HostState
from kwatch.domain.job import JobKind
from kwatch.domain.series import Series, series_digest
from kwatch.errors import ConfigError, InfraError, KwatchError
from kwatch.schedule import Schedule, Tick
from kwatch.stages import (
    boot,
    build,
    checkout,
    collect,
    command,
    investigate,
    judge,
    listen,
    plan,
    report,
    send,
    watch,
)
from kwatch.store import commands, history, hosts, lock, queue, record
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from kwatch.web.control import make_control
from kwatch.web.health import LONGEST_BEAT, Liveness
from kwatch.web.server import make_application
from kwatch.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from kwatch.config.settings import Settings
    from kwatch.domain.command import Command
    from kwatch.domain.posting import SeriesRule
    from kwatch.domain.report import Correspondence
    from kwatch.store.database import Transaction

log = logging.getLogger(__name__)

DATABASE = "history.sqlite"
CONTROL = "control.sock"
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 600.0
BEAT_SECONDS = 10.0
HEALTH_SECONDS = 2.0
MIB = 1 << 20


class Lab:
    """A running lab: what the verbs of the command line work with."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        pool: Pool,
        worker: Worker,
    ) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.pool = pool
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
        ]  # fmt: skip


@contextlib.asynccontextmanager
async def open_lab(settings: Settings) -> AsyncIterator[Lab]:
    """Take the state directory, recover what a killed daemon left, and put the parts together.

    Raises ConfigError, and touches nothing, where the directory is in use or the database is of
    a newer kwatch.
    """
    check_tools()
    # A key or a pinned host key that cannot be used is found here.
    pool = Pool([Host(spec) for spec in settings.hosts], clock=time.time)
    state = settings.state_directory
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(lock.hold(state))
        database = await Database.open(state / DATABASE)
        stack.push_async_callback(database.close)
        blobs = Blobs(
            state / "blobs", database=database, budget=settings.blobs_budget, clock=time.time
        )
        git = Git(state / "linux.git")
        await git.create()
        for repository in (git.directory, *(state / "lore").glob("*/*.git")):
            await Git(repository).clear_locks()
        scratch = state / "scratch"
        await asyncio.to_thread(_clear, scratch)
        await blobs.sweep()
        recovered = await database.write(queue.recover, now=time.time())
        if recovered:
            log.info("going on with %d jobs of the last run", recovered)
        await _series_from_files(settings, database)
        stack.push_async_callback(pool.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        lore = Lore(
            directory=state / "lore",
            user_agent=f"kwatch/{__version__}+{settings.contact}",
            session=session,
        )
        worker = Worker(
            database=database,
            stages=_stages(
                settings,
                _Ports(
                    database=database,
                    git=git,
                    pool=pool,
                    blobs=blobs,
                    lore=lore,
                    scratch=scratch,
                ),
            ),
            slots=settings.slots,
            clock=time.time,
            jitter=random.random,
        )
        yield Lab(settings=settings, database=database, blobs=blobs, pool=pool, worker=worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    """The doors and stores that stages work with."""

    database: Database
    git: Git
    pool: Pool
    blobs: Blobs
    lore: Lore
    scratch: Path


def _stages(settings: Settings, ports: _Ports) -> Mapping[JobKind, Stage]:
    """Every stage with the ports it needs."""
    trees = {tree.name: tree for tree in settings.trees}
    database, git, scratch = ports.database, ports.git, ports.scratch
    return {
        JobKind.WATCH: partial(watch.run, trees=trees, git=git, database=database, clock=time.time),
        JobKind.LISTEN: partial(
            listen.run,
            lists={one.name: one for one in settings.lists},
            rules=_rules(settings),
            lore=ports.lore,
            database=database,
            clock=time.time,
        ),
        JobKind.PLAN: partial(plan.run, trees=trees, variants=settings.variants, database=database),
        JobKind.CHECKOUT: partial(
            checkout.run, git=git, scratch=scratch / "source", database=database
        ),
        JobKind.BUILD: partial(
            build.run,
            git=git,
            pool=ports.pool,
            blobs=ports.blobs,
            database=database,
            scratch=scratch,
        ),
        JobKind.BOOT: partial(
            boot.run,
            pool=ports.pool,
            blobs=ports.blobs,
            database=database,
            scratch=scratch,
            busybox=settings.busybox.read_bytes(),
            accelerators=boot.Accelerators(),
        ),
        JobKind.COLLECT: partial(
            collect.run, pool=ports.pool, blobs=ports.blobs, database=database, scratch=scratch
        ),
        JobKind.JUDGE: partial(judge.run, database=database),
        JobKind.INVESTIGATE: partial(investigate.run, git=git, database=database),
        JobKind.REPORT: partial(
            report.run,
            trees=trees,
            correspondence=partial(_correspondence, settings),
            git=git,
            database=database,
            token=partial(secrets.token_hex, 4),
            status_url=settings.web.url,
        ),
        JobKind.SEND: partial(send.run, smtp=Smtp(settings.smtp), database=database),
        JobKind.COMMAND: partial(command.run, database=database, clock=time.time),
    }


def _rules(settings: Settings) -> Mapping[str, Sequence[SeriesRule]]:
    """The series to look for on each list."""
    return {
        one.name: [series.rule for series in settings.series if series.list == one.name]
        for one in settings.lists
    }


def _correspondence(settings: Settings, tree: str, series: str | None) -> Correspondence:
    """The lab's rules for mail about one tree and one series."""
    return dataclasses.replace(
        settings.correspondence,
        tree_mail_to=next((one.mail_to for one in settings.trees if one.name == tree), ()),
        series_mail_to=next(
            (one.mail_to for one in settings.series if one.rule.name == series), ()
        ),
    )


async def _series_from_files(settings: Settings, database: Database) -> None:
    """Patches that the operator keeps as files are accepted by being there."""
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
    if history.put_series(tx, series, mbox):
        record.plan_newest(tx, now=series.posted_at)


def check_tools() -> None:
    """ConfigError that names every program the daemon itself needs and does not find."""
    missing = [name for name in ("git", "setpriv") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"not installed: {', '.join(missing)} (Debian: git, util-linux)")


def _clear(scratch: Path) -> None:
    """Make the scratch folder, without what a killed daemon left in it."""
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.iterdir():
        if left.name != "source":
            shutil.rmtree(left, ignore_errors=True)


async def run(settings: Settings) -> None:
    """Be the daemon, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        started = time.time()
        async with (
            open_lab(settings) as lab,
            serve(lab, started),
            asyncio.TaskGroup() as group,
        ):
            tasks = [
                *_work(lab, group),
                group.create_task(_feed_watchdog(lab), name="watchdog"),
            ]
            with Schedule(lab.ticks(), put=lab.put, now=datetime.fromtimestamp(started, UTC)):
                systemd.ready()
                log.info("lab %s is up", settings.name)
                await stop.wait()
                systemd.stopping()
                log.info("stopping: what runs is put back and goes on at the next start")
            for task in tasks:
                task.cancel()
    except* KwatchError as errors:
        raise errors.exceptions[0] from None


async def once(settings: Settings, *, patience: float) -> None:
    """Look at every source once and work until nothing is left to do within ``patience`` s."""
    try:
        async with open_lab(settings) as lab, asyncio.TaskGroup() as group:
            for tick in lab.ticks():
                await lab.put(tick.kind, tick.key)
            tasks = _work(lab, group)
            while not await lab.worker.is_idle(patience=patience):  # noqa: ASYNC110 - two sources
                await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
    except* KwatchError as errors:
        raise errors.exceptions[0] from None


def _work(lab: Lab, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
    """The tasks that do the lab's work."""
    return [
        group.create_task(lab.worker.run(), name="worker"),
        *(
            group.create_task(_welcome(lab, host), name=f"host-{host.name}")
            for host in lab.pool.hosts.values()
        ),
    ]


async def order(settings: Settings, given: Command) -> tuple[bool, str]:
    """Have a command carried out, by the daemon if one runs.

    Whether it was done, and the answer.
    """
    path = settings.state_directory / CONTROL
    if path.exists():
        try:
            return await _ask(path, given)
        except aiohttp.ClientConnectionError:
            log.debug("nobody listens on %s", path)
    async with open_lab(settings) as lab:
        number = await lab.database.write(commands.give, given, now=time.time())
        job = await lab.database.write(queue.claim, [JobKind.COMMAND], now=time.time())
        while job is not None:
            facts = await command.run(job, database=lab.database, clock=time.time)
            if facts is not None:
                await lab.database.write(record.record, job, facts, now=time.time())
            job = await lab.database.write(queue.claim, [JobKind.COMMAND], now=time.time())
        stored = await lab.database.read(commands.load, number)
    return stored.state is CommandState.DONE, stored.answer or ""


async def _ask(path: Path, given: Command) -> tuple[bool, str]:
    connector = aiohttp.UnixConnector(str(path))
    body = {"verb": given.verb, "argument": given.argument}
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://localhost/command", json=body) as response,
    ):
        answer = await response.json()
    if "error" in answer:
        raise InfraError(f"the daemon refuses: {answer['error']}")
    return answer["state"] == CommandState.DONE, answer["answer"]


@contextlib.asynccontextmanager
async def serve(lab: Lab, started_at: float) -> AsyncIterator[None]:
    """Serve the status pages over TCP, and commands on the control socket.

    Raises ConfigError, before anything is served, where the port cannot be had.
    """
    settings = lab.settings

    def liveness() -> Liveness:
        return Liveness(
            started_at=started_at,
            beat=lab.worker.beat,
            periods={
                **{f"tree:{name}": every for name, every in settings.schedule.tree_poll.items()},
                **{f"list:{name}": every for name, every in settings.schedule.list_poll.items()},
            },
        )

    pages = web.AppRunner(
        make_application(
            database=lab.database,
            liveness=liveness,
            clock=time.time,
            read_blob=lab.blobs.read,
            name=settings.name,
        ),
        shutdown_timeout=2.0,
        access_log=None,
    )
    control = web.AppRunner(
        make_control(database=lab.database, wake=lab.worker.wake, clock=time.time),
        shutdown_timeout=2.0,
        access_log=None,
    )
    path = settings.state_directory / CONTROL
    try:
        await pages.setup()
        await control.setup()
        try:
            await web.TCPSite(pages, settings.web.host, settings.web.port).start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.web.host}:{settings.web.port}"
                f" ({error.strerror}): correct [web]"
            ) from error
        path.unlink(missing_ok=True)
        await web.UnixSite(control, str(path)).start()
        path.chmod(0o660)
        yield
    finally:
        await pages.cleanup()
        await control.cleanup()
        path.unlink(missing_ok=True)


async def _welcome(lab: Lab, host: Host) -> None:
    """End what nobody owns on a host, then admit it; again later for as long as it is away."""
    pause = FIRST_PAUSE
    while True:
        try:
            handles = await lab.database.read(queue.handles)
            ended = await host.reap({handle.run_id for handle in handles})
        except InfraError as error:
            log.warning("%s", error)
            state = HostState(health=Health.UNREACHABLE, reason=str(error).splitlines()[0])
            await _note(lab, host, state)
        else:
            if ended:
                log.info("%s: ended what was left: %s", host.name, ", ".join(ended))
            await lab.pool.admit(host.name)
            break
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
    noted = None
    while True:
        state = lab.pool.seen(host.name)
        if state != noted and await _note(lab, host, state):
            noted = state
        await asyncio.sleep(HEALTH_SECONDS)


async def _note(lab: Lab, host: Host, state: HostState) -> bool:
    """Keep what ``kwatch hosts`` shows; whether that was possible."""
    try:
        await lab.database.write(hosts.note, host.name, state, now=time.time())
    except InfraError as error:
        log.warning("%s", error)
        return False
    return True


async def _feed_watchdog(lab: Lab) -> None:
    """Tell systemd that we live, as long as the worker really goes round."""
    interval = systemd.watchdog_interval() or BEAT_SECONDS
    while True:
        if time.time() - lab.worker.beat < LONGEST_BEAT:
            systemd.alive()
            systemd.status(f"{len(lab.worker.running)} jobs running")
        await asyncio.sleep(interval)
