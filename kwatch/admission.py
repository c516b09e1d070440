# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts of a running lab: looked over before they get work, and told of while they have it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from kwatch.adapters.preflight import inspect, try_guests
from kwatch.domain.host import IDLE, Health, HostFacts, HostState, Load
from kwatch.errors import InfraError
from kwatch.store import hosts, queue

if TYPE_CHECKING:
    from kwatch.adapters.accelerator import Accelerators
    from kwatch.adapters.host import Host
    from kwatch.adapters.pool import Pool
    from kwatch.app import Lab
    from kwatch.store.database import Database

log = logging.getLogger(__name__)

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
HEALTH_SECONDS = 2.0
DAY = 86400.0
# Seconds from one look at a host to the next. One that is not fit may have been mended meanwhile.
LOOK_AGAIN = {Health.OK: DAY, Health.QUARANTINED: 600.0, Health.DRAINED: DAY}


async def welcome(lab: Lab, host: Host) -> None:
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
    left = set(await host.runs.ids())
    # In this order: the handle of a run is stored before its start.
    owned = await lab.database.read(queue.handles)
    left -= {one.run_id for one in owned if one.host == host.name}
    for run_id in sorted(left):
        await host.runs.discard(run_id)
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
