# SPDX-License-Identifier: GPL-2.0-or-later
"""Supervised runs, on a host that is this machine and on one behind a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.host import Host
from kwatch.adapters.host.runs import Cancellation, OnCancel, RunLostError
from kwatch.adapters.host.ssh import HostAwayError, HostKeyError
from kwatch.domain.run import Alive, Ended, Output, RunEnd, RunReason, RunSpec
from kwatch.errors import InfraError
from tests.lab.process import gone, running

if TYPE_CHECKING:
    from tests.lab.sshd import SshHost


def shell(
    script: str, *, deadline: float = 30, lease: float = 180, limit: int = 1 << 20
) -> RunSpec:
    return RunSpec(argv=("sh", "-c", script), deadline=deadline, lease=lease, limits={"log": limit})


async def follow(host: Host, run_id: str, offset: int = 0) -> tuple[bytes, RunEnd]:
    """All of the log from ``offset`` on, and the end."""
    said = b""
    async with contextlib.aclosing(host.runs.attach(run_id, {"log": offset})) as frames:
        async for frame in frames:
            if isinstance(frame, Output):
                assert frame.offset == offset + len(said)
                said += frame.data
            elif isinstance(frame, Ended):
                return said, frame.end
    raise AssertionError("no end")


async def first_output(host: Host, run_id: str) -> bytes:
    async with contextlib.aclosing(host.runs.attach(run_id, {"log": 0})) as frames:
        async for frame in frames:
            if isinstance(frame, Output):
                return frame.data
    raise AssertionError("no output")


async def there_is(mark: str) -> None:
    async with asyncio.timeout(5):
        while not running(mark):
            await asyncio.sleep(0.02)


async def test_a_run_tells_all_and_how_it_ended(host: Host) -> None:
    await host.runs.start("r", shell("echo out; echo err >&2; pwd; printf %s $WORD; exit 7"))
    said, end = await follow(host, "r")
    assert said.decode().splitlines() == ["out", "err", await host.runs.folder("r")]
    assert (end.reason, end.status) == (RunReason.EXITED, 7)
    spec = dataclasses.replace(shell("printf %s $WORD; nice"), env={"WORD": "given"}, nice=5)
    await host.runs.start("r2", spec)
    assert (await follow(host, "r2"))[0] == b"given5\n"


async def test_a_command_that_cannot_be_started_is_an_end(host: Host) -> None:
    await host.runs.start("r", dataclasses.replace(shell(""), argv=("/nonexistent/tool",)))
    end = (await follow(host, "r"))[1]
    assert end.reason is RunReason.START_FAILED
    assert "/nonexistent/tool" in end.detail


async def test_starting_twice_gives_one_process(host: Host) -> None:
    spec = shell("echo started; sleep 41.01")
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(host.runs.start("r", spec))
    assert await first_output(host, "r") == b"started\n"
    assert len(running("41.01")) == 1
    assert await host.runs.stop("r")
    await host.runs.start("r", spec)
    said, end = await follow(host, "r")
    assert (said, end.reason) == (b"started\n", RunReason.STOPPED)
    assert not running("41.01")


async def test_stop_leaves_no_grandchild(host: Host) -> None:
    await host.runs.start(
        "r", shell("setsid sleep 42.01 & (setsid -f sh -c 'sleep 42.01; :') ; wait")
    )
    await there_is("42.01")
    end = await host.runs.stop("r")
    assert end is not None
    assert end.reason is RunReason.STOPPED
    assert not running("42.01")
    assert await host.runs.stop("never-started") is None


async def test_grandchildren_end_with_the_command(host: Host) -> None:
    await host.runs.start("r", shell("setsid -f sleep 43.01; echo done"))
    assert (await follow(host, "r"))[1].reason is RunReason.EXITED
    assert not running("43.01")


async def test_deadline_lease_and_limit_kill(host: Host) -> None:
    await host.runs.start("late", shell("sleep 44.01", deadline=0.5))
    await host.runs.start("loud", shell("yes & sleep 44.02", limit=100_000))
    await host.runs.start("left", shell("setsid sleep 44.03 & sleep 44.03", lease=2))
    assert (await follow(host, "late"))[1].reason is RunReason.DEADLINE
    said, end = await follow(host, "loud")
    assert (len(said), end.reason) == (100_000, RunReason.OUTPUT_LIMIT)
    assert running("44.03")
    assert await gone("44.03", 3)
    assert (await follow(host, "left"))[1].reason is RunReason.LEASE
    assert not running("44.01") + running("44.02")


async def test_being_attached_renews_the_lease(host: Host) -> None:
    await host.runs.start("r", shell("sleep 3.2; echo survived", lease=2))
    said, end = await follow(host, "r")
    assert (said, end.reason) == (b"survived\n", RunReason.EXITED)


async def test_a_killed_supervisor_takes_all_along(host: Host) -> None:
    await host.runs.start("r", shell("setsid sleep 45.01 & sleep 45.02"))
    await there_is("45.01")
    folder = Path(await host.runs.folder("r"))
    supervisor = int((folder / "supervisor").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    assert await gone("45.02", 2)
    assert await gone("45.01", 2)
    with pytest.raises(
        RunLostError, match=r"r was ended there \(lost\).*the supervisor died"
    ) as caught:
        await follow(host, "r")
    assert caught.value.host == host.name
    assert await host.runs.ids() == ()


async def test_reap_finds_what_a_killed_supervisor_and_its_guard_left(host: Host) -> None:
    await host.runs.start("r", shell("setsid sleep 45.03 & sleep 45.04"))
    await there_is("45.03")
    folder = Path(await host.runs.folder("r"))
    supervisor = (folder / "supervisor").read_text().split()[0]
    guard = Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1]
    for pid in (guard, supervisor):
        os.kill(int(pid), signal.SIGKILL)
    assert running("45.03")
    await host.runs.reap(())
    assert not running("45.03") + running("45.04")
    assert await host.runs.ids() == ()


async def test_reap_leaves_only_what_is_kept(host: Host) -> None:
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b", "c"):
            group.create_task(host.runs.start(name, shell("sleep 46.01")))
    await host.runs.stop("a")
    assert await host.runs.reap({"c"}) == ("b",)
    assert await host.runs.ids() == ("c",)
    assert len(running("46.01")) == 1


async def test_a_folder_that_was_removed_is_made_anew(host: Host) -> None:
    await host.runs.start("r", shell("true"))
    shutil.rmtree(await host.account.prepare())
    assert await host.runs.ids() == ()
    await host.runs.start("r", shell("echo here"))
    assert (await follow(host, "r"))[0] == b"here\n"


async def test_a_discarded_run_leaves_nothing(host: Host) -> None:
    await host.runs.start("r", shell("sleep 46.02"))
    await there_is("46.02")
    await host.runs.discard("r")
    assert not running("46.02")
    assert await host.runs.ids() == ()
    with pytest.raises(InfraError, match="there is no run r"):
        await follow(host, "r")


async def test_reap_never_kills_a_process_that_reuses_a_pid(host: Host) -> None:
    await host.runs.start("r", shell("true"))
    await follow(host, "r")
    folder = Path(await host.runs.folder("r"))
    stranger = await asyncio.create_subprocess_exec("sleep", "47.01", start_new_session=True)
    try:
        # As if the host had gone on to other things since the supervisor died without a word.
        (folder / "exit").unlink()
        for name in ("supervisor", "child"):
            _, start, boot = (folder / name).read_text().split()
            (folder / name).write_text(f"{stranger.pid} {int(start) - 1} {'x' + boot[1:]}\n")
        await host.runs.reap(())
        assert stranger.returncode is None
        assert running("47.01")
    finally:
        stranger.kill()
        await stranger.wait()


async def test_output_arrives_at_once(host: Host) -> None:
    script = "import time\nfor _ in range(20): time.sleep(.05); print(time.time(), flush=True)"
    spec = dataclasses.replace(shell(""), argv=(sys.executable, "-c", script))
    await host.runs.start("r", spec)
    async with contextlib.aclosing(host.runs.attach("r", {"log": 0})) as frames:
        late = [
            time.time() - float(frame.data.split()[-1])
            async for frame in frames
            if isinstance(frame, Output)
        ]
    assert sorted(late)[len(late) // 2] < 0.05


async def test_signs_of_life_come_while_nothing_is_said(host: Host) -> None:
    await host.runs.start("r", shell("sleep 48.01"))
    async with contextlib.aclosing(host.runs.attach("r", {"log": 0})) as frames:
        async with asyncio.timeout(2.5):
            assert isinstance(await anext(frames), Alive)


async def test_a_cancelled_wait_stops_or_leaves_the_run(host: Host) -> None:
    async def drop(_: Output) -> None:
        pass

    for on_cancel, mark, left in ((OnCancel.LEAVE, "49.01", 1), (OnCancel.STOP, "49.02", 0)):
        run_id = on_cancel.name.lower()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                waiting = group.create_task(
                    host.runs.supervised(
                        run_id, shell(f"sleep {mark}"), drop, cancellation=Cancellation(on_cancel)
                    )
                )
                await there_is(mark)
                waiting.cancel()
        assert len(running(mark)) == left


async def test_what_ended_by_its_lease_is_not_adopted(host: Host) -> None:
    assert not await host.runs.adopt("never")
    await host.runs.start("left", shell("sleep 49.03", lease=1))
    await host.runs.start("done", shell("echo done; exit 3"))
    assert await host.runs.adopt("left")
    assert await gone("49.03", within=10)
    assert not await host.runs.adopt("left")
    assert await host.runs.adopt("done")
    assert await host.runs.ids() == ("done",)


# --- what only SSH can do wrong ------------------------------------------------------------------


async def test_a_broken_connection_loses_nothing(sshd: SshHost, there: Host) -> None:
    await there.runs.start("r", shell("for n in 1 2 3 4 5 6 7 8; do echo $n; sleep .25; done"))
    said = b""
    async with contextlib.aclosing(there.runs.attach("r", {"log": 0})) as frames:
        async for frame in frames:
            if isinstance(frame, Output):
                assert frame.offset == len(said)
                said += frame.data
                if frame.data == b"3\n":
                    await sshd.stop()
                    await sshd.start()
            elif isinstance(frame, Ended):
                assert frame.end.reason is RunReason.EXITED
    assert said == b"1\n2\n3\n4\n5\n6\n7\n8\n"


async def test_a_host_that_stays_away_is_given_up(sshd: SshHost, tmp_path: Path) -> None:
    async with Host(sshd.spec(tmp_path / "there"), patience=3) as host:
        await host.runs.start("r", shell("sleep 51.01", lease=2))
        async with contextlib.aclosing(host.runs.attach("r", {"log": 0})) as frames:
            await anext(frames)
            await sshd.stop()
            with pytest.raises(InfraError, match="stayed away for 3 s") as failed:
                await anext(frames)
        assert failed.value.host == "there"
        with pytest.raises(HostAwayError):
            await host.account.run(["true"], timeout=5)
        # Nobody was attached: the run ended by itself.
        assert await gone("51.01", 2)
        await sshd.start()
        assert (await follow(host, "r"))[1].reason is RunReason.LEASE


async def test_a_host_that_is_another_now_is_not_waited_for(sshd: SshHost, there: Host) -> None:
    await there.runs.start("r", shell("sleep 53.01"))
    keys = sshd.host_keys()
    waiting = asyncio.ensure_future(follow(there, "r"))
    await there_is("53.01")
    await sshd.stop()
    sshd.show_host_keys(())
    await sshd.make_keys()
    await sshd.start()
    async with asyncio.timeout(10):
        with pytest.raises(HostKeyError, match="ssh-keyscan"):
            await waiting
    await sshd.stop()
    sshd.show_host_keys(keys)
    await sshd.start()
    await asyncio.sleep(1)  # until it is tried again
    assert await there.runs.ids() == ("r",)


async def test_a_host_in_trouble_says_so_until_it_answers(sshd: SshHost, there: Host) -> None:
    await there.runs.start("r", shell("sleep 3; echo survived"))
    waiting = asyncio.ensure_future(follow(there, "r"))
    await asyncio.sleep(0.5)
    assert there.runs.trouble == ""
    await sshd.stop()
    async with asyncio.timeout(5):
        while not there.runs.trouble:
            await asyncio.sleep(0.02)
    await sshd.start()
    assert (await waiting)[0] == b"survived\n"
    assert there.runs.trouble == ""
