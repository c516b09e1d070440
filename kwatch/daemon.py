# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: what runs side by side from its start until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
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
    from collections.abc import AsyncIterator

    from kwatch.app import Lab
    from kwatch.config.settings import Settings

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0


async def run(settings: Settings) -> None:
    """Be the daemon, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    started = time.time()
    with ungrouped():
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
                log.info("stopping: what runs on hosts goes on under its lease")
            for task in tasks:
                task.cancel()


async def once(settings: Settings, *, patience: float) -> None:
    """Look at every source once and work until nothing is left to do within ``patience`` s."""
    with ungrouped():
        async with open_lab(settings) as lab, asyncio.TaskGroup() as group:
            for tick in lab.ticks():
                await lab.put(tick.kind, tick.key)
            tasks = _work(lab, group)
            while not await lab.worker.is_idle(patience=patience):  # noqa: ASYNC110 - two sources
                await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()


def _work(lab: Lab, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
    """The tasks that do the lab's work."""
    care = HostCare(pool=lab.pool, accelerators=lab.accelerators, database=lab.database)
    return [
        group.create_task(lab.worker.run(), name="worker"),
        *(
            group.create_task(loop(host), name=f"{name}-{host.name}")
            for host in lab.pool.hosts.values()
            for name, loop in (("check", care.check), ("publish", care.publish))
        ),
    ]


@contextlib.asynccontextmanager
async def serve(lab: Lab, started_at: float) -> AsyncIterator[None]:
    """Serve the status pages over TCP, and commands on the control socket.

    Raises ConfigError, before anything is served, where the port cannot be had.
    """
    settings = lab.settings
    pages = web.AppRunner(_pages(lab, started_at), shutdown_timeout=2.0, access_log=None)
    control = web.AppRunner(
        make_control(database=lab.database, wake=lab.worker.wake, clock=time.time),
        shutdown_timeout=2.0,
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
        await pages.cleanup()
        await control.cleanup()
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
