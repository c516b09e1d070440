# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker: takes jobs from the queue, runs their stages, records what they found.

A slot per resource bounds what runs at the same time. Every stage runs under a lease that is
renewed while it works; an infrastructure failure puts its job back with back-off, a cancelled
stage puts it back as if nothing had happened. A stop of the daemon leaves the commands on hosts
running, for its next start to adopt; a job that is not wanted any more stops its command.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from kwatch import journal
from kwatch.adapters.host.runs import Cancellation, OnCancel, cancellation_of_job
from kwatch.domain.lab.fairness import HALF, Start, Turns
from kwatch.domain.lab.job import RESOURCE, STEPS, Job, JobKind, JobState, Resource
from kwatch.errors import DiskFullError, InfraError, KwatchError, LeaseLostError
from kwatch.store import cursors, effects, motion, queue, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kwatch.domain.facts import Facts
    from kwatch.store.database import Database, Transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

RENEW_SECONDS = 20.0
LONGEST_SLEEP = 30.0
# Between two looks for jobs whose lease ended.
REAP_SECONDS = 60.0
DISK_FULL_SECONDS = 60.0
# Between two tries of a database that has no room, or that somebody else has locked.
RETRY_SECONDS = 5.0


class Stage(Protocol):
    """A verb: reads what it needs, decides through the domain, does one thing, returns facts."""

    async def __call__(self, job: Job) -> Facts | None:
        """Do the job. None: nobody wants its result any more."""


class Worker:
    """Runs jobs until it is cancelled. ``stages`` holds one stage for each kind of job.

    ``share`` is the part of the slots that searches have while tags wait, see domain/turns.
    """

    def __init__(
        self,
        *,
        database: Database,
        stages: Mapping[JobKind, Stage],
        slots: Mapping[Resource, int],
        share: float = HALF,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._database = database
        self._stages = stages
        self._free = dict(slots)
        self._turns = Turns(slots=slots, share=share)
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self.running: dict[int, Job] = {}
        self.beat = clock()
        self._reap_at = self.beat

    def wake(self) -> None:
        """Look at the queue now: something was put in from outside."""
        self._wake.set()

    async def run(self) -> None:
        """Work for ever. On cancellation every running job is put back."""
        async with asyncio.TaskGroup() as group:
            while True:
                self.beat = self._clock()
                self._wake.clear()
                try:
                    await self._reap()
                    await self._start_all(group)
                except InfraError as error:
                    log.error("%s", error)  # noqa: TRY400 - the message says it all
                    await asyncio.sleep(RETRY_SECONDS)
                await self._sleep()

    async def is_idle(self, *, patience: float) -> bool:
        """Whether nothing runs and nothing is due within ``patience`` seconds."""
        if self.running:
            return False
        # A job that was claimed this instant is running in the database only.
        jobs = await self._database.read(queue.alive)
        limit = self._clock() + patience
        return all(job.state == JobState.QUEUED and job.run_after > limit for job in jobs)

    async def _reap(self) -> None:
        """Put back jobs that no task works on any more and that could not be ended."""
        if self.beat < self._reap_at:
            return
        self._reap_at = self.beat + REAP_SECONDS
        expired = await self._database.write(
            queue.reap, now=self.beat, but=self.running.keys(), jitter=self._jitter()
        )
        for job in expired:
            log.error("%s/%d: put back, its lease ended", job.kind, job.id)

    async def _start_all(self, group: asyncio.TaskGroup) -> None:
        while kinds := self._claimable():
            now = self._clock()
            job = await self._claim(kinds, now)
            if job is None:
                return
            if job.party is not None:
                start = Start(party=job.party, at=now)
                self._turns = self._turns.after(RESOURCE[job.kind], start)
            self._free[RESOURCE[job.kind]] -= 1
            self.running[job.id] = job
            group.create_task(self._work(job), name=f"{job.kind}-{job.id}")

    async def _claim(self, kinds: Sequence[JobKind], now: float) -> Job | None:
        """Claim the next job; released again if cancelled in flight."""
        claiming = asyncio.ensure_future(  # noqa: TID251 - it ends here in any case
            self._database.write(queue.claim, kinds, now=now, turns=self._turns)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await asyncio.shield(self._put_back(claiming))
            raise

    def _claimable(self) -> list[JobKind]:
        return [kind for kind in self._stages if self._free.get(RESOURCE[kind], 0) > 0]

    async def _sleep(self) -> None:
        """Until something ends, somebody calls, or the next job is due."""
        delay = LONGEST_SLEEP
        with contextlib.suppress(InfraError):
            due = await self._database.read(queue.next_due, self._claimable())
            if due is not None:
                delay = min(max(due - self._clock(), 0.02), LONGEST_SLEEP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()

    async def _work(self, job: Job) -> None:
        with journal.context(job=f"{job.kind}/{job.id}"):
            try:
                await self._attempt(job)
            except asyncio.CancelledError:
                await asyncio.shield(self._release(job))
                raise
            except LeaseLostError as error:
                log.warning("%s", error)
            except Exception:
                # A defect of our own in the bookkeeping itself: the job is reaped once its lease
                # has ended.
                log.exception("job could not be ended")
            finally:
                self.running.pop(job.id, None)
                self._free[RESOURCE[job.kind]] += 1
                self._wake.set()

    async def _attempt(self, job: Job) -> None:
        started = self._clock()
        try:
            facts = await self._under_lease(job)
            await self._persist(partial(_end, job=job, facts=facts))
        except LeaseLostError:
            raise
        except InfraError as error:
            await self._failed(job, error, after=_retry_after(error))
            return
        except Exception as error:
            # A stage that breaks, or finds what the store refuses, must not take the daemon with
            # it; it is tried again and then given up, with the whole traceback in the journal.
            log.exception("stage failed")
            await self._failed(job, error, after=None)
            return
        log.info("done in %.1f s", self._clock() - started)

    async def _under_lease(self, job: Job) -> Facts | None:
        """Run the stage while its lease is renewed; None if nobody wants it any more.

        The supervised run of a stage that is cancelled by the stop of the daemon goes on.
        """
        cancellation = cancellation_of_job(Cancellation(OnCancel.STOP))
        stage = asyncio.ensure_future(self._stages[job.kind](job))  # noqa: TID251 - owned below
        try:
            while True:
                done, _ = await asyncio.wait({stage}, timeout=RENEW_SECONDS)
                if done:
                    return stage.result()
                await self._persist(partial(queue.renew, job=job))
                if job.kind in STEPS and not await self._is_wanted(job):
                    log.info("nobody wants this any more")
                    return None
        except asyncio.CancelledError:
            cancellation.on_cancel = OnCancel.LEAVE
            raise
        finally:
            if not stage.done():
                stage.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await stage

    async def _is_wanted(self, job: Job) -> bool:
        return await self._database.read(steps.is_wanted, job.kind, job.key)

    async def _failed(self, job: Job, error: Exception, *, after: float | None) -> None:
        level = logging.WARNING if isinstance(error, InfraError) else logging.ERROR
        log.log(level, "%s", error)
        given_up = await self._persist(
            partial(
                _fail, job=job, error=str(error) or repr(error), jitter=self._jitter(), after=after
            )
        )
        if given_up:
            log.error("given up after %d failures", job.failures + 1)

    async def _put_back(self, claiming: asyncio.Future[Job | None]) -> None:
        with contextlib.suppress(KwatchError):
            if job := await claiming:
                await self._release(job)

    async def _release(self, job: Job) -> None:
        with contextlib.suppress(KwatchError):
            await self._database.write(queue.release, job, now=self._clock())

    async def _persist(self, work: Callable[..., T]) -> T:
        """Write, and wait for as long as the database cannot: the result is not lost."""
        while True:
            try:
                return await self._database.write(partial(work, now=self._clock()))
            except InfraError as error:
                log.error("%s", error)  # noqa: TRY400 - the message says it all
                await asyncio.sleep(RETRY_SECONDS)


def _end(tx: Transaction, job: Job, facts: Facts | None, *, now: float) -> None:
    if facts is not None:
        effects.record(tx, job, facts, now=now)
        return
    queue.drop(tx, job, now=now)
    if job.kind in STEPS and steps.is_wanted(tx, job.kind, job.key):
        # Its inputs are gone (the disk budget took an image): another step comes first.
        motion.advance_waiting(tx, job.kind, job.key, now=now)


def _fail(
    tx: Transaction, job: Job, error: str, *, now: float, jitter: float, after: float | None
) -> bool:
    given_up = queue.fail(tx, job, error, now=now, jitter=jitter, after=after)
    if given_up:
        effects.give_up(tx, job, now=now)
    if job.kind is JobKind.WATCH:
        cursors.failed(tx, f"tree:{job.key}", error)
    if job.kind is JobKind.LISTEN:
        cursors.failed(tx, f"list:{job.key}", error)
    return given_up


def _retry_after(error: InfraError) -> float | None:
    """Seconds to wait where the failure itself says so; such a failure is not counted."""
    if error.retry_after is not None:
        return error.retry_after.total_seconds()
    # Where the disk of a host is full, another host may have room.
    is_ours = isinstance(error, DiskFullError) and error.host is None
    return DISK_FULL_SECONDS if is_ours else None
