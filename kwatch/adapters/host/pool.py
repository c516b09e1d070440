# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts of the lab as one pool of slots.

A slot has a number, and with it one worktree and one build folder on its host. A host that fails
is left alone for a while, longer each time, and then wants to be looked over before it gets work.
One that does not answer whoever has work there gets no more of it until it does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from kwatch.adapters.host.host import Host
from kwatch.domain.lab.backoff import Backoff
from kwatch.domain.lab.host import (
    Health,
    HostSpec,
    HostState,
    Load,
    Need,
    Slot,
    fits,
    place,
    suits,
)
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from kwatch.domain.lab.job import Handle

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 900.0
REST = Backoff(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
# Seconds that a job waits for a slot, and from then until it asks again: a job that cannot be
# placed now must not hold a slot of the worker, which others could use.
WAIT_SECONDS = 0.5
ASK_AGAIN = 3.0
LOOK_SECONDS = 0.2
# How long of that for a host that an earlier daemon had it on, and that is not reached yet.
ARRIVAL_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A slot on a host, held by one job."""

    host: Host
    slot: int


@dataclass(slots=True, kw_only=True)
class _Breaker:
    """Failures in a row of a host, and until when it is left alone.

    ``is_suspect`` from a failure until the host is looked over, or does something well.
    """

    failures: int = 0
    is_suspect: bool = False
    until: float = 0.0
    reason: str = ""


class Pool:
    """Hands out slots on healthy hosts."""

    def __init__(self, hosts: Iterable[Host], *, clock: Callable[[], float]) -> None:
        self.hosts = {host.name: host for host in hosts}
        self._clock = clock
        self._breakers: defaultdict[str, _Breaker] = defaultdict(_Breaker)
        self._used: dict[tuple[str, Slot, int], Need] = {}
        self._admitted: set[str] = set()
        self._held: dict[str, HostState] = {}
        self._mended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Condition()

    async def admit(self, name: str) -> None:
        """Give a host work from now on: what an earlier daemon left there is cleared away.

        One that the operator took out meanwhile stays out.
        """
        self._admitted.add(name)
        self._breakers[name].is_suspect = False
        if not self._is_drained(name):
            self._held.pop(name, None)
        async with self._changed:
            self._changed.notify_all()

    def hold(self, name: str, state: HostState) -> None:
        """Give a host no more work, for the reason in ``state``; what runs there goes on.

        What the operator took out stays that, whatever else is wrong with it.
        """
        if not self._is_drained(name):
            self._held[name] = state

    def _is_drained(self, name: str) -> bool:
        return name in self._held and self._held[name].health is Health.DRAINED

    def release(self, name: str) -> None:
        """Look a host over again, which decides whether it gets work."""
        self._held.pop(name, None)
        self._admitted.discard(name)
        self._mended[name].set()

    async def rest(self, name: str, seconds: float) -> bool:
        """Wait so long before the next look at a host, or until it was released; whether it was."""
        mended = self._mended[name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await mended.wait()
        was_released = mended.is_set()
        mended.clear()
        return was_released

    def wants_preflight(self, name: str) -> bool:
        """Whether nobody knows if a host is fit."""
        breaker = self._breakers[name]
        has_rested = breaker.is_suspect and breaker.until <= self._clock()
        return (name not in self._admitted or has_rested) and name not in self._held

    def state(self, name: str) -> HostState:
        """Whether a host gets work now, and why not."""
        if name in self._held:
            return self._held[name]
        if name not in self._admitted:
            return HostState(health=Health.UNREACHABLE, reason="not reached yet")
        breaker = self._breakers[name]
        if breaker.is_suspect or breaker.until > self._clock():
            return HostState(health=Health.UNREACHABLE, reason=breaker.reason)
        if trouble := self.hosts[name].runs.trouble:
            return HostState(health=Health.UNREACHABLE, reason=_line(trouble))
        return HostState()

    def serves(self, need: Need) -> bool:
        """Whether a host could serve ``need`` now or later; none that the operator took out."""
        return any(
            suits(need, host.spec) and not self._is_drained(name)
            for name, host in self.hosts.items()
        )

    def load(self, name: str) -> Load:
        """What is leased on a host now."""
        needs = [need for (host, _, _), need in self._used.items() if host == name]
        return Load(
            slots=Counter(need.slot for need in needs), memory=sum(need.memory for need in needs)
        )

    def with_tools(self, built_on: str) -> Host:
        """The host that built a kernel, which has its toolchain and, likely, the image.

        Another one with build slots where it is no longer among us; InfraError if there is none.
        """
        if built_on in self.hosts:
            return self.hosts[built_on]
        for host in self.hosts.values():
            if host.spec.slots.get(Slot.BUILD, 0) > 0:
                return host
        raise InfraError("no host has the tools to read an image: configure one with build slots")

    @contextlib.asynccontextmanager
    async def lease(self, need: Need, *, prefer: Handle | None = None) -> AsyncIterator[Lease]:
        """Hold a slot that serves ``need``; the one of ``prefer`` if that can be had.

        No host that ever could, or none free now, raises InfraError; the latter counts as no
        failure. A failure inside that names the host makes it rest.
        """
        lease = await self._take(need, prefer)
        try:
            yield lease
        except InfraError as error:
            if error.host == lease.host.name:
                self._note_failure(lease.host.name, str(error))
            raise
        else:
            self._breakers[lease.host.name] = _Breaker()
        finally:
            self._used.pop((lease.host.name, need.slot, lease.slot))
            async with self._changed:
                self._changed.notify_all()

    async def close(self) -> None:
        """Drop all connections, of all hosts at once."""

        async def close(host: Host) -> None:
            with contextlib.suppress(InfraError):
                await host.close()

        async with asyncio.TaskGroup() as group:
            for host in self.hosts.values():
                group.create_task(close(host))

    async def _take(self, need: Need, prefer: Handle | None) -> Lease:
        specs = [host.spec for host in self.hosts.values()]
        if not any(suits(need, spec) for spec in specs):
            raise InfraError(f"no host can {need}: add one to the configuration")
        try:
            if prefer is not None and prefer.host in self.hosts:
                async with self._changed:
                    await self._arrival(prefer.host)
            async with asyncio.timeout(WAIT_SECONDS), self._changed:
                while True:
                    lease = self._pick(need, specs, prefer)
                    if lease is not None:
                        return lease
                    # A host that rests comes back by the clock, and nobody tells.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._changed.wait()
        except TimeoutError:
            reasons = "; ".join(
                f"{spec.name}: {self.state(spec.name).reason or 'busy'}"
                for spec in specs
                if suits(need, spec)
            )
            raise InfraError(
                f"no {need.slot.value} slot is free ({reasons})",
                retry_after=timedelta(seconds=ASK_AGAIN),
            ) from None

    async def _arrival(self, name: str) -> None:
        """Wait a while until a host is admitted: what runs there need not be done again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ARRIVAL_SECONDS):
                await self._changed.wait_for(lambda: name in self._admitted)

    def _pick(self, need: Need, specs: Sequence[HostSpec], prefer: Handle | None) -> Lease | None:
        if prefer is not None and self._is_well(prefer.host):
            is_free = (prefer.host, need.slot, prefer.slot) not in self._used
            if is_free and fits(need, self.hosts[prefer.host].spec, self.load(prefer.host)):
                return self._lend(need, prefer.host, prefer.slot)
        loads = {spec.name: self.load(spec.name) for spec in specs}
        chosen = place(need, [(spec, self.state(spec.name)) for spec in specs], loads)
        if chosen is None:
            return None
        numbers = range(chosen.slots[need.slot])
        slot = next(one for one in numbers if (chosen.name, need.slot, one) not in self._used)
        return self._lend(need, chosen.name, slot)

    def _lend(self, need: Need, host: str, slot: int) -> Lease:
        self._used[host, need.slot, slot] = need
        return Lease(host=self.hosts[host], slot=slot)

    def _is_well(self, name: str) -> bool:
        return name in self.hosts and self.state(name).health is Health.OK

    def _note_failure(self, name: str, reason: str) -> None:
        breaker = self._breakers[name]
        breaker.failures += 1
        breaker.is_suspect = True
        breaker.until = self._clock() + REST.delay(breaker.failures)
        breaker.reason = _line(reason)


def _line(reason: str) -> str:
    """The first line, with room for what to do about it."""
    return reason.splitlines()[0][:600]
