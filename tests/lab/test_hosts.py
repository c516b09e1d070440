# SPDX-License-Identifier: GPL-2.0-or-later
"""Eight hosts that lose power, network, disk and identity while kernels boot on them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.adapters.host.host import Host
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.run import RunSpec
from tests.lab.box import ROOT, VARIANT, LabHost
from tests.lab.netns import PREFIX, Machine, Network, clear, ip
from tests.lab.toykernel import KERNEL
from tests.lab.toytree import (
    ToyTree,
    archived,
    is_settled,
    settle,
    toy_box,
    tune,
    waiting_boot,
    working_on,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.lab.box import Box
    from tests.lab.toy.history import Edits

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(420)]

NAMES = tuple(f"h{number}" for number in range(1, 9))
SLOW = "16mbit"
# Seconds that a guest takes: as a rule, while hosts fail, and while the daemon does.
SHORT, LONG, MIDDLE = 3, 40, 20
DEADLINES = 'kernel = "20 s"\ninit = "80 s"\ntests = "20 s"\ntotal = "120 s"\ntcg_factor = 1.0'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machines(
    tmp_path_factory: pytest.TempPathFactory, user: str
) -> AsyncIterator[Mapping[str, Machine]]:
    directory = tmp_path_factory.mktemp("machines")
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network())
        found = {name: Machine(name, network, directory / name, user=user) for name in NAMES}
        for machine in found.values():
            await stack.enter_async_context(machine)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tree(
    tmp_path_factory: pytest.TempPathFactory, user: str, machines: Mapping[str, Machine]
) -> AsyncIterator[ToyTree]:
    """A running lab that builds on kvm1 and boots each tag eight times, on those machines."""
    hosts = [
        LabHost(name=name, server=one.server, directory=f"{name}/kwatch", builds=0, boots=2)
        for name, one in machines.items()
    ]
    kernel = dataclasses.replace(KERNEL, deadlines=DEADLINES)
    async with toy_box(tmp_path_factory.mktemp("lab"), user, kernel=kernel, hosts=hosts) as box:
        tune(box, {"slots = { build = 1, boot = 1 }": "slots = { build = 1, boot = 0 }"})
        _boot_often(box, len(NAMES))
        grown = ToyTree.create(box)
        await box.post_series()
        grown.commit(waiting_boot(SHORT))
        await box.start()
        yield grown
        assert await box.stop() == 0
        await _nothing_is_left(machines, but="alone")


def _boot_often(box: Box, boots: int) -> None:
    """Have so many variants that share a build and differ in how they boot."""
    text = box.config.read_text()
    names = [f"boot-{number}" for number in range(boots)]
    (profile,) = (part for part in text.split("[[") if part.startswith("profile]]"))
    (variant,) = (part for part in text.split("[[") if part.startswith("variant]]"))
    listed = ", ".join(f'"{name}"' for name in names)
    text = text.replace(f'variants = ["{VARIANT}"]', f"variants = [{listed}]")
    text = text.replace(f"[[{profile}", "").replace(f"[[{variant}", "")
    for name in names:
        text += "\n[[" + profile.replace('name = "lab"\n', f'name = "{name}"\ncmdline = "{name}"\n')
        text += "\n[[" + variant.replace(f'name = "{VARIANT}"', f'name = "{name}"').replace(
            'profile = "lab"', f'profile = "{name}"'
        )
    box.config.write_text(text)


def _takes(seconds: int) -> Edits:
    return {"init/main.c": (f"SECONDS = {SHORT},", f"SECONDS = {seconds},")}


# A run of the lab that is killed while a machine works.
KILLED = """
import asyncio, os, pathlib, subprocess, sys
from tests.lab.netns import Machine, Network

async def main():
    network = await Network().__aenter__()
    machine = await Machine("hx", network, pathlib.Path(sys.argv[1]), user=sys.argv[2]).__aenter__()
    first = str(machine.first())
    subprocess.run(["nsenter", "-t", first, "-p", "sh", "-c", "setsid sleep 4243 & sleep 0.2"])
    assert "sleep 4243" in (await machine.processes()).values()
    print(os.getpid(), flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def _running(machines: Mapping[str, Machine]) -> dict[str, list[str]]:
    """What ps says on each machine that runs anything."""
    listed = await asyncio.gather(*(one.processes() for one in machines.values()))
    return {
        name: list(found.values()) for name, found in zip(machines, listed, strict=True) if found
    }


async def _guests(machines: Mapping[str, Machine]) -> dict[tuple[str, str], int]:
    """Every kernel that boots: (machine, run id) -> pid of QEMU there."""
    listed = await asyncio.gather(*(one.guests() for one in machines.values()))
    return {
        (name, run): pid
        for name, found in zip(machines, listed, strict=True)
        for run, pid in found.items()
    }


async def _all_boot(machines: Mapping[str, Machine]) -> dict[tuple[str, str], int]:
    """Wait until a kernel boots on each machine."""
    async with asyncio.timeout(60):
        while True:
            found = await _guests(machines)
            if {name for name, _ in found} == set(machines):
                return found
            await asyncio.sleep(0.2)


async def _are_shown(box: Box, words: Mapping[str, Sequence[str]], *, timeout: float) -> None:
    """Wait until ``kwatch hosts`` has said of each host, on its line, what is awaited of it."""
    awaited, output = dict(words), ""
    try:
        async with asyncio.timeout(timeout):
            while awaited:
                _, output = await box.command("hosts")
                for line in output.splitlines():
                    name = line.partition(" ")[0]
                    if name in awaited and all(word in line for word in awaited[name]):
                        del awaited[name]
    except TimeoutError:
        raise AssertionError(f"not shown: {awaited}\n{output}") from None


def _hosts_of(box: Box, tag: str) -> list[str]:
    """Where the boots of a tag came to their end."""
    rows = box.query(
        "SELECT boot.host FROM revision JOIN result USING (commit_id)"
        " JOIN boot ON boot.key = boot_key WHERE tag = ? ORDER BY boot.host", tag,
    )  # fmt: skip
    return [row["host"] for row in rows]


def _nobody_is_blamed(box: Box) -> None:
    assert {seen["outcome"] for seen in box.query("SELECT outcome FROM result")} == {"pass"}
    assert box.query("SELECT * FROM regression") == []
    assert archived(box) == []
    assert box.query("SELECT * FROM job WHERE state = 'dead'") == []


async def _nothing_is_left(
    machines: Mapping[str, Machine], *, seconds: float = 5, but: str = ""
) -> None:
    """Wait until nothing runs on any machine; no run has a folder there, but one of that name."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await _running(machines):
                await asyncio.sleep(0.5)
    assert await _running(machines) == {}
    folders = [path for one in machines.values() for path in one.disk.glob("kwatch/run/*/")]
    assert [path for path in folders if path.name != but] == []


def _spec(name: str, machine: Machine) -> HostSpec:
    return dataclasses.replace(machine.server.spec(f"{name}/kwatch", name), slots={Slot.BOOT: 1})


async def test_boots_move_on_while_hosts_fail_in_every_way(
    tree: ToyTree, machines: Mapping[str, Machine]
) -> None:
    box = tree.box
    cut, away, full, anew, slow, *_ = machines.values()
    await slow.slow_down(SLOW)
    tree.commit(_takes(LONG))
    first = tree.publish()
    await _all_boot(machines)
    begin, cut_at = time.monotonic(), time.time()
    key = anew.server.host_keys()
    await asyncio.gather(cut.power_off(), away.unplug(), anew.set_up_anew())
    full.fill_disk()
    shown = {
        full.name: ("quarantined", "0 MiB of its disk are free: make room"),
        anew.name: ("unreachable", "not the pinned one", "ssh-keyscan"),
        away.name: ("unreachable", "Look whether"),
        cut.name: ("unreachable", "Look whether"),
    }
    await _are_shown(box, shown, timeout=60)
    await asyncio.sleep(max(0, begin + 20 - time.monotonic()))
    await cut.power_on()

    # What comes now goes where somebody answers.
    tree.revert(_takes(LONG))
    second = tree.publish()
    await asyncio.sleep(max(0, begin + 60 - time.monotonic()))
    plugged_at = time.time()
    await away.plug()
    await settle(box, first, timeout=150)
    await settle(box, second, timeout=150)
    _nobody_is_blamed(box)
    bad = {full.name, anew.name}
    assert not bad & {*_hosts_of(box, first), *_hosts_of(box, second)}
    # A minute without its network costs a boot nothing, and nothing else came there meanwhile.
    there = box.query(
        "SELECT started_at, at - took AS since, attempt, failures FROM boot"
        " JOIN job ON job.key IN (boot.key, inputs) WHERE kind = 'boot' AND host = ?"
        " ORDER BY started_at", away.name,
    )  # fmt: skip
    assert (there[0]["attempt"], there[0]["failures"]) == (1, 0)
    assert there[0]["started_at"] < cut_at
    assert all(one["since"] > plugged_at for one in there[1:])
    assert slow.name in _hosts_of(box, first)

    full.make_room()
    await anew.set_up_anew(key)
    for name in bad:
        assert (await box.command("hosts", "resume", name))[0] == 0
    await _are_shown(box, dict.fromkeys(machines, (" ok ",)), timeout=60)
    third = tree.publish()
    await settle(box, third, timeout=90)
    assert _hosts_of(box, third) == sorted(machines)
    _nobody_is_blamed(box)
    await _nothing_is_left(machines)


async def test_what_boots_goes_on_when_the_daemon_was_killed(
    tree: ToyTree, machines: Mapping[str, Machine]
) -> None:
    box = tree.box
    tree.commit(_takes(MIDDLE))
    tag = tree.publish()
    begun = await _all_boot(machines)
    await box.kill()
    await asyncio.sleep(2)
    assert await _guests(machines) == begun
    await box.start()
    seen = dict(begun)
    async with asyncio.timeout(150):
        while not is_settled(box, tag):
            seen |= await _guests(machines)
            await asyncio.sleep(0.5)
    # The very same processes, and no other, came to their end.
    assert seen == begun
    assert _hosts_of(box, tag) == sorted(machines)
    boots = box.query(
        "SELECT attempt, failures FROM job WHERE kind = 'boot' ORDER BY id DESC LIMIT 8"
    )
    assert [(one["attempt"], one["failures"]) for one in boots] == [(1, 0)] * len(machines)
    tree.revert(_takes(MIDDLE))
    _nobody_is_blamed(box)
    await _nothing_is_left(machines)


async def test_what_nobody_comes_back_to_is_ended_by_its_lease(
    machines: Mapping[str, Machine],
) -> None:
    """As after a kill without a restart, with a lease of seconds for that of three minutes."""
    argv = ("qemu-system-x86_64", "-S", "-display", "none", "-nodefaults")
    spec = RunSpec(argv=argv, deadline=60, lease=4, limits={})
    for name, machine in list(machines.items())[:2]:
        async with Host(_spec(name, machine)) as host:
            await host.runs.start("alone", spec)
    assert len(await _running(machines)) == 2
    await _nothing_is_left(machines, seconds=12, but="alone")


async def test_what_a_killed_run_left_is_removed_by_the_next(user: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), user],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    mine = f"{PREFIX}{done.stdout.strip()}"
    # Its processes die with it, even the one in a session of its own.
    async with asyncio.timeout(5):
        while working_on(Path("sleep 4243")):
            await asyncio.sleep(0.1)
    assert mine in await ip("link")
    await clear()  # as the next one begins
    assert mine not in await ip("link")
    assert mine not in await ip("netns", "list")
    assert mine not in Path("/proc/self/mounts").read_text()
