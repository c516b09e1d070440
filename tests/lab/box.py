# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab in a box: everything that a kwatch has around it, real and on loopback.

A git server with the watched tree, a public-inbox archive that carries the series and gets the
reports, a mail server that delivers into it, an OpenSSH server as build and KVM host, and the
daemon itself as a process of its own, with the same kind of configuration as in production.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.lab.gitd import GitServer
from tests.lab.inbox import Inbox
from tests.lab.process import LabError, Server, free_port
from tests.lab.smtpd import MailServer
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SERIES_LIST = "llvm-cov"
REPORT_LIST = "regressions"
TREE = "linux-next"
VARIANT = "clang-22"
OWNER = "operator@example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What the lab tests: how its kernel is configured and booted, and its series.

    ``deadlines`` are those of the profile, in seconds under KVM; ``creates`` names the files by
    which the series is known.
    """

    base: str
    fragment: str
    series: Sequence[Path]
    creates: Sequence[str]
    memory: str
    deadlines: str
    llvm_suffix: str = "-22"
    commands: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """A host of the configuration, and where it is reached.

    ``directory`` is kwatch's folder there; ``builds`` and ``boots`` are how many it takes at once.
    """

    name: str
    server: SshHost
    directory: str
    builds: int
    boots: int

    def section(self) -> str:
        """What the configuration says of it."""
        return f"""
[[host]]
name = "{self.name}"
address = "{self.server.host}"
port = {self.server.port}
user = "{self.server.user}"
key_file = "{self.server.client_key}"
known_hosts = '''{self.server.host_key_line}'''
directory = "{self.directory}"
accelerators = ["kvm", "tcg"]
slots = {{ build = {self.builds}, boot = {self.boots} }}
"""


class Box:
    """The lab below ``directory``. Use as ``async with``; the daemon is started apart.

    It has one host on loopback, kvm1, with as many ``slots`` for builds as for boots. ``hosts`` are
    those that it has besides; whoever gives them runs them.
    """

    def __init__(
        self,
        directory: Path,
        kernel: Kernel,
        *,
        user: str | None,
        slots: int = 1,
        host_directory: str = "kwatch",
        hosts: Sequence[LabHost] = (),
    ) -> None:
        self.directory = directory
        self.kernel = kernel
        self.state = directory / "state"
        self.public = directory / "git" / f"{TREE}.git"
        self.config = directory / "config.toml"
        self.web_port = free_port()
        self._daemon: Server | None = None
        self._stack = contextlib.AsyncExitStack()
        self.gitd = GitServer(directory / "git")
        self.inbox = Inbox(directory / "inbox", [SERIES_LIST, REPORT_LIST], reset=True)
        self.smtpd = MailServer(directory / "smtp", inbox=self.inbox)
        self.sshd = SshHost(directory / "ssh", user=user)
        own = LabHost(
            name="kvm1", server=self.sshd, directory=host_directory, builds=slots, boots=slots
        )
        self.hosts = (own, *hosts)

    async def __aenter__(self) -> Self:
        self.public.parent.mkdir(parents=True, exist_ok=True)
        for service in (self.gitd, self.inbox, self.smtpd, self.sshd):
            await self._stack.enter_async_context(service)
        self.write_config()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._stack.aclose()

    # --- the daemon -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the daemon and wait until it serves."""
        self._daemon = await Server.start(
            [sys.executable, "-W", "error", "-m", "kwatch", "--verbose", "run", "--config",
             str(self.config)],
            log=self.directory / "daemon.log",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        control = self.state / "control.sock"
        await self._daemon.until(lambda: control.exists() and "is up" in self.log(), timeout=60)

    async def stop(self) -> int | None:
        """End the daemon as systemd does; its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the daemon as the out-of-memory killer does."""
        await self._end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal, and nothing more."""
        if self._daemon is not None:
            self._daemon.process.send_signal(number)

    async def _end(self, number: signal.Signals) -> int | None:
        if self._daemon is None:
            return None
        process = self._daemon.process
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(30):
            status = await process.wait()
        self._daemon = None
        with (self.directory / "daemons.log").open("a") as history:
            history.write(self.log())
        return status

    @property
    def is_running(self) -> bool:
        """Whether the daemon lives."""
        return self._daemon is not None and self._daemon.process.returncode is None

    @property
    def pid(self) -> int:
        """The process of the daemon that runs."""
        assert self._daemon is not None
        return self._daemon.process.pid

    def log(self) -> str:
        """What the daemon wrote since its start."""
        path = self.directory / "daemon.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    async def command(self, *words: str) -> tuple[int, str]:
        """Run ``kwatch WORDS --config ...``; its exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kwatch", *words, "--config", str(self.config),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    # --- what goes in -----------------------------------------------------------------------------

    async def post_series(self) -> None:
        """Send the series to its list."""
        for path in self.kernel.series:
            await self.inbox.deliver(SERIES_LIST, path.read_bytes())

    async def look(self) -> None:
        """Let the daemon look at the tree now rather than at its next tick."""
        await self.command("look", f"tree:{TREE}")

    # --- what comes out ---------------------------------------------------------------------------

    def reports(self) -> list[bytes]:
        """The mails on the list that gets the reports."""
        return self.inbox.messages(REPORT_LIST)

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of the history."""
        path = self.state / "history.sqlite"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, parameters)]
        finally:
            connection.close()

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.web_port}{path}") as response,
        ):
            return response.status, await response.text()

    async def until(
        self, ready: Callable[[], bool], *, timeout: float, what: str, pause: float = 0.2
    ) -> None:
        """Wait for something; LabError with the daemon's last words when it does not come."""
        try:
            async with asyncio.timeout(timeout):
                while not ready():
                    if not self.is_running:
                        raise LabError(f"the daemon ended:\n{self.log()[-4000:]}")
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise LabError(f"no {what} within {timeout:g} s:\n{self.log()[-6000:]}") from None

    # --- configuration ----------------------------------------------------------------------------

    def write_config(self) -> None:
        """The configuration, with the addresses of the running services."""
        fragment = self.directory / "lab.config"
        fragment.write_text(self.kernel.fragment)
        known_hosts = self.directory / "known_hosts"
        known_hosts.write_text("".join(f"{host.server.host_key_line}\n" for host in self.hosts))
        commands = ", ".join(f"'''{command}'''" for command in self.kernel.commands)
        creates = ", ".join(f'"{path}"' for path in self.kernel.creates)
        text = f"""
[lab]
name = "lab"
owner = "{OWNER}"
contact = "{OWNER}"
state_directory = "{self.state}"
busybox = "/bin/busybox"

[schedule]
tree_poll = "5 s"
list_poll = "5 s"

[[tree]]
name = "{TREE}"
url = "{self.gitd.url(self.public.name)}"
tags = ["next-*"]
variants = ["{VARIANT}"]
mail_to = ["{self.inbox.address(REPORT_LIST)}"]

[[list]]
name = "{SERIES_LIST}"
url = "{self.inbox.url(SERIES_LIST)}"
address = "{self.inbox.address(SERIES_LIST)}"
since = 2020-01-01

[[series]]
name = "llvm-cov"
list = "{SERIES_LIST}"
creates = [{creates}]
senders = ["author@example.org"]
mail_to = ["author@example.org"]

[[toolchain]]
name = "clang-22"
llvm_suffix = "{self.kernel.llvm_suffix}"

[[kconfig]]
name = "lab"
base = "{self.kernel.base}"
fragments = ["{fragment}"]

[[profile]]
name = "lab"
accelerator = "auto"
memory = "{self.kernel.memory}"
commands = [{commands}]
[profile.deadlines]
{self.kernel.deadlines}

[[variant]]
name = "{VARIANT}"
series = "llvm-cov"
toolchain = "clang-22"
kconfig = "lab"
profile = "lab"

{"".join(host.section() for host in self.hosts)}
[mail]
from_name = "kwatch"
from_address = "kwatch@example.org"
message_id_domain = "kwatch.example.org"
archive = "{self.inbox.url(REPORT_LIST)}/"
release = "automatic"

[mail.smtp]
host = "{self.smtpd.host}"
port = {self.smtpd.port}
security = "plain"

[web]
port = {self.web_port}

[blobs]
budget = "8 GiB"
"""
        tomllib.loads(text)
        self.config.write_text(text)
