# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers of the lab: real programs on loopback that never outlive the test.

Each leads its own process group, writes to a log file, and is killed by the kernel when the
Python process dies, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOPBACK = "127.0.0.1"
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


class LabError(Exception):
    """A server of the lab did not come up or a lab command failed; the text holds its output."""


class Server:
    """One running program. ``log`` collects what it writes."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
    ) -> Server:
        """Start ``argv`` with its output in ``log``, which is emptied first."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *DIES_WITH_US,
                *argv,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, log)

    def output(self) -> str:
        """What the program wrote until now."""
        return self.log.read_text("utf-8", "replace")

    async def until(self, ready: Callable[[], bool], *, timeout: float = 15) -> None:
        """Wait until ``ready``; raise LabError when the program ends or the time is over."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.process.returncode is not None:
                raise LabError(f"ended with {self.process.returncode}: {self.output()[-2000:]}")
            if time.monotonic() > deadline:
                await self.stop()
                raise LabError(f"not ready within {timeout} s: {self.output()[-2000:]}")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End the whole group and reap it; nothing happens when it is gone already."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), 3)


async def call(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 60,
) -> bytes:
    """Run ``argv`` to its end and return its output; a failure raises LabError with it."""
    process = await asyncio.create_subprocess_exec(
        *DIES_WITH_US,
        *argv,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin), timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode != 0:
        said = (errors or output).decode("utf-8", "replace")[-2000:]
        raise LabError(f"{' '.join(argv)} ended with {process.returncode}: {said}")
    return output


def free_port() -> int:
    """A TCP port of loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections on ``port`` of ``host``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def descendants(root: int) -> dict[int, str]:
    """Every process below ``root`` and its command name, in the order of their ids."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                # The name stands in parentheses and may itself contain some.
                head, _, rest = (entry / "stat").read_text("utf-8", "replace").rpartition(")")
                parents[int(entry.name)] = int(rest.split()[1])
                names[int(entry.name)] = head.partition("(")[2]
    found = {root}
    grew = True
    while grew:
        below = {child for child, parent in parents.items() if parent in found} - found
        found |= below
        grew = bool(below)
    return {child: names[child] for child in sorted(found - {root})}


def running(mark: str) -> list[int]:
    """Every other process of this machine with ``mark`` as an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


async def gone(mark: str, within: float) -> bool:
    """Whether all of them end within so many seconds."""
    end = time.monotonic() + within
    while running(mark) and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return not running(mark)
