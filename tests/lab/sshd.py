# SPDX-License-Identifier: GPL-2.0-or-later
"""A real OpenSSH server, on loopback or in a namespace: the lab's remote host.

As root it logs people in as any user of the machine, so that the lab can have a host user of its
own; without root only the own user can log in.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import pwd
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kwatch.domain.lab.host import HostSpec, Slot
from tests.lab.process import LOOPBACK, LabError, Server, call, descendants, free_port, listens

if TYPE_CHECKING:
    from collections.abc import Sequence

PRIVILEGE_SEPARATION = Path("/run/sshd")


class SshHost:
    """sshd for one user, public key only; an async context manager.

    ``client_key`` is the private key to log in with, ``host_key_line`` the line for known_hosts.
    It listens at ``host``, on a free port where ``port`` is 0. ``inside`` is what its command line
    begins with, say to put it into a namespace.
    """

    def __init__(
        self,
        directory: Path,
        *,
        user: str | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        inside: Sequence[str] = (),
    ) -> None:
        self.directory = directory.absolute()
        self.host = host
        self.port = port
        self._inside = inside
        self.user = user or getpass.getuser()
        self.client_key = self.directory / "client_key"
        self._host_key = self.directory / "host_key"
        self._authorized = self.directory / "authorized_keys"
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        await self.make_keys()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def make_keys(self) -> None:
        """Have the keys of both sides."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for key in (self.client_key, self._host_key):
            if not key.exists():
                await call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab",
                            "-f", str(key)])  # fmt: skip
        self._authorized.write_bytes(self.client_key.with_suffix(".pub").read_bytes())
        self._authorized.chmod(0o644)

    @property
    def process(self) -> int | None:
        """The id of what was started, while it was not stopped."""
        return None if self._server is None else self._server.process.pid

    def host_keys(self) -> tuple[bytes, ...]:
        """Both halves of the key that the host shows."""
        return tuple(path.read_bytes() for path in self._host_key_files())

    def show_host_keys(self, halves: Sequence[bytes]) -> None:
        """Show this key from the next start on; a new one where there are no halves."""
        for path, half in zip(self._host_key_files(), halves, strict=False):
            path.write_bytes(half)
        if not halves:
            for path in self._host_key_files():
                path.unlink()

    def _host_key_files(self) -> tuple[Path, Path]:
        return self._host_key, self._host_key.with_suffix(".pub")

    @property
    def host_key_line(self) -> str:
        """The known_hosts line that pins this host."""
        kind, key, *_ = self._host_key.with_suffix(".pub").read_text().split()
        return f"[{self.host}]:{self.port} {kind} {key}"

    def spec(self, directory: Path | str, name: str = "there") -> HostSpec:
        """A host of kwatch that is reached here, with a slot of each kind and its own folder."""
        return HostSpec(
            name=name,
            directory=str(directory),
            arch=platform.machine(),
            slots={Slot.BUILD: 1, Slot.BOOT: 1},
            address=self.host,
            port=self.port,
            user=self.user,
            key_file=self.client_key,
            known_hosts=self.host_key_line,
        )

    async def start(self) -> None:
        """Listen, on the port of the last start where there was one."""
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        port = self.port or free_port()
        configuration = self.directory / "sshd_config"
        configuration.write_text(self._configuration(port))
        server = await Server.start(
            [*self._inside, "/usr/sbin/sshd", "-D", "-e", "-f", str(configuration)],
            log=self.directory / "sshd.log",
        )
        await server.until(
            lambda: "Server listening" in server.output() and listens(port, self.host)
        )
        self.port = port
        self._server = server

    async def stop(self) -> None:
        """The host goes away: nobody listens and every open connection breaks.

        What a session started is not killed by this, as on a host whose network is cut; it sees
        its standard input end.
        """
        if self._server is None:
            return
        # Each connection has an sshd in a session of its own, out of reach of the group's signal.
        _, *connections = self._processes()
        server, self._server = self._server, None
        await server.stop()
        for child in connections:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send it to sshd itself and to that of each connection.

        With SIGSTOP the host falls silent: connections stay, and nothing is answered any more.
        """
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _processes(self) -> tuple[int, ...]:
        """sshd itself and that of each connection; not what they run."""
        assert self._server is not None
        own = self._server.process.pid
        below = descendants(own).items()
        return (own, *(child for child, name in below if name.startswith("sshd")))

    def _configuration(self, port: int) -> str:
        if os.geteuid() == 0:
            # sshd reads a file as the user, who may not enter the lab's directory; a command not.
            keys = (
                f"AuthorizedKeysFile none\n"
                f"AuthorizedKeysCommand /bin/cat {self._authorized}\n"
                f"AuthorizedKeysCommandUser root\n"
            )
        else:
            keys = f"AuthorizedKeysFile {self._authorized}\n"
        return (
            f"ListenAddress {self.host}:{port}\n"
            f"HostKey {self._host_key}\n"
            f"PidFile none\n"
            f"UsePAM no\n"
            f"StrictModes no\n"
            f"AuthenticationMethods publickey\n"
            f"PasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\n"
            f"AllowUsers {self.user}\n"
            f"PermitRootLogin prohibit-password\n"
            f"MaxStartups 100:30:200\n"
            f"MaxSessions 100\n"
            f"UseDNS no\n"
            f"PrintMotd no\n"
            # bash then takes itself for a nested shell and leaves root's .bashrc alone.
            f"SetEnv SHLVL=5\n"
            f"Subsystem sftp internal-sftp\n"
            f"{keys}"
        )


async def ensure_user(name: str) -> bool:
    """Make a login user of the lab; say whether it is new. Only root can do so.

    The password field ``*`` lets a key in and no password; ``useradd`` alone would lock both out.
    """
    if os.geteuid() != 0:
        raise LabError(f"cannot create the user {name}: not root; use the own user instead")
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return False
    await call(["useradd", "--create-home", "--password", "*", "--shell", "/bin/bash", name])
    return True


async def remove_user(name: str) -> None:
    """End all that runs as the lab's user, and remove the user with its home."""
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return
    if uid < 1000:
        raise LabError(f"{name} is a system user, none of the lab's: left alone")
    deadline = time.monotonic() + 5
    while (running := _processes(uid)) and time.monotonic() < deadline:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    await call(["userdel", "--force", "--remove", name])


def _processes(uid: int) -> list[int]:
    """Every process of a user that still runs: what waits to be reaped is none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
                if entry.stat().st_uid == uid and state != "Z":
                    found.append(int(entry.name))
    return found
