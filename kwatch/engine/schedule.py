# SPDX-License-Identifier: GPL-2.0-or-later
"""APScheduler as the ticker: a tick puts one row into the queue, and does nothing else."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kwatch.domain.lab.job import JobKind
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


log = logging.getLogger(__name__)

# Of the period: so that many sources do not all come at once.
JITTER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Ask for the job (kind, key) every ``every`` seconds."""

    kind: JobKind
    key: str
    every: float


class Schedule:
    """Ticks for as long as it is entered as a context manager.

    ``put`` gets (kind, key) at each tick, the first one ``now``: a restart looks at everything.
    """

    def __init__(
        self,
        ticks: Iterable[Tick],
        *,
        put: Callable[[JobKind, str], Awaitable[None]],
        now: datetime,
    ) -> None:
        # The default grace time of one second would skip a tick whenever the loop is busy.
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(_complain, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        for tick in ticks:
            self._scheduler.add_job(
                _tick,
                "interval",
                args=(put, tick),
                seconds=tick.every,
                jitter=tick.every * JITTER,
                id=f"{tick.kind}:{tick.key}",
                next_run_time=now,
            )

    def __enter__(self) -> None:
        self._scheduler.start()

    def __exit__(self, *_: object) -> None:
        self._scheduler.shutdown(wait=False)


async def _tick(put: Callable[[JobKind, str], Awaitable[None]], tick: Tick) -> None:
    """One tick; where the lab fails it is left out, for the next one asks the same."""
    try:
        await put(tick.kind, tick.key)
    except InfraError as error:
        log.error("no look at %s now: %s", tick.key, error)  # noqa: TRY400 - it says it all
    except asyncio.CancelledError:
        # Only the stop cancels a tick, and APScheduler would log that as an error. The next start
        # looks at everything.
        log.debug("no look at %s any more", tick.key)


def _complain(event: Any) -> None:  # noqa: ANN401 - APScheduler ships no types
    log.error("the tick %s failed: %s", event.job_id, getattr(event, "exception", "missed"))
