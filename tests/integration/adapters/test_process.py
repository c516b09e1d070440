# SPDX-License-Identifier: GPL-2.0-or-later
"""The door through which programs run, with real programs: nobody is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kwatch.adapters import process
from kwatch.adapters.process import Completed, ProcessFailedError, command_line, failure, tail
from kwatch.errors import DiskFullError, InfraError

ROOT = Path(__file__).parents[3]
TIMEOUT = 20.0


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaps does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


async def written(path: Path) -> int:
    """The process id that somebody writes into ``path``."""
    async with asyncio.timeout(TIMEOUT):
        while not (path.exists() and path.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    return int(path.read_text())


def with_child(file: Path) -> list[str]:
    """A shell that waits for a child of its own, whose id is written to ``file``."""
    return ["sh", "-c", 'sleep 600 & echo $! >"$0.part"; mv "$0.part" "$0"; wait', str(file)]


async def test_what_a_program_says_and_how_it_ends() -> None:
    done = await process.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=TIMEOUT,
                             check=False)  # fmt: skip
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert done.text() == "out"
    assert 0 < done.took < TIMEOUT
    killed = await process.run(["sh", "-c", "kill -9 $$"], timeout=TIMEOUT, check=False)
    assert killed.status == -signal.SIGKILL


async def test_a_failure_carries_its_evidence() -> None:
    with pytest.raises(ProcessFailedError) as caught:
        await process.run(["sh", "-c", "seq 100 >&2; exit 7", "a b"], timeout=TIMEOUT)
    text = str(caught.value)
    assert text.startswith("sh -c 'seq 100 >&2; exit 7' 'a b' ended with status 7:\n")
    assert text.splitlines()[1:] == [str(number) for number in range(81, 101)]
    assert caught.value.completed.status == 7


async def test_a_program_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="no-such-program"):
        await process.run(["no-such-program"], timeout=TIMEOUT)
    # As in a shell; who passes check=False looks at the status.
    missing = await process.run(["no-such-program"], timeout=TIMEOUT, check=False)
    assert missing.status == 127
    with pytest.raises(InfraError, match=r"cannot be started: .*No such file"):
        await process.run(["true"], cwd=tmp_path / "nowhere", timeout=TIMEOUT)


async def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    words = ["$(id)", "; touch x", "a\nb", "--", "*"]
    done = await process.run(["printf", "%s\\0", *words], cwd=tmp_path, timeout=TIMEOUT)
    assert done.stdout.decode().split("\0")[:-1] == words
    assert list(tmp_path.iterdir()) == []


async def test_the_environment_is_the_one_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    path = os.environ["PATH"]
    done = await process.run(["env"], env={"PATH": path, "A": "b"}, timeout=TIMEOUT)
    assert sorted(done.text().splitlines()) == ["A=b", f"PATH={path}"]
    assert "SECRET" in (await process.run(["env"], timeout=TIMEOUT)).text()


async def test_standard_input() -> None:
    data = os.urandom(3 * process.MIB)
    done = await process.run(["cat"], stdin=data, timeout=TIMEOUT)
    assert done.stdout == data
    assert (await process.run(["cat"], timeout=TIMEOUT)).stdout == b""
    # Somebody who reads no more than the first line is no failure.
    done = await process.run(["head", "-c", "1"], stdin=data, timeout=TIMEOUT)
    assert done.stdout == data[:1]


@pytest.mark.parametrize("stream", ["1", "2"])
async def test_output_is_bounded(stream: str) -> None:
    script = f"head -c 200000 /dev/zero >&{stream}; sleep 600"
    argv = ["sh", "-c", script]
    begin = time.monotonic()
    with pytest.raises(InfraError, match="wrote more than 100000 bytes and was killed"):
        await process.run(argv, timeout=TIMEOUT, limit=100_000)
    assert time.monotonic() - begin < TIMEOUT / 2
    whole = await process.run(["head", "-c", "100000", "/dev/zero"], timeout=TIMEOUT, limit=100_000)
    assert len(whole.stdout) == 100_000


async def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pytest.raises(InfraError, match=r"did not end within 0\.5 s and was killed"):
        await process.run(with_child(file), timeout=0.5)
    assert gone(int(file.read_text()))


async def test_what_a_program_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    script = 'sleep 600 >/dev/null 2>&1 </dev/null & echo $! >"$0"'
    await process.run(["sh", "-c", script, str(tmp_path / "pid")], timeout=TIMEOUT)
    assert gone(int((tmp_path / "pid").read_text()))


async def test_a_session_of_its_own_cannot_hold_us_up(tmp_path: Path) -> None:
    """What left the group keeps the pipes open, so the wait must not be for them."""
    script = 'setsid sh -c \'echo $$ >"$0"; exec sleep 600\' "$0" & sleep 600'
    begin = time.monotonic()
    try:
        with pytest.raises(InfraError, match="did not end within 1 s"):
            async with asyncio.timeout(TIMEOUT):
                await process.run(["sh", "-c", script, str(tmp_path / "pid")], timeout=1)
        assert time.monotonic() - begin < TIMEOUT / 2
    finally:
        with contextlib.suppress(OSError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_a_cancelled_task_ends_the_whole_group(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    task = asyncio.ensure_future(process.run(with_child(file), timeout=TIMEOUT))
    child = await written(file)
    assert is_alive(child)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(child)


async def test_a_conversation_that_is_left_ends_the_program() -> None:
    async with process.spawn(["cat"], feed=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"hello\n")
        assert await child.stdout.readline() == b"hello\n"
        assert is_alive(child.pid)
    assert child.returncode == -signal.SIGKILL


DAEMON = """
import asyncio, sys
from kwatch.adapters import process

asyncio.run(process.run(
    ["sh", "-c", 'echo $$ >"$0.part"; mv "$0.part" "$0"; exec sleep 600', sys.argv[1]],
    timeout=600,
))
"""


async def test_a_child_dies_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(tmp_path / "pid")], cwd=ROOT)
    try:
        child = await written(tmp_path / "pid")
        assert is_alive(child)
    finally:
        daemon.kill()
        daemon.wait(TIMEOUT)
    assert gone(child)


UNTIDY = """
import asyncio, contextlib, gc
from kwatch.adapters import process
from kwatch.errors import InfraError

async def main():
    await process.run(["true"], timeout=20)
    await process.run(["head", "-c", "1"], stdin=b"x" * 3_000_000, timeout=20)
    for argv, timeout in ((["no-such-program"], 20), (["sleep", "600"], 0.2), (["yes"], 20)):
        with contextlib.suppress(InfraError):
            await process.run(argv, timeout=timeout, limit=100_000)
    task = asyncio.ensure_future(process.run(["sleep", "600"], stdin=b"x" * 3_000_000, timeout=20))
    await asyncio.sleep(0.3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

asyncio.run(main())
gc.collect()
"""


def test_nothing_is_left_open() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", UNTIDY],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def completed(stdout: bytes = b"", stderr: bytes = b"") -> Completed:
    return Completed(argv=("tool",), status=1, stdout=stdout, stderr=stderr, took=0.0)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (completed(b"out\n", b"err\n"), "err"),
        (completed(b"out\n", b" \n"), "out"),
        (completed(), "(no output)"),
        (completed(stderr=b"x" * 10_000), "x" * 400),
        (completed(stderr=b"caf\xe9"), "caf\ufffd"),
    ],
)
def test_the_tail(said: Completed, shown: str) -> None:
    assert tail(said) == shown


def test_a_full_disk_is_told_from_a_failure() -> None:
    full = failure(completed(stderr=b"fatal: write error: No space left on device\n"), host="lab-1")
    assert isinstance(full, DiskFullError)
    assert str(full).startswith("lab-1: no room left on the disk while running tool")
    other = failure(completed(stderr=b"broken"), host="lab-1")
    assert not isinstance(other, DiskFullError)
    assert (str(other), other.host) == ("lab-1: tool ended with status 1:\nbroken", "lab-1")


def test_a_command_line_can_be_pasted_and_is_short() -> None:
    assert command_line(["a b", "$c"]) == "'a b' '$c'"
    assert len(command_line(["x" * 1000])) == 400


async def test_many_at_a_time_leave_no_zombies() -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(process.run(["echo", str(number)], timeout=TIMEOUT))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert children == []
