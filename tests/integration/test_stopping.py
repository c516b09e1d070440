# SPDX-License-Identifier: GPL-2.0-or-later
"""The budget of a stop: for what does not answer, and for the whole process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from kwatch import daemon

if TYPE_CHECKING:
    import pytest

STUCK = """
import asyncio, signal, time
from kwatch import daemon
async def main():
    asyncio.get_running_loop().call_later(0.1, signal.raise_signal, signal.SIGINT)
    await daemon._stop_requested().wait()
    await asyncio.to_thread(time.sleep, 60)
daemon.LONGEST_STOP = 0.5
asyncio.run(main())
"""


async def test_what_does_not_answer_is_cut_off_and_the_rest_has_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            ended.append("slow")

    async def silent() -> None:
        # As a run that is to be ended, on a host that is gone: inside of a task that waits for it.
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.shield(asyncio.sleep(60))

    async def outer() -> None:
        inner = asyncio.ensure_future(silent())
        try:
            await asyncio.wait({inner})
        finally:
            inner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await inner
            ended.append("outer")

    tasks = [asyncio.create_task(slow(), name="a"), asyncio.create_task(outer(), name="b")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        await daemon.end(tasks, within=0.5)
    await asyncio.wait(tasks, timeout=5)
    assert 0.5 <= time.monotonic() - began < 2
    assert ended == ["slow", "outer"]
    assert "left to its lease: b" in caplog.text


def test_a_process_that_waits_for_a_thread_ends_all_the_same() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "exiting as after a kill" in done.stderr
    assert time.monotonic() - began < 10
