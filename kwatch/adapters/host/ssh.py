# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts over SSH: the only module that knows asyncssh.

One connection serves up to eight channels at a time, fewer than sshd's MaxSessions of ten; more
work opens further connections. Host keys are pinned, always.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import stat
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncssh

from kwatch.adapters.host.transport import LONGEST_SOCKET_PATH, Duplex, converse, too_large
from kwatch.adapters.process import MIB, Completed, command_line, failure
from kwatch.domain.lab.backoff import Backoff
from kwatch.errors import ConfigError, DiskFullError, InfraError, is_disk_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from kwatch.domain.lab.host import HostSpec

CHANNELS = 8
PIECE = 16 * MIB  # of the rest of an upload: read at a time, and written in many requests at once
LOGIN_TIMEOUT = 20.0
AGENT_TIMEOUT = 10.0
CLOSING = 1.0  # of all connections to a host together
# A connection without an answer to so many questions, so many seconds apart, is dropped: a host
# that was started anew does not know it, and would tell only when TCP asks again.
KEEPALIVE = 5
KEEPALIVES = 3
RECONNECT = Backoff(first=0.5, longest=30.0)
# What a command may take beyond its own timeout, which the host itself enforces.
GRACE = 10.0
KILLED_AFTER = 5  # seconds from SIGTERM to SIGKILL

HOW_TO_LOG_IN = (
    "set key_file to the private key to log in with, or agent to the socket of an SSH agent"
)

_Key = asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate] | asyncssh.SSHKeyPair


class HostKeyError(InfraError):
    """The host did not show a key that the configuration pins."""


class HostAwayError(InfraError):
    """The host cannot be reached now."""


@dataclass(slots=True)
class _Link:
    """One connection and how many channels are in use on it."""

    connection: asyncssh.SSHClientConnection
    used: int = 0


class SshTransport:
    """A host over SSH; see Transport for the contract.

    Raises ConfigError where the key file or the pinned keys cannot be used.
    """

    def __init__(self, spec: HostSpec) -> None:
        if spec.address is None:
            raise ConfigError(f"host {spec.name} has no address, so there is no SSH to it")
        self.name = spec.name
        self._spec = spec
        self._address = spec.address
        self._links: list[_Link] = []
        self._connecting = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self._last_error = InfraError("")
        self._jump = SshTransport(spec.jump) if spec.jump is not None else None
        self._own_key()
        self._pinned_keys()

    async def run(  # noqa: D102 - see Transport
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        timeout: float,
        limit: int = 64 * MIB,
        check: bool = True,
    ) -> Completed:
        # The host ends the command itself: whatever happens to us, it does not stay.
        bounded = ["timeout", "-k", str(KILLED_AFTER), f"{timeout:g}", *argv]
        begin = time.monotonic()
        late = InfraError(
            f"{self.name}: {command_line(argv)} did not end within {timeout:g} s", host=self.name
        )
        with self._named(argv):
            try:
                async with (
                    asyncio.timeout(timeout + GRACE),
                    self._process(bounded, feed=stdin is not None) as child,
                ):
                    duplex = Duplex(reader=child.stdout, writer=child.stdin)
                    out, err = await converse(duplex, child.stderr, stdin, limit, argv)
                    await child.wait_closed()
                    status = child.returncode
            except TimeoutError:
                raise late from None
        took = time.monotonic() - begin
        if status is None:
            raise HostAwayError(
                f"{self.name}: the connection broke during {command_line(argv)}", host=self.name
            )
        if status in {124, 137} and took >= timeout:
            raise late
        completed = Completed(argv=tuple(argv), status=status, stdout=out, stderr=err, took=took)
        if check and status != 0:
            raise failure(completed, host=self.name)
        return completed

    @contextlib.asynccontextmanager
    async def open(self, argv: Sequence[str]) -> AsyncIterator[Duplex]:  # noqa: D102
        with self._named(argv):
            async with self._process(argv, feed=True, errors=asyncssh.DEVNULL) as child:
                yield Duplex(reader=child.stdout, writer=child.stdin)

    async def upload(self, source: Path, target: str) -> int:  # noqa: D102 - see Transport
        with self._named(("sftp put", target)):
            async with self._channel() as connection, connection.start_sftp_client() as sftp:
                begun = await _size(sftp, target)
                # The default block size: with a larger one the connection was lost (asyncssh 2.24).
                if not 0 < begun <= source.stat().st_size:
                    await sftp.put(str(source), target)
                    return 0
                async with sftp.open(target, "r+b") as rest:
                    at = begun
                    with source.open("rb") as file:
                        file.seek(at)
                        while piece := await asyncio.to_thread(file.read, PIECE):
                            at += await rest.write(piece, at)
                return begun

    async def download(self, source: str, target: Path, limit: int) -> None:  # noqa: D102
        with self._named(("sftp get", source)):
            async with self._channel() as connection, connection.start_sftp_client() as sftp:
                found = await sftp.lstat(source)
                if found.permissions is None or not stat.S_ISREG(found.permissions):
                    raise InfraError(f"{source} is no regular file, so it is not fetched")
                if found.size is None or found.size > limit:
                    raise InfraError(too_large(source, found.size or 0, limit))
                await sftp.get(source, str(target))

    async def connect_unix(self, path: str) -> Duplex:  # noqa: D102
        if len(path.encode()) > LONGEST_SOCKET_PATH:
            raise ConfigError(
                f"{self.name}: the socket path {path} is longer than the {LONGEST_SOCKET_PATH} "
                f"bytes a system allows: choose a shorter directory for the host"
            )
        with self._named(("connect", path)):
            async with self._channel() as connection:
                reader, writer = await connection.open_unix_connection(path, encoding=None)
                return Duplex(reader=reader, writer=writer)

    async def close(self) -> None:  # noqa: D102 - see Transport
        links, self._links = self._links, []
        for link in links:
            link.connection.close()
        if self._jump is not None:
            await self._jump.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                for link in links:
                    await link.connection.wait_closed()

    @contextlib.asynccontextmanager
    async def _process(
        self, argv: Sequence[str], *, feed: bool, errors: int = asyncssh.PIPE
    ) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        async with self._channel() as connection:
            child: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
                shlex.join(argv),
                stdin=asyncssh.PIPE if feed else asyncssh.DEVNULL,
                stderr=errors,
                encoding=None,
            )
            try:
                yield child
            finally:
                child.close()

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection with room for one more channel."""
        async with self._connecting:
            self._links = [link for link in self._links if not link.connection.is_closed()]
            link = next((link for link in self._links if link.used < CHANNELS), None)
            if link is None:
                link = _Link(await self._connect())
                self._links.append(link)
            link.used += 1
        try:
            yield link.connection
        finally:
            link.used -= 1

    async def _connect(self) -> asyncssh.SSHClientConnection:
        wait = self._not_before - time.monotonic()
        if wait > 0:
            raise type(self._last_error)(
                f"{self.name} is away, next attempt in {wait:.1f} s: {self._last_error}",
                host=self.name,
                retry_after=timedelta(seconds=wait),
            )
        spec = self._spec
        own, known_hosts = self._own_key(), self._pinned_keys()
        try:
            # asyncssh's own timeout forgets a cancellation that comes with the connection.
            async with self._agent_keys() as held, asyncio.timeout(LOGIN_TIMEOUT):
                connection = await asyncssh.connect(
                    self._address,
                    spec.port,
                    tunnel=await self._gateway(),
                    username=spec.user or (),
                    client_keys=[*own, *held],
                    known_hosts=known_hosts,
                    config=None,
                    agent_path=None,
                    preferred_auth="publickey",
                    compression_algs=None,
                    keepalive_interval=KEEPALIVE,
                    keepalive_count_max=KEEPALIVES,
                    login_timeout=LOGIN_TIMEOUT,
                )
        except (OSError, asyncssh.Error) as error:
            self._failures += 1
            self._not_before = time.monotonic() + RECONNECT.delay(self._failures)
            self._last_error = self._explain(error)
            raise self._last_error from error
        self._failures = 0
        return connection

    async def _gateway(self) -> asyncssh.SSHClientConnection | tuple[()]:
        """The connection to the host that this one is reached through; () for none."""
        if self._jump is None:
            return ()
        async with self._jump._channel() as connection:  # noqa: SLF001 - one of us
            return connection

    @contextlib.asynccontextmanager
    async def _agent_keys(self) -> AsyncIterator[Sequence[_Key]]:
        """The keys and certificates that the agent holds, for as long as it signs for us."""
        path = self._spec.agent
        if path is None:
            yield ()
            return
        try:
            async with asyncio.timeout(AGENT_TIMEOUT):
                agent = await asyncssh.connect_agent(str(path))
        except OSError as error:
            raise self._no_agent("cannot be reached", error) from error
        try:
            try:
                async with asyncio.timeout(AGENT_TIMEOUT):
                    held = await agent.get_keys()
            except OSError as error:
                raise self._no_agent("does not answer", error) from error
            if not held:
                raise HostAwayError(
                    f"{self.name}: the SSH agent at {path} holds no key: "
                    f"run 'SSH_AUTH_SOCK={path} ssh-add KEY'",
                    host=self.name,
                )
            yield held
        except ValueError as error:
            raise self._no_agent("refuses", error) from error
        finally:
            agent.close()
            await agent.wait_closed()

    def _no_agent(self, what: str, error: Exception) -> HostAwayError:
        return HostAwayError(
            f"{self.name}: the SSH agent at {self._spec.agent} {what}: "
            f"{getattr(error, 'strerror', None) or str(error) or type(error).__name__}. Start it, "
            f"let kwatch's user use its socket, or set key_file of the host",
            host=self.name,
        )

    def _own_key(self) -> Sequence[_Key]:
        """The key of key_file, read anew for each connection.

        A certificate beside the key (``KEY-cert.pub``) is used, as ssh(1) does.
        """
        spec = self._spec
        if spec.key_file is None:
            if spec.agent is None:
                raise ConfigError(f"host {spec.name}: {HOW_TO_LOG_IN}")
            return ()
        try:
            private = asyncssh.read_private_key(spec.key_file)
            certificate = spec.key_file.with_name(f"{spec.key_file.name}-cert.pub")
            if certificate.exists():
                return [(private, asyncssh.read_certificate(certificate))]
        except (OSError, asyncssh.KeyImportError) as error:
            raise ConfigError(
                f"host {spec.name}: the private key {spec.key_file} cannot be used: {error}. "
                f"It must be readable by kwatch's user and have no passphrase; one that has "
                f"belongs into an SSH agent"
            ) from error
        return [private]

    def _pinned_keys(self) -> asyncssh.SSHKnownHosts:
        """What the host may show."""
        spec = self._spec
        lines = [_pinned(line, self._address, spec.port) for line in _lines(spec.known_hosts)]
        if not lines:
            raise ConfigError(f"host {spec.name}: no host key is pinned. {self._how_to_pin()}")
        try:
            return asyncssh.import_known_hosts("".join(f"{line}\n" for line in lines))
        except ValueError as error:
            raise ConfigError(
                f"host {spec.name}: known_hosts cannot be read: {error}. {self._how_to_pin()}"
            ) from error

    def _how_to_pin(self) -> str:
        return (
            f"Run 'ssh-keyscan -p {self._spec.port} {self._address}', compare with "
            f"'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on the host itself, and put the "
            f"line into known_hosts of host {self.name} in the configuration"
        )

    def _explain(self, error: Exception) -> InfraError:
        where = f"{self.name} ({self._address} port {self._spec.port})"
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return HostKeyError(
                f"{where}: its host key is not the pinned one, so nothing was sent: {error}. "
                f"If the host was set up anew: {self._how_to_pin()}",
                host=self.name,
            )
        if isinstance(error, asyncssh.PermissionDenied):
            keys = self._spec.key_file or f"a key that the agent at {self._spec.agent} holds"
            return HostAwayError(
                f"{where}: the login was refused: {error}. Put the public half of "
                f"{keys} into ~/.ssh/authorized_keys of {self._spec.user} there",
                host=self.name,
            )
        return HostAwayError(
            f"{where} cannot be reached: {str(error) or type(error).__name__}. Look whether the "
            f"host is up and sshd runs; kwatch tries again by itself",
            host=self.name,
        )

    @contextlib.contextmanager
    def _named(self, argv: Sequence[str]) -> Iterator[None]:
        """Turn what SSH raises into errors that name the host and the command."""
        try:
            yield
        except InfraError as error:
            error.host = error.host or self.name
            raise
        except asyncssh.SFTPError as error:
            text = f"{self.name}: {command_line(argv)}: {error.reason}"
            # SFTP has no code for it; OpenSSH says only "Failure".
            kind = DiskFullError if is_disk_full(error.reason) else InfraError
            raise kind(text, host=self.name) from error
        except (OSError, asyncssh.Error) as error:
            raise HostAwayError(
                f"{self.name}: {command_line(argv)}: {str(error) or type(error).__name__}",
                host=self.name,
            ) from error


async def _size(sftp: asyncssh.SFTPClient, path: str) -> int:
    """The size of a regular file; 0 where there is none."""
    try:
        found = await sftp.lstat(path)
    except asyncssh.SFTPNoSuchFile:
        return 0
    if found.permissions is None or not stat.S_ISREG(found.permissions):
        return 0
    return found.size or 0


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]


def _pinned(line: str, address: str, port: int) -> str:
    """A known_hosts line; a bare key is taken to be the host's own."""
    first = line.split(maxsplit=1)[0]
    if not first.startswith(("ssh-", "ecdsa-", "sk-")):
        return line
    return f"{address} {line}" if port == 22 else f"[{address}]:{port} {line}"
