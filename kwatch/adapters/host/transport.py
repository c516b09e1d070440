# SPDX-License-Identifier: GPL-2.0-or-later
"""How commands and files reach a host: the contract, and this machine's own way.

The other way is kwatch/adapters/host/ssh.py; test_host.py and test_runs.py in
tests/integration/adapters hold both to the same contract.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kwatch.adapters import process
from kwatch.adapters.process import MIB, Completed, command_line, failure
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

# The room of sun_path in unix(7), without the final NUL.
LONGEST_SOCKET_PATH = 107


class Reader(Protocol):
    """The receiving half of a stream of bytes."""

    async def read(self, n: int = -1, /) -> bytes:
        """Up to ``n`` bytes; none at the end."""
        ...


class Writer(Protocol):
    """The sending half of a stream of bytes."""

    def write(self, data: bytes, /) -> None:
        """Queue ``data``."""
        ...

    async def drain(self) -> None:
        """Wait while too much is queued."""
        ...

    def write_eof(self) -> None:
        """Say that no more comes."""
        ...

    def close(self) -> None:
        """Let go of the stream."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplex:
    """Both halves of a stream."""

    reader: Reader
    writer: Writer


class Transport(Protocol):
    """A way to one host. Every failure of it is an InfraError that names the host.

    Relative paths are relative to the home of the user there. A command never outlives its
    timeout there, whatever becomes of the connection.
    """

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        timeout: float,
        limit: int = 64 * MIB,
        check: bool = True,
    ) -> Completed:
        """Run a command to its end, as process.run() does."""
        ...

    def open(self, argv: Sequence[str]) -> contextlib.AbstractAsyncContextManager[Duplex]:
        """Run a command that ends when its standard input does, and talk to it."""
        ...

    async def upload(self, source: Path, target: str) -> int:
        """Copy a local file to ``target``; not atomic.

        What ``target`` holds may be taken for the beginning of it, unread; how many bytes were.
        """
        ...

    async def download(self, source: str, target: Path, limit: int) -> None:
        """Copy a regular file of at most ``limit`` bytes here; not atomic."""
        ...

    async def connect_unix(self, path: str) -> Duplex:
        """Connect to a unix socket there."""
        ...

    async def close(self) -> None:
        """Drop all connections; the next use connects again."""
        ...


async def feed(writer: Writer, data: bytes | AsyncIterator[bytes]) -> None:
    """Send all of ``data`` and its end; a reader that went away early is no error here."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if isinstance(data, bytes):
            writer.write(data)
            await writer.drain()
        else:
            async for piece in data:
                writer.write(piece)
                await writer.drain()
        writer.write_eof()


async def read_all(reader: Reader, limit: int, argv: Sequence[str]) -> bytes:
    """Everything up to the end; more than ``limit`` bytes raise InfraError."""
    pieces: list[bytes] = []
    size = 0
    while piece := await reader.read(MIB):
        size += len(piece)
        if size > limit:
            raise InfraError(f"{command_line(argv)} wrote more than {limit} bytes and was killed")
        pieces.append(piece)
    return b"".join(pieces)


async def converse(
    duplex: Duplex,
    errors: Reader,
    stdin: bytes | AsyncIterator[bytes] | None,
    limit: int,
    argv: Sequence[str],
) -> tuple[bytes, bytes]:
    """Feed a command and read all that it says: standard output and standard error."""
    try:
        async with asyncio.TaskGroup() as group:
            if stdin is not None:
                group.create_task(feed(duplex.writer, stdin))
            out = group.create_task(read_all(duplex.reader, limit, argv))
            err = group.create_task(read_all(errors, limit, argv))
    except ExceptionGroup as failures:
        # The first says what happened; the others follow from it.
        raise failures.exceptions[0] from None
    return out.result(), err.result()


def too_large(path: str, size: int, limit: int) -> str:
    """The text for a file over its limit."""
    return f"{path} has {size} bytes, more than the {limit} allowed"


class LocalTransport:
    """The daemon's machine itself, as the daemon's own user."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(  # noqa: D102 - see Transport
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        timeout: float,
        limit: int = 64 * MIB,
        check: bool = True,
    ) -> Completed:
        with self._named():
            if stdin is None or isinstance(stdin, bytes):
                return await process.run(argv, cwd=Path.home(), stdin=stdin, timeout=timeout,
                                         limit=limit, check=check)  # fmt: skip
            return await self._run_fed(tuple(argv), stdin, timeout, limit, check=check)

    async def _run_fed(
        self,
        argv: tuple[str, ...],
        stdin: AsyncIterator[bytes],
        timeout: float,
        limit: int,
        *,
        check: bool,
    ) -> Completed:
        begin = asyncio.get_running_loop().time()
        try:
            async with (
                asyncio.timeout(timeout),
                process.spawn(argv, cwd=Path.home(), feed=True) as child,
            ):
                assert child.stdin is not None  # noqa: S101 - spawn made the pipes
                assert child.stdout is not None  # noqa: S101
                assert child.stderr is not None  # noqa: S101
                duplex = Duplex(reader=child.stdout, writer=child.stdin)
                out, err = await converse(duplex, child.stderr, stdin, limit, argv)
                status = await child.wait()
        except TimeoutError:
            raise InfraError(f"{command_line(argv)} did not end within {timeout:g} s") from None
        completed = Completed(
            argv=argv,
            status=status,
            stdout=out,
            stderr=err,
            took=asyncio.get_running_loop().time() - begin,
        )
        if check and completed.status != 0:
            raise failure(completed)
        return completed

    @contextlib.asynccontextmanager
    async def open(self, argv: Sequence[str]) -> AsyncIterator[Duplex]:  # noqa: D102
        with self._named():
            async with process.spawn(tuple(argv), cwd=Path.home(), feed=True) as child:
                assert child.stdin is not None  # noqa: S101 - spawn made the pipes
                assert child.stdout is not None  # noqa: S101
                yield Duplex(reader=child.stdout, writer=child.stdin)

    async def upload(self, source: Path, target: str) -> int:  # noqa: D102 - see Transport
        with self._named():
            await asyncio.to_thread(shutil.copyfile, source, Path.home() / target)
        return 0

    async def download(self, source: str, target: Path, limit: int) -> None:  # noqa: D102
        path = Path.home() / source
        with self._named():
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode):
                raise InfraError(f"{source} is no regular file, so it is not fetched")
            if state.st_size > limit:
                raise InfraError(too_large(source, state.st_size, limit))
            await asyncio.to_thread(shutil.copyfile, path, target)

    async def connect_unix(self, path: str) -> Duplex:  # noqa: D102
        with self._named():
            reader, writer = await asyncio.open_unix_connection(os.fspath(path))
            return Duplex(reader=reader, writer=writer)

    async def close(self) -> None:
        """Nothing to drop."""

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InfraError as error:
            error.host = error.host or self.name
            raise
        except OSError as error:
            raise InfraError(f"{self.name}: {error}", host=self.name) from error
