# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: what runs side by side from its start until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from kwatch.adapters import systemd
from kwatch.adapters.preflight import inspect, try_guests
from kwatch.app import open_lab
from kwatch.domain.facts import CommandState
from kwatch.domain.host import IDLE, Health, HostFacts, HostState, Load
from kwatch.domain.job import JobKind
from kwatch.errors import ConfigError, InfraError, ungrouped
from kwatch.schedule import Schedule
from kwatch.stages import command
from kwatch.store import commands, hosts, live, queue, record
from kwatch.web.control import make_control
from kwatch.web.health import LONGEST_BEAT, Liveness
from kwatch.web.rendering import TAIL_BYTES
from kwatch.web.server import make_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.adapters.accelerator import Accelerators
    from kwatch.adapters.host import Host
    from kwatch.adapters.pool import Pool
    from kwatch.app import Lab
    from kwatch.config.settings import Settings
    from kwatch.domain.command import Command
    from kwatch.store.database import Database

log = logging.getLogger(__name__)

CONTROL = "control.sock"
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
BEAT_SECONDS = 10.0
HEALTH_SECONDS = 2.0
DAY = 86400.0
# Seconds from one look at a host to the next. One that is not fit may have been mended meanwhile.
LOOK_AGAIN = {Health.OK: DAY, Health.QUARANTINED: 600.0, Health.DRAINED: DAY}


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
                log.info("stopping: what runs is put back and goes on at the next start")
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
    return [
        group.create_task(lab.worker.run(), name="worker"),
        *(
            group.create_task(_welcome(lab, host), name=f"host-{host.name}")
            for host in lab.pool.hosts.values()
        ),
        *(
            group.create_task(
                tell(host, pool=lab.pool, accelerators=lab.accelerators, database=lab.database),
                name=f"facts-{host.name}",
            )
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
    # No order concerns a host, and the key to one may be a credential of the daemon.
    async with open_lab(dataclasses.replace(settings, hosts=())) as lab:
        number = await lab.database.write(commands.give, given, now=time.time())
        job = await lab.database.write(queue.claim, [JobKind.COMMAND], now=time.time())
        while job is not None:
            facts = await command.run(
                job,
                sources=settings.schedule.sources.keys(),
                hosts=[one.name for one in settings.hosts],
                pool=lab.pool,
                database=lab.database,
                clock=time.time,
            )
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
            periods=settings.schedule.sources,
        )

    pages = web.AppRunner(
        make_application(
            database=lab.database,
            liveness=liveness,
            clock=time.time,
            read_blob=lab.blobs.read,
            read_live=partial(live.tail, settings.state_directory, limit=TAIL_BYTES),
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
    """Look a host over when it joins, after it failed, each day, and when the operator asks.

    What nobody owns there is ended before it is admitted; one that is away is tried again later.
    """
    held = await lab.database.read(hosts.seen)
    for known in held:
        if known.name == host.name and known.state.health is Health.DRAINED:
            lab.pool.hold(host.name, known.state)
    noted, pause, due = None, FIRST_PAUSE, time.monotonic()
    while True:
        wait, state = HEALTH_SECONDS, lab.pool.state(host.name)
        is_due = time.monotonic() >= due and state.health is not Health.DRAINED
        if is_due or lab.pool.wants_preflight(host.name):
            noted, state = None, await _look_over(lab, host)
            if state.health is Health.UNREACHABLE:
                wait, pause = pause, min(pause * 2, LONGEST_PAUSE)
            else:
                pause, due = FIRST_PAUSE, time.monotonic() + LOOK_AGAIN[state.health]
        if state != noted and await _note(lab, host, state):
            noted = state
        if await lab.pool.rest(host.name, wait):
            pause = FIRST_PAUSE


async def _look_over(lab: Lab, host: Host) -> HostState:
    """Admit a host, quarantine it, or find that it does not answer."""
    try:
        if lab.pool.wants_preflight(host.name):
            await _clear(lab, host)
        reason = await inspect(host, now=time.time())
        if reason is None:
            lab.accelerators.forget(host)
            if lab.pool.wants_preflight(host.name):
                # Builds need not wait until it is known what runs guests.
                await lab.pool.admit(host.name)
            reason = await try_guests(host, lab.accelerators)
    except InfraError as error:
        log.warning("%s", error)
        return HostState(health=Health.UNREACHABLE, reason=str(error).splitlines()[0])
    if reason is None:
        await lab.pool.admit(host.name)
    else:
        log.error("%s gets no work: %s", host.name, reason)
        lab.pool.hold(host.name, HostState(health=Health.QUARANTINED, reason=reason))
    return lab.pool.state(host.name)


async def _clear(lab: Lab, host: Host) -> None:
    """End what nobody owns on a host, which may well be at work."""
    left = set(await host.runs())
    # In this order: the handle of a run is stored before its start.
    owned = await lab.database.read(queue.handles)
    left -= {one.run_id for one in owned if one.host == host.name}
    for run_id in sorted(left):
        await host.discard(run_id)
    if left:
        log.info("%s: ended what was left: %s", host.name, ", ".join(sorted(left)))


async def tell(host: Host, *, pool: Pool, accelerators: Accelerators, database: Database) -> None:
    """Keep what people want to know of a host, whenever it changes, until cancelled."""
    told: HostFacts | None = None

    async def keep(load: Load) -> HostFacts | None:
        found = _facts(host, load, accelerators)
        try:
            is_kept = found == told or await database.write(hosts.tell, host.name, found)
        except InfraError as error:
            log.warning("%s", error)
            is_kept = False
        return found if is_kept else told

    try:
        while True:
            if host.cache.used is None and pool.state(host.name).health is Health.OK:
                with contextlib.suppress(InfraError):
                    await host.cache.trim()
            told = await keep(pool.load(host.name))
            await asyncio.sleep(HEALTH_SECONDS)
    except asyncio.CancelledError:
        # What runs is put back, or left to its lease: nobody holds a slot any more.
        await asyncio.shield(keep(IDLE))
        raise


def _facts(host: Host, load: Load, accelerators: Accelerators) -> HostFacts:
    guests = accelerators.guests(host)
    return HostFacts(
        slots=dict(host.spec.slots),
        load=load,
        memory=host.spec.memory,
        cache=host.cache.used,
        cache_budget=host.cache.budget,
        looked_at=host.looked_at,
        guests={one: why for one, why in guests.items() if one in host.spec.accelerators},
    )


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
