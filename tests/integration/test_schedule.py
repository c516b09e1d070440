# SPDX-License-Identifier: GPL-2.0-or-later
"""The ticker by the real clock, with periods of a tenth of a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from kwatch.domain.lab.job import JobKind
from kwatch.engine.schedule import Schedule, Tick
from kwatch.errors import InfraError

NEXT = Tick(kind=JobKind.WATCH, key="next", every=0.1)
SLOW = Tick(kind=JobKind.WATCH, key="mainline", every=3600.0)
LIST = Tick(kind=JobKind.LISTEN, key="next", every=0.1)


def now() -> datetime:
    return datetime.now(UTC)


async def until(seen: Counter[tuple[JobKind, str]], tick: Tick, count: int) -> None:
    async with asyncio.timeout(10):
        while seen[tick.kind, tick.key] < count:
            await asyncio.sleep(0.01)


async def test_all_is_looked_at_when_it_starts_and_then_by_its_period() -> None:
    seen: Counter[tuple[JobKind, str]] = Counter()

    async def put(kind: JobKind, key: str) -> None:
        seen[kind, key] += 1

    with Schedule([NEXT, SLOW, LIST], put=put, now=now()):
        for tick in (NEXT, SLOW, LIST):
            await until(seen, tick, 1)
        await until(seen, NEXT, 5)
        await until(seen, LIST, 3)
        assert seen[JobKind.WATCH, "mainline"] == 1
    # Nothing ticks on afterwards.
    await asyncio.sleep(0)
    before = seen.total()
    await asyncio.sleep(0.3)
    assert seen.total() == before


async def test_a_start_that_took_long_misses_nothing() -> None:
    seen: Counter[tuple[JobKind, str]] = Counter()

    async def put(kind: JobKind, key: str) -> None:
        seen[kind, key] += 1

    with Schedule([SLOW], put=put, now=now() - timedelta(minutes=10)):
        await until(seen, SLOW, 1)
        await asyncio.sleep(0.1)
        assert seen.total() == 1


async def test_a_loop_that_was_busy_ticks_once_for_all_that_it_missed() -> None:
    seen: Counter[tuple[JobKind, str]] = Counter()

    async def put(kind: JobKind, key: str) -> None:
        seen[kind, key] += 1

    with Schedule([NEXT], put=put, now=now()):
        await until(seen, NEXT, 1)
        before = seen.total()
        time.sleep(1.5)
        await asyncio.sleep(0.05)
        assert 1 <= seen.total() - before <= 2
        await until(seen, NEXT, before + 3)


async def test_one_at_a_time() -> None:
    together = most = rounds = 0

    async def put(kind: JobKind, key: str) -> None:
        nonlocal together, most, rounds
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.35)
        together -= 1
        rounds += 1

    with Schedule([NEXT], put=put, now=now()):
        async with asyncio.timeout(10):
            while rounds < 2:
                await asyncio.sleep(0.02)
    assert most == 1


@pytest.mark.parametrize("error", [InfraError("the disk is full"), KeyError("a defect")])
async def test_a_tick_that_fails_is_told_and_does_not_end_the_others(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    seen: Counter[tuple[JobKind, str]] = Counter()

    async def put(kind: JobKind, key: str) -> None:
        seen[kind, key] += 1
        if kind is JobKind.LISTEN:
            raise error

    with caplog.at_level(logging.ERROR), Schedule([NEXT, LIST], put=put, now=now()):
        await until(seen, LIST, 3)
        await until(seen, NEXT, 3)
    assert str(error) in caplog.text


async def test_a_tick_that_the_stop_cuts_off_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    came = asyncio.Event()

    async def put(_kind: JobKind, _key: str) -> None:
        came.set()
        await asyncio.sleep(60)

    with caplog.at_level(logging.WARNING):
        with Schedule([NEXT], put=put, now=now()):
            await came.wait()
        await asyncio.sleep(0.1)
    assert caplog.messages == []
