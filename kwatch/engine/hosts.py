# SPDX-License-Identifier: GPL-2.0-or-later
"""Care of the hosts while the daemon runs: checked before they get work, shown to the operator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from kwatch.adapters.host.fitness import inspect, try_guests
from kwatch.domain.lab.backoff import Backoff
from kwatch.domain.lab.host import IDLE, Health, HostFacts, HostState, Load
from kwatch.domain.lab.job import CACHES, JobKind
from kwatch.errors import InfraError
from kwatch.store import hosts, motion, queue

if TYPE_CHECKING:
    from kwatch.adapters.guest.accelerator import Accelerators
    from kwatch.adapters.host.host import Host
    from kwatch.adapters.host.pool import Pool
    from kwatch.store.database import Database

log = logging.getLogger(__name__)

UNREACHABLE = Backoff(first=5.0, longest=60.0)
HEALTH_SECONDS = 2.0
DAY = 86400.0
# Seconds between two checks of a host. One that was not fit may have been repaired meanwhile.
CHECK_AGAIN = {Health.OK: DAY, Health.QUARANTINED: 600.0, Health.DRAINED: DAY}


class HostCare:
    """Checks hosts and publishes their state, for as long as its two loops run."""

    def __init__(self, *, pool: Pool, accelerators: Accelerators, database: Database) -> None:
        self._pool = pool
        self._accelerators = accelerators
        self._database = database

    async def check(self, host: Host) -> None:
        """Check a host when it joins, after a failure, daily, and on demand; until cancelled.

        Runs that no job owns are ended before it is admitted; an unreachable host is retried.
        """
        for known in await self._database.read(hosts.seen):
            if known.name == host.name and known.state.health is Health.DRAINED:
                self._pool.hold(host.name, known.state)
        noted, failures, due = None, 0, time.monotonic()
        while True:
            wait, state = HEALTH_SECONDS, self._pool.state(host.name)
            is_due = time.monotonic() >= due and state.health is not Health.DRAINED
            if is_due or self._pool.wants_preflight(host.name):
                noted, state = None, await self._check_once(host)
                if state.health is Health.UNREACHABLE:
                    failures += 1
                    wait = UNREACHABLE.delay(failures)
                else:
                    failures, due = 0, time.monotonic() + CHECK_AGAIN[state.health]
            if state != noted and await self._note(host, state):
                if state.health is Health.OK:
                    await self._retry()
                noted = state
            if await self._pool.rest(host.name, wait):
                failures = 0

    async def _check_once(self, host: Host) -> HostState:
        """Admit the host, quarantine it, or find it unreachable."""
        try:
            if self._pool.wants_preflight(host.name):
                await self._end_orphans(host)
            reason = await inspect(host, now=time.time())
            if reason is None:
                self._accelerators.forget(host)
                if self._pool.wants_preflight(host.name):
                    # Builds can start before it is known which accelerators work.
                    await self._pool.admit(host.name)
                reason = await try_guests(host, self._accelerators)
        except InfraError as error:
            log.warning("%s", error)
            return HostState(health=Health.UNREACHABLE, reason=str(error).splitlines()[0])
        if reason is None:
            await self._pool.admit(host.name)
        else:
            log.error("%s gets no work: %s", host.name, reason)
            self._pool.hold(host.name, HostState(health=Health.QUARANTINED, reason=reason))
        return self._pool.state(host.name)

    async def _end_orphans(self, host: Host) -> None:
        """End runs on a host that no job owns; they may still be running."""
        left = set(await host.runs.ids())
        # In this order: the handle of a run is stored before its start.
        owned = await self._database.read(queue.handles)
        left -= {one.run_id for one in owned if one.host == host.name}
        for run_id in sorted(left):
            await host.runs.discard(run_id)
        if left:
            log.info("%s: ended orphaned runs: %s", host.name, ", ".join(sorted(left)))

    async def publish(self, host: Host) -> None:
        """Store load, cache and accelerators of a host whenever they change, until cancelled."""
        stored: HostFacts | None = None

        async def keep(load: Load) -> HostFacts | None:
            found = self._facts(host, load)
            try:
                is_kept = found == stored or await self._database.write(
                    hosts.tell, host.name, found
                )
            except InfraError as error:
                log.warning("%s", error)
                is_kept = False
            return found if is_kept else stored

        try:
            while True:
                if host.cache.used is None and self._pool.state(host.name).health is Health.OK:
                    with contextlib.suppress(InfraError):
                        await host.cache.trim()
                stored = await keep(self._pool.load(host.name))
                await asyncio.sleep(HEALTH_SECONDS)
        except asyncio.CancelledError:
            # Running jobs are put back or left to their lease: no slot is held any more.
            await asyncio.shield(keep(IDLE))
            raise

    def _facts(self, host: Host, load: Load) -> HostFacts:
        guests = self._accelerators.guests(host)
        return HostFacts(
            slots=dict(host.spec.slots),
            load=load,
            memory=host.spec.memory,
            cache=host.cache.used,
            cache_budget=host.cache.budget,
            looked_at=host.looked_at,
            guests={one: why for one, why in guests.items() if one in host.spec.accelerators},
        )

    async def _retry(self) -> None:
        """A host is back: try again what the lab failed at without it, and tidy what it kept."""
        try:
            count = await self._database.write(motion.retry, tries=None, now=time.time())
            await self._database.write(queue.enqueue, JobKind.TIDY, CACHES, now=time.time())
        except InfraError as error:
            log.warning("%s", error)
            return
        if count:
            log.info("%d trials that the lab failed at are tried again", count)

    async def _note(self, host: Host, state: HostState) -> bool:
        """Store the state that ``kwatch hosts`` shows; whether that was possible."""
        try:
            await self._database.write(hosts.note, host.name, state, now=time.time())
        except InfraError as error:
            log.warning("%s", error)
            return False
        return True
