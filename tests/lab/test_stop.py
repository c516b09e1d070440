# SPDX-License-Identifier: GPL-2.0-or-later
"""A clean stop in the middle of work, one daemon a state directory, and the verb that ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.box import ROOT
from tests.lab.process import Server
from tests.lab.toy.history import PLANTS
from tests.lab.toytree import (
    SLOW_BOOT,
    SLOW_BUILD,
    ToyTree,
    letters,
    nothing_left,
    outcomes,
    settle,
    toy_box,
    tune,
    waiting_boot,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.box import Box

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

LONGEST_STOP = 10.0
LONG_BUILD = {name: (old, new.replace("sleep 2", "sleep 15"))
              for name, (old, new) in SLOW_BUILD.items()}  # fmt: skip
LONG_CONFIGURATION = {
    name: (old, new.replace("sleep 2", "sleep 8").replace("vmlinux", "olddefconfig"))
    for name, (old, new) in SLOW_BUILD.items()
}


@dataclass(frozen=True, slots=True)
class Running:
    """A command on a host: the id of its run, and the pids of its first process and supervisor."""

    run_id: str
    pid: int
    supervisor: int


def _running(user: str) -> set[Running]:
    """Every supervised command of ``user``, found by the mark in its environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, LookupError):
                if entry.owner() != user:
                    continue
                marks = (entry / "environ").read_bytes().split(b"\0KWATCH_RUN=", 1)
                folder = Path(marks[1].split(b"\0", 1)[0].decode())
                pid, supervisor = (
                    int((folder / name).read_text().split()[0]) for name in ("child", "supervisor")
                )
                if Path(f"/proc/{pid}").exists():
                    found.add(Running(folder.name, pid, supervisor))
    return found


async def _at_work(box: Box, name: str) -> Running:
    """Wait until a job runs a command whose run id matches ``name``; the command."""
    found: list[Running] = []

    def is_there() -> bool:
        found[:] = [one for one in _running(box.sshd.user) if fnmatch(one.run_id, name)]
        return bool(found) and bool(
            box.query("SELECT 1 FROM job WHERE state = 'running' AND handle GLOB ?", f"*{name}*")
        )

    await box.until(is_there, timeout=60, what=f"running {name}", pause=0.02)
    (one,) = found
    return one


async def _restart(box: Box, number: signal.Signals, name: str) -> Running:
    """Stop the daemon while a command runs and start it again; the command, which goes on."""
    begun = await _at_work(box, name)
    began = time.monotonic()
    assert await box._end(number) == 0
    assert time.monotonic() - began < LONGEST_STOP
    assert "Traceback" not in box.log()
    assert "was never awaited" not in box.log()
    assert box.query("SELECT 1 FROM job WHERE state IN ('running', 'dead')") == []
    assert _running(box.sshd.user) == {begun}
    await box.start()
    assert await _at_work(box, name) == begun
    return begun


async def test_what_runs_goes_on_when_the_daemon_is_restarted(tmp_path: Path, user: str) -> None:
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        tree.commit(LONG_BUILD)
        await box.post_series()
        first = tree.publish()
        await box.start()
        build = await _restart(box, signal.SIGTERM, "build-*-make")
        # One that was adopted can be adopted again.
        assert await _restart(box, signal.SIGINT, "build-*-make") == build
        await settle(box, first)

        tree.revert(LONG_BUILD)
        tree.commit(waiting_boot(12))
        tune(box, {'kernel = "3 s"': 'kernel = "20 s"', 'init = "3 s"': 'init = "20 s"',
                   'total = "20 s"': 'total = "60 s"'})  # fmt: skip
        assert await box.stop() == 0
        await box.start()
        second = tree.publish()
        boot = await _restart(box, signal.SIGTERM, "boot-*")
        assert await _restart(box, signal.SIGINT, "boot-*") == boot
        await settle(box, second)
        assert await box.stop() == 0
        await nothing_left(box, user)
        # A restart is no failure of a job or a host, and each step was done and recorded once.
        assert box.query("SELECT * FROM job WHERE failures > 0 OR error IS NOT NULL") == []
        assert {seen[0] for seen in outcomes(box).values()} == {"pass"}
        steps = box.query("SELECT kind, key, count(*) AS times, max(attempt) AS attempt FROM job"
                          " WHERE kind IN ('build', 'boot') GROUP BY kind, key")  # fmt: skip
        assert {row["times"] for row in steps} == {1}
        assert {row["attempt"] for row in steps if row["kind"] == "boot"} == {1}


async def test_what_ended_while_no_daemon_ran_is_done_again(tmp_path: Path, user: str) -> None:
    """As after a stop for longer than the lease, or after a reset of the host."""
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        tree.commit(SLOW_BUILD, "toy: build at leisure", "lib")
        tree.commit(SLOW_BOOT)
        await box.post_series()
        first = tree.publish()
        await box.start()
        for name in ("build-*-make", "boot-*"):
            run = await _at_work(box, name)
            assert await box.stop() == 0
            os.kill(run.supervisor, signal.SIGKILL)
            await nothing_left(box, user)
            await box.start()
        await settle(box, first)
        assert await box.stop() == 0
        assert box.query("SELECT * FROM job WHERE failures > 0 OR error IS NOT NULL") == []
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
        assert culprit[:12] in letters(box)[1].as_string()
        await nothing_left(box, user)
        # The clean builds were the last ones. Their compiler cache is gone.
        folder = Path("~").with_name(f"~{user}").expanduser() / "kwatch"
        assert (folder / "slots/0/ccache").read_text().startswith("clean-")
        assert not [*(folder / "ccache").glob("clean-*")]


def _builds(user: str) -> set[Running]:
    return {one for one in _running(user) if fnmatch(one.run_id, "build-*-make")}


async def _begin_once(box: Box) -> Server:
    """A round as an interactive shell starts it, whatever this process has ignored."""
    return await Server.start(
        ["env", "--default-signal=INT", sys.executable, "-m", "kwatch", "once",
         "--config", str(box.config)],
        log=box.directory / "once.log",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def _end_in_time(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    process.send_signal(number)
    async with asyncio.timeout(LONGEST_STOP):
        await process.wait()


async def test_once_can_be_interrupted(tmp_path: Path, user: str) -> None:
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        tree.commit(LONG_BUILD, "toy: build at leisure", "lib")
        await box.post_series()
        tree.publish()
        once = await _begin_once(box)
        await once.until(lambda: bool(_builds(user)), timeout=60)
        begun = _builds(user)
        await _end_in_time(once.process, signal.SIGINT)
        assert once.process.returncode == 1
        assert "Traceback" not in once.output()
        assert _builds(user) == begun
        status, output = await box.command("once", "--patience", "5")
        assert status == 0, output
        assert f"going on with {begun.pop().run_id}" in output
        await nothing_left(box, user)
        assert [seen[0] for seen in outcomes(box).values()] == ["pass"]


async def test_once_ends_where_a_shell_had_sigint_ignored(tmp_path: Path, user: str) -> None:
    """As it does for what a script starts with ``&``."""
    async with toy_box(tmp_path, user) as box:
        once = await Server.start(
            ["env", "--ignore-signal=INT", sys.executable, "-m", "kwatch", "once",
             "--patience", "600", "--config", str(box.config)],
            log=tmp_path / "once.log",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        await once.until(lambda: "tcg works" in once.output() or bool(_running(user)), timeout=60)
        await _end_in_time(once.process, signal.SIGINT)
        assert once.process.returncode == 1
        assert "Traceback" not in once.output()


@contextlib.contextmanager
def _silent(box: Box) -> Iterator[None]:
    """The host answers nothing meanwhile, and its connections stay."""
    box.sshd.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        box.sshd.signal(signal.SIGCONT)


def _configurations(user: str) -> set[Running]:
    return {one for one in _running(user) if fnmatch(one.run_id, "build-*-config")}


async def test_a_stop_waits_for_no_silent_host(tmp_path: Path, user: str) -> None:
    """A make is left by a stop, but a configuration is ended, and its host is asked for that."""
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        tree.commit(LONG_CONFIGURATION, "toy: configure at leisure", "lib")
        await box.post_series()
        tree.publish()
        once = await _begin_once(box)
        await once.until(lambda: bool(_configurations(user)), timeout=60)
        left = _configurations(user)
        with _silent(box):
            await _end_in_time(once.process, signal.SIGINT)
        assert once.process.returncode == 1
        assert "Traceback" not in once.output()
        assert "no answer within" in once.output()

        await box.start()
        await box.until(
            lambda: bool(_configurations(user) - left), timeout=60, what="configuration"
        )
        with _silent(box):
            began = time.monotonic()
            assert await box.stop() == 0
            assert time.monotonic() - began < LONGEST_STOP
        assert "Traceback" not in box.log()
        assert "no answer within" in box.log()
        # It is no failure of a job or a host, and the next round does what was cut off.
        status, output = await box.command("once", "--patience", "5")
        assert status == 0, output
        await nothing_left(box, user)
        assert [seen[0] for seen in outcomes(box).values()] == ["pass"]
        assert box.query("SELECT * FROM job WHERE failures > 0 OR error IS NOT NULL") == []
