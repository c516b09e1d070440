# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts of the lab that can lose their power and their network: each in namespaces of its own.

A machine has a network namespace with one link to a bridge, a namespace of processes whose first
is its sshd, a boot id, and a small disk that survives its power. To cut its power takes the link
down and kills the first process: all that it runs ends at once, and nobody is told.

Names begin with the id of the process that made them, so what a killed run left is known by it.
Only root can make any of this.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.process import LabError, call
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "kwt"
MINE = f"{PREFIX}{os.getpid()}"
SSH_PORT = 2022
DISK_MIB = 320
# 198.18.0.0/15 is for tests of networks (RFC 2544), and nobody's address.
NETS = tuple(f"198.{18 + number // 256}.{number % 256}" for number in range(512))
# $0 is shown as the boot id of the machine, the rest becomes its first process.
BOOT = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'


async def ip(*words: str) -> str:
    """What ip(8) says."""
    return (await call(["ip", *words])).decode()


class Network:
    """A bridge on this machine that the lab's machines hang on; nothing beyond is reached."""

    def __init__(self) -> None:
        self.bridge = MINE
        self._net = ""
        self._machines = 0

    async def __aenter__(self) -> Self:
        await clear()
        taken = await ip("-4", "-o", "address")
        start = os.getpid() % len(NETS)
        self._net = next(net for net in NETS[start:] + NETS[:start] if f" {net}." not in taken)
        await ip("link", "add", self.bridge, "type", "bridge", "forward_delay", "0")
        await ip("address", "add", f"{self._net}.1/24", "dev", self.bridge)
        await ip("link", "set", self.bridge, "up")
        return self

    async def __aexit__(self, *_: object) -> None:
        await ip("link", "delete", self.bridge)

    def address(self) -> str:
        """One that no machine has."""
        self._machines += 1
        return f"{self._net}.{self._machines + 1}"


class Machine:
    """A host of the lab with a power switch. Use as ``async with``: it is on inside.

    ``name`` is its own, of at most three characters. ``server`` is its sshd; ``disk`` is mounted in
    the home of ``user``, whose name there is ``name``.
    """

    def __init__(self, name: str, network: Network, directory: Path, *, user: str) -> None:
        self.name = name
        self.disk = Path(pwd.getpwnam(user).pw_dir) / name
        self._network = network
        # As long as a link's name may be: pids have up to seven digits.
        self._port = f"{MINE}-{name}"
        self._boot_id = directory / "boot_id"
        self._address = network.address()
        self.server = SshHost(
            directory,
            user=user,
            host=self._address,
            port=SSH_PORT,
            inside=[
                "ip", "netns", "exec", self._port,
                "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
                "sh", "-c", BOOT, str(self._boot_id),
            ],
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        user = pwd.getpwnam(self.server.user)
        self.disk.mkdir()
        await call(["mount", "-t", "tmpfs", "-o",
                    f"size={DISK_MIB}m,mode=700,uid={user.pw_uid},gid={user.pw_gid}",
                    self._port, str(self.disk)])  # fmt: skip
        await self.power_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(LabError):
            await self.power_off()
        await call(["umount", "--lazy", str(self.disk)])
        self.disk.rmdir()

    # --- power ------------------------------------------------------------------------------------

    async def power_on(self) -> None:
        """Boot: with the disk as it was, and a new boot id."""
        await self.server.make_keys()
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        number = self._address.rpartition(".")[2]
        await ip("netns", "add", self._port)
        # The address of its card stays: nobody sees another machine.
        await ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0",
                 "address", f"02:00:00:00:00:{int(number):02x}", "netns", self._port)  # fmt: skip
        await ip("link", "set", self._port, "master", self._network.bridge)
        await ip("-n", self._port, "address", "add", f"{self._address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            await ip("-n", self._port, "link", "set", link, "up")
        await self.plug()
        await self.server.start()

    async def power_off(self) -> None:
        """Cut the power: nothing of it runs any more, and its connections only fall silent."""
        await self.unplug()
        first = self.first()
        if first is not None:
            os.kill(first, signal.SIGKILL)
        await self.server.stop()
        await ip("link", "delete", self._port)
        await ip("netns", "delete", self._port)

    async def set_up_anew(self, halves: Sequence[bytes] = ()) -> None:
        """Come back with an empty disk and another host key: a new one, or these ``halves``."""
        await self.power_off()
        for entry in self.disk.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.server.show_host_keys(halves)
        await self.power_on()

    def first(self) -> int | None:
        """The first process of the machine, as this one counts."""
        started = self.server.process
        if started is None:
            return None
        children = Path(f"/proc/{started}/task/{started}/children").read_text().split()
        return int(children[0]) if children else None

    # --- network ----------------------------------------------------------------------------------

    async def unplug(self) -> None:
        """Take its network away."""
        await ip("link", "set", self._port, "down")

    async def plug(self) -> None:
        """Give its network back."""
        await ip("link", "set", self._port, "up")

    async def slow_down(self, rate: str) -> None:
        """Let no more through than ``rate`` (as in tc(8)) a direction: more waits, up to 400 ms."""
        words = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
        await call(["tc", "qdisc", "replace", "dev", self._port, *words])
        await call(["tc", "-n", self._port, "qdisc", "replace", "dev", "eth0", *words])

    # --- disk -------------------------------------------------------------------------------------

    def fill_disk(self) -> None:
        """Take all room that is left."""
        with (self.disk / "ballast").open("ab") as ballast:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), size)

    def make_room(self) -> None:
        """Give back what fill_disk() took."""
        (self.disk / "ballast").unlink()

    # --- what runs there --------------------------------------------------------------------------

    async def processes(self) -> dict[int, str]:
        """What ps(1) on the machine says: pid -> command line. Without sshd and without ps."""
        first = self.first()
        if first is None:
            return {}
        said = await call(["nsenter", "--target", str(first), "--pid", "--mount", "--net",
                           "ps", "-ww", "-e", "-o", "pid=,args="])  # fmt: skip
        found = (line.split(maxsplit=1) for line in said.decode().splitlines())
        return {
            int(pid): line
            for pid, line in found
            if not line.startswith(("sshd", "/usr/sbin/sshd", "ps -ww")) and "<defunct>" not in line
        }

    async def guests(self) -> dict[str, int]:
        """The kernels that boot there: run id -> pid of QEMU."""
        running = await self.processes()
        found = {}
        for child in self.disk.glob("kwatch/run/*/child"):
            with contextlib.suppress(FileNotFoundError):
                pid = int(child.read_text().split()[0])
                if " -kernel " in running.get(pid, ""):
                    found[child.parent.name] = pid
        return found


async def clear() -> None:
    """Remove what runs left that were killed: their processes died with them."""
    for name in re.findall(rf"^({PREFIX}\d+-\w+)", await ip("netns", "list"), re.MULTILINE):
        if not _is_alive(name):
            await ip("netns", "delete", name)
    links = re.findall(rf"^\d+: ({PREFIX}\d+(?:-\w+)?)[:@]", await ip("-o", "link"), re.MULTILINE)
    for name in links:
        if not _is_alive(name):
            with contextlib.suppress(LabError):
                await ip("link", "delete", name)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, target, *_ = line.split()
        if re.fullmatch(rf"{PREFIX}\d+-\w+", source) and not _is_alive(source):
            await call(["umount", "--lazy", target])


def _is_alive(name: str) -> bool:
    return Path(f"/proc/{name.removeprefix(PREFIX).partition('-')[0]}").exists()
