# SPDX-License-Identifier: GPL-2.0-or-later
"""The one door through which this machine runs programs.

Argument vectors only, never a shell. A child leads its own process group and dies with the
daemon; on a timeout or a cancelled task the whole group is killed, and nobody is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.errors import DiskFullError, InfraError, is_disk_full, ungrouped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

MIB = 1 << 20
TAIL_LINES = 20

# util-linux's setpriv asks the kernel to kill the child when the daemon dies, even by SIGKILL.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A program that ran to its end. ``status`` is the exit status, or minus the signal."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    took: float

    def text(self) -> str:
        """Standard output as text, without the last line end."""
        return self.stdout.decode("utf-8", "replace").removesuffix("\n")


class ProcessFailedError(InfraError):
    """A program ended otherwise than asked; the text holds command, status and tail."""

    def __init__(self, completed: Completed, *, host: str | None = None) -> None:
        self.completed = completed
        super().__init__(
            f"{where(host)}{command_line(completed.argv)} "
            f"ended with status {completed.status}:\n{tail(completed)}",
            host=host,
        )


def where(host: str | None) -> str:
    """The prefix of a message that names the host, if it is not this machine."""
    return f"{host}: " if host else ""


def command_line(argv: Sequence[str]) -> str:
    """The command as a person would paste it, cut at 400 characters."""
    line = shlex.join(argv)
    return line if len(line) <= 400 else line[:397] + "..."


def tail(completed: Completed) -> str:
    """The last lines of standard error, or of standard output where that is empty."""
    output = completed.stderr.strip() or completed.stdout.strip() or b"(no output)"
    lines = output.decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
    return "\n".join(line[:400] for line in lines)


def failure(completed: Completed, *, host: str | None = None) -> InfraError:
    """The exception for a failed program: a full disk is told from everything else."""
    if is_disk_full(completed.stderr):
        return DiskFullError(
            f"{where(host)}no room left on the disk while running "
            f"{command_line(completed.argv)}: make room, the work goes on by itself",
            host=host,
        )
    return ProcessFailedError(completed, host=host)


async def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float,
    limit: int = 64 * MIB,
    check: bool = True,
) -> Completed:
    """Run ``argv`` to its end and return what it said.

    ``env`` replaces the whole environment. Output over ``limit`` bytes a stream and a program that
    outlives ``timeout`` seconds raise InfraError; so does an exit status other than 0 where
    ``check`` is set. A program that is missing ends with status 127, as in a shell.
    """
    words = tuple(str(word) for word in argv)
    started = time.monotonic()
    async with spawn(words, cwd=cwd, env=env, feed=stdin is not None) as process:
        try:
            async with asyncio.timeout(timeout):
                out, err = await _converse(process, stdin, limit, words)
        except TimeoutError:
            raise InfraError(
                f"{command_line(words)} did not end within {timeout:g} s and was killed"
            ) from None
    completed = Completed(
        argv=words,
        status=process.returncode if process.returncode is not None else -1,
        stdout=out,
        stderr=err,
        took=time.monotonic() - started,
    )
    if check and completed.status != 0:
        raise failure(completed)
    return completed


@contextlib.asynccontextmanager
async def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    feed: bool = False,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start ``argv`` with pipes and give its process; on leaving, its whole group is gone."""
    try:
        process = await asyncio.create_subprocess_exec(
            *DIES_WITH_US,
            *argv,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.PIPE if feed else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MIB,
            start_new_session=True,
        )
    except OSError as error:
        raise InfraError(f"{command_line(argv)} cannot be started: {error}") from error
    try:
        yield process
    finally:
        # Even after the leader ended, others of its group may live on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _hang_up(process)
        await asyncio.shield(process.wait())
        if process.stdin is not None:
            # Python 3.11.2 complains of a broken pipe that nobody asked about.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await asyncio.shield(process.stdin.wait_closed())
        # A pipe left open would warn when it is collected; closing it is all that is left.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001


def _hang_up(process: asyncio.subprocess.Process) -> None:
    """Let go of the pipes: wait() is for them as well, and what left the group may keep them."""
    transport = process._transport  # type: ignore[attr-defined]  # noqa: SLF001
    for number in range(3):
        pipe = transport.get_pipe_transport(number)
        if not isinstance(pipe, asyncio.WriteTransport):
            if pipe is not None:
                pipe.close()
        elif not pipe.is_closing() or pipe.get_write_buffer_size():
            pipe.abort()


async def _converse(
    process: asyncio.subprocess.Process, stdin: bytes | None, limit: int, argv: Sequence[str]
) -> tuple[bytes, bytes]:
    assert process.stdout is not None  # noqa: S101 - spawn always makes the pipes
    assert process.stderr is not None  # noqa: S101
    with ungrouped():
        async with asyncio.TaskGroup() as group:
            if stdin is not None:
                group.create_task(_feed(process, stdin))
            out = group.create_task(_read(process.stdout, limit, argv))
            err = group.create_task(_read(process.stderr, limit, argv))
            group.create_task(process.wait())
    return out.result(), err.result()


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _read(stream: asyncio.StreamReader, limit: int, argv: Sequence[str]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(MIB):
        size += len(chunk)
        if size > limit:
            raise InfraError(f"{command_line(argv)} wrote more than {limit} bytes and was killed")
        chunks.append(chunk)
    return b"".join(chunks)
