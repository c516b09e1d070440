# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: what runs side by side from its start until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from kwatch.adapters import systemd
from kwatch.app import open_lab
from kwatch.engine.hosts import HostCare
from kwatch.engine.schedule import Schedule
from kwatch.errors import ConfigError, ungrouped
from kwatch.store import live
from kwatch.web.control import make_control
from kwatch.web.health import LONGEST_BEAT, Liveness
from kwatch.web.rendering import TAIL_BYTES
from kwatch.web.server import make_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Coroutine

    from kwatch.app import Lab
    from kwatch.config.settings import Settings

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
# Between two looks of a single round whether it is over.
LOOK_SECONDS = 0.2
# Limits of a stop, in seconds: for the answers of all hosts together, for HTTP requests in
# progress, and for the whole process.
LAST_ANSWERS = 4.0
LAST_REQUESTS = 1.0
LONGEST_STOP = 8.0


async def run(settings: Settings) -> None:
    """Be the daemon, until SIGTERM or SIGINT."""
    stop = _stop_requested()
    started = time.time()
    with ungrouped():
        async with (
            open_lab(settings) as lab,
            serve(lab, started),
            _at_work(lab, _feed_watchdog(lab)),
        ):
            with Schedule(lab.ticks(), put=lab.put, now=datetime.fromtimestamp(started, UTC)):
                systemd.ready()
                log.info("lab %s is up", settings.name)
                await stop.wait()
                systemd.stopping()


async def once(settings: Settings, *, patience: float) -> bool:
    """Look at every source once and work until nothing is left to do within ``patience`` s.

    Whether it came to that: SIGTERM and SIGINT end it before, as they end the daemon.
    """
    stop = _stop_requested()
    with ungrouped():
        async with open_lab(settings) as lab, _at_work(lab):
            for tick in lab.ticks():
                await lab.put(tick.kind, tick.key)
            while not (stop.is_set() or await lab.worker.is_idle(patience=patience)):  # noqa: ASYNC110 - three sources
                await asyncio.sleep(LOOK_SECONDS)
    return not stop.is_set()


def _stop_requested() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, also where a shell made us ignore the latter (``kwatch &``)."""
    stop = asyncio.Event()

    def begin() -> None:
        if not stop.is_set():
            log.info("stopping: what runs on hosts goes on under its lease")
            leave_within(LONGEST_STOP)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, begin)
    return stop


def leave_within(seconds: float) -> None:
    """Exit after so many seconds, whatever is still running: a thread cannot be cancelled.

    As after a kill, this costs the steps in progress.
    """

    def leave() -> None:
        log.error("not stopped within %g s: exiting as after a kill", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


@contextlib.asynccontextmanager
async def _at_work(lab: Lab, *besides: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Do the lab's work, and what is to be done ``besides``, until this is left."""
    care = HostCare(pool=lab.pool, accelerators=lab.accelerators, database=lab.database)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.worker.run(), name="worker"),
            *(
                group.create_task(loop(host), name=f"{name}-{host.name}")
                for host in lab.pool.hosts.values()
                for name, loop in (("check", care.check), ("publish", care.publish))
            ),
            *(group.create_task(one) for one in besides),
        ]
        try:
            yield
        finally:
            await end(tasks, within=LAST_ANSWERS)


async def end(tasks: Collection[asyncio.Task[None]], *, within: float) -> None:
    """Cancel ``tasks``, and after ``within`` seconds everything that they still wait for.

    A command whose start or stop a host did not answer is left to its lease.
    """
    for task in tasks:
        task.cancel()
    _, left = await asyncio.wait(tasks, timeout=within)
    if left:
        log.warning("no answer within %g s, left to its lease: %s", within,
                    ", ".join(sorted(task.get_name() for task in left)))  # fmt: skip
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()


@contextlib.asynccontextmanager
async def serve(lab: Lab, started_at: float) -> AsyncIterator[None]:
    """Serve the status pages over TCP, and commands on the control socket.

    Raises ConfigError, before anything is served, where the port cannot be had.
    """
    settings = lab.settings
    pages = web.AppRunner(_pages(lab, started_at), shutdown_timeout=LAST_REQUESTS, access_log=None)
    control = web.AppRunner(
        make_control(database=lab.database, wake=lab.worker.wake, clock=time.time),
        shutdown_timeout=LAST_REQUESTS,
        access_log=None,
    )
    path = settings.state.control
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
        await asyncio.gather(pages.cleanup(), control.cleanup())
        path.unlink(missing_ok=True)


def _pages(lab: Lab, started_at: float) -> web.Application:
    """The status pages of this lab."""
    settings = lab.settings

    def liveness() -> Liveness:
        return Liveness(
            started_at=started_at,
            beat=lab.worker.beat,
            periods=settings.schedule.sources,
        )

    return make_application(
        database=lab.database,
        liveness=liveness,
        clock=time.time,
        read_tail=lab.blobs.tail,
        read_live=partial(live.tail, settings.state.scratch, limit=TAIL_BYTES),
        name=settings.name,
        host_names=settings.web.host_names,
    )


async def _feed_watchdog(lab: Lab) -> None:
    """Tell systemd that we live, as long as the worker really goes round."""
    interval = systemd.watchdog_interval() or BEAT_SECONDS
    while True:
        if time.time() - lab.worker.beat < LONGEST_BEAT:
            systemd.alive()
            systemd.status(f"{len(lab.worker.running)} jobs running")
        await asyncio.sleep(interval)
