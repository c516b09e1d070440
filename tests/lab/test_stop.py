# SPDX-License-Identifier: GPL-2.0-or-later
"""A clean stop in the middle of work, one daemon a state directory, and the verb that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.box import ROOT
from tests.lab.process import Server
from tests.lab.toy.history import PLANTS
from tests.lab.toytree import (
    SLOW_BOOT,
    SLOW_BUILD,
    ToyTree,
    left_behind,
    letters,
    nothing_left,
    outcomes,
    settle,
    toy_box,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.box import Box

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

LONGEST_STOP = 10.0


async def _stop_while(box: Box, number: signal.Signals, program: str, run: str) -> None:
    """Stop the daemon once a job has ``program`` at work on the host, in a run of that name."""
    await box.until(
        lambda: any(program in line for line in left_behind(box.sshd.user))
        and bool(box.query("SELECT 1 FROM job WHERE state = 'running' AND handle LIKE ?", run)),
        timeout=60, what=f"running {program}", pause=0.02,
    )  # fmt: skip
    began = time.monotonic()
    assert await box._end(number) == 0
    assert time.monotonic() - began < LONGEST_STOP
    assert "Traceback" not in box.log()
    assert "was never awaited" not in box.log()
    await nothing_left(box, box.sshd.user, seconds=LONGEST_STOP - (time.monotonic() - began))
    assert box.query("SELECT 1 FROM job WHERE state IN ('running', 'dead')") == []


async def test_a_stopped_daemon_goes_on(tmp_path: Path, user: str) -> None:
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        tree.commit(SLOW_BUILD, "toy: build at leisure", "lib")
        await box.post_series()
        first = tree.publish()
        await box.start()
        await _stop_while(box, signal.SIGTERM, "make", "%-make%")
        await box.start()
        await _stop_while(box, signal.SIGINT, "make", "%-make%")
        await box.start()
        await settle(box, first)
        assert {seen[0] for seen in outcomes(box).values()} == {"pass"}

        tree.commit(SLOW_BOOT)
        second = tree.publish()
        await _stop_while(box, signal.SIGTERM, "qemu-system", "%boot-%")
        await box.start()
        await _stop_while(box, signal.SIGINT, "qemu-system", "%boot-%")
        await box.start()
        await settle(box, second)
        assert await box.stop() == 0
        # To be stopped is no failure of a job or a host.
        assert box.query("SELECT * FROM job WHERE failures > 0") == []
        assert {seen[0] for seen in outcomes(box).values()} == {"pass"}


async def test_a_second_daemon_names_the_first(tmp_path: Path, user: str) -> None:
    async with toy_box(tmp_path, user) as box:
        await box.start()
        assert box._daemon is not None
        for verb in ("run", "once"):
            status, output = await box.command(verb)
            assert status == 2
            assert f"in use by process {box._daemon.process.pid}" in output
            assert "Traceback" not in output
        assert box.is_running
        assert (await box.get("/healthz"))[0] == 200
        assert await box.stop() == 0


async def test_once_works_to_the_end(tmp_path: Path, user: str) -> None:
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        await box.post_series()
        tree.publish()
        status, output = await box.command("once", "--patience", "5")
        assert status == 0, output
        assert [seen[0] for seen in outcomes(box).values()] == ["pass"]

        culprit = tree.commit(PLANTS["panic"])
        tree.publish()
        status, output = await box.command("once", "--patience", "5")
        assert status == 0, output
        assert [mail["X-Kwatch-Event"] for mail in letters(box)] == ["new", "bisected"]
        assert culprit[:12] in str(letters(box)[1].get_content())
        await nothing_left(box, user)


async def test_once_can_be_interrupted(tmp_path: Path, user: str) -> None:
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        tree.commit(SLOW_BUILD, "toy: build at leisure", "lib")
        await box.post_series()
        tree.publish()
        once = await Server.start(
            [sys.executable, "-m", "kwatch", "once", "--config", str(box.config)],
            log=tmp_path / "once.log",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        await once.until(lambda: any("make" in line for line in left_behind(user)), timeout=60)
        once.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(LONGEST_STOP):
            await once.process.wait()
        assert "Traceback" not in once.output()
        await nothing_left(box, user)
        status, output = await box.command("once", "--patience", "5")
        assert status == 0, output
        assert [seen[0] for seen in outcomes(box).values()] == ["pass"]
