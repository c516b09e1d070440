# SPDX-License-Identifier: GPL-2.0-or-later
"""The same contract for a host that is this machine and for one behind a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host import WRITE, Host
from kwatch.adapters.runs import OnCancel, RunLostError
from kwatch.adapters.ssh import HostAwayError, HostKeyError
from kwatch.domain.host import HostSpec, Slot
from kwatch.domain.run import Alive, Ended, Output, RunEnd, RunReason, RunSpec
from kwatch.errors import ConfigError, InfraError
from tests.lab.process import call
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOCAL = HostSpec(
    name="here",
    directory="",
    arch=platform.machine(),
    slots={Slot.BUILD: 1, Slot.BOOT: 1},
)


@pytest.fixture
async def sshd(tmp_path: Path) -> AsyncIterator[SshHost]:
    async with SshHost(tmp_path / "sshd") as server:
        yield server


def ssh_spec(server: SshHost, directory: Path) -> HostSpec:
    return dataclasses.replace(
        LOCAL,
        name="there",
        directory=str(directory),
        address=server.host,
        port=server.port,
        user=server.user,
        key_file=server.client_key,
        known_hosts=server.host_key_line,
    )


@pytest.fixture
async def there(sshd: SshHost, tmp_path: Path) -> AsyncIterator[Host]:
    async with Host(ssh_spec(sshd, tmp_path / "there")) as host:
        yield host
        await host.runs.reap(())


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "local":
            spec = dataclasses.replace(LOCAL, directory=str(tmp_path / "here"))
        else:
            server = await stack.enter_async_context(SshHost(tmp_path / "sshd"))
            spec = ssh_spec(server, tmp_path / "there")
        found = await stack.enter_async_context(Host(spec))
        yield found
        await found.runs.reap(())


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


def running(mark: str) -> list[int]:
    """Living processes with ``mark`` as an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


async def gone(mark: str, within: float) -> bool:
    end = time.monotonic() + within
    while running(mark) and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return not running(mark)


async def there_is(mark: str) -> None:
    async with asyncio.timeout(5):
        while not running(mark):
            await asyncio.sleep(0.02)


async def test_a_command_answers(host: Host) -> None:
    done = await host.run(["sh", "-c", 'cat; printf %s "$0" >&2; exit 3', "a 'quoted' $word"],
                          stdin=b"fed\n", timeout=10, check=False)  # fmt: skip
    assert (done.status, done.stdout, done.stderr) == (3, b"fed\n", b"a 'quoted' $word")
    with pytest.raises(InfraError, match="status 3") as failed:
        await host.run(["sh", "-c", "exit 3"], timeout=10)
    if host.name == "there":
        assert failed.value.host == "there"


async def test_a_command_is_fed_from_an_iterator(host: Host) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d\n" % number * 1000

    counted = await host.run(["wc", "-l"], stdin=pieces(), timeout=10)
    assert counted.text() == "100000"


async def test_a_command_that_takes_too_long_or_says_too_much_is_killed(host: Host) -> None:
    with pytest.raises(InfraError, match=r"did not end within 0\.5 s"):
        await host.run(["sleep", "33.33"], timeout=0.5)
    assert await gone("33.33", 2)
    with pytest.raises(InfraError, match="more than 1000 bytes"):
        await host.run(["sh", "-c", "yes"], timeout=5, limit=1000)


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
    shutil.rmtree(await host.prepare())
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


async def test_files_go_and_come_back_unchanged(host: Host, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(os.urandom(20 << 20))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert await host.cache.find(digest) is None
    path = await host.cache.put(digest, source)
    assert await host.cache.find(digest) == path
    source.unlink()
    assert await host.cache.put(digest, source) == path
    back = tmp_path / "back"
    await host.get(path, back, limit=20 << 20)
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest
    with pytest.raises(InfraError, match="more than the 1000 allowed"):
        await host.get(path, tmp_path / "not", limit=1000)
    assert not (tmp_path / "not").exists()


async def test_a_file_with_another_digest_is_refused(host: Host, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(b"changed meanwhile")
    with pytest.raises(InfraError, match="did not arrive"):
        await host.cache.put("0" * 64, source)
    assert not list(Path(await host.path("cache/sha256")).iterdir())


async def test_a_file_of_which_not_all_came_is_none(host: Host) -> None:
    # Who is killed in mid-speech ends it as one who is done.
    target = await host.path("whole")
    for size, data in ((6, b"short"), (4, b"short")):
        done = await host.run(
            ["sh", "-c", WRITE, target, "x", str(size)], stdin=data, timeout=10, check=False
        )
        assert (done.status, done.stderr) == (1, f"not all of {target} came\n".encode())
    with pytest.raises(InfraError, match="no regular file"):
        await host.read("whole", 100)
    listed = await host.run(["ls", await host.path(".")], timeout=10)
    assert b"whole" not in listed.stdout


async def test_small_files(host: Host, tmp_path: Path) -> None:
    await host.write("deep/below/file", b"\0\xffcontent")
    assert await host.read("deep/below/file", 100) == b"\0\xffcontent"
    path = await host.cache.put_bytes(b"bytes")
    assert path == await host.cache.put_bytes(b"bytes")
    assert Path(path).read_bytes() == b"bytes"
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(InfraError, match="no regular file"):
        await host.get(str(tmp_path / "link"), tmp_path / "fetched", limit=1 << 20)


async def test_unix_sockets(host: Host) -> None:
    await host.prepare()
    path = await host.path("run/s")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        duplex = await host.connect_unix(path)
        duplex.writer.write(b"hello\n")
        assert await duplex.reader.read(100) == b"HELLO\n"
        duplex.writer.close()


async def test_probe(host: Host) -> None:
    found = await host.probe()
    assert found["uid"] == os.getuid()
    assert found["tools"]["git"].endswith("/git")
    assert found["disk_free_bytes"] > 0


async def test_a_cancelled_wait_stops_or_leaves_the_run(host: Host) -> None:
    async def drop(_: Output) -> None:
        pass

    for on_cancel, mark, left in ((OnCancel.LEAVE, "49.01", 1), (OnCancel.STOP, "49.02", 0)):
        run_id = on_cancel.name.lower()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                waiting = group.create_task(
                    host.runs.supervised(run_id, shell(f"sleep {mark}"), drop, on_cancel=on_cancel)
                )
                await there_is(mark)
                waiting.cancel()
        assert len(running(mark)) == left


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
    async with Host(ssh_spec(sshd, tmp_path / "there"), patience=3) as host:
        await host.runs.start("r", shell("sleep 51.01", lease=2))
        async with contextlib.aclosing(host.runs.attach("r", {"log": 0})) as frames:
            await anext(frames)
            await sshd.stop()
            with pytest.raises(InfraError, match="stayed away for 3 s") as failed:
                await anext(frames)
        assert failed.value.host == "there"
        with pytest.raises(HostAwayError):
            await host.run(["true"], timeout=5)
        # Nobody was attached: the run ended by itself.
        assert await gone("51.01", 2)
        await sshd.start()
        assert (await follow(host, "r"))[1].reason is RunReason.LEASE


async def test_a_host_that_was_never_there(tmp_path: Path, sshd: SshHost) -> None:
    spec = ssh_spec(sshd, tmp_path / "there")
    await sshd.stop()
    async with Host(spec) as host:
        with pytest.raises(HostAwayError, match="cannot be reached") as failed:
            await host.prepare()
        assert failed.value.host == "there"
        with pytest.raises(HostAwayError, match="next attempt in"):
            await host.prepare()


async def test_only_the_pinned_host_key_is_accepted(sshd: SshHost, tmp_path: Path) -> None:
    spec = ssh_spec(sshd, tmp_path / "there")
    await call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")])
    kind, other, *_ = (tmp_path / "other.pub").read_text().split()
    wrong = f"[{sshd.host}]:{sshd.port} {kind} {other}"
    of_another_host = sshd.host_key_line.replace(sshd.host, "192.0.2.1")
    for lines in (wrong, f"{kind} {other}", of_another_host):
        async with Host(dataclasses.replace(spec, known_hosts=lines)) as host:
            with pytest.raises(HostKeyError, match="ssh-keyscan") as failed:
                await host.prepare()
            assert failed.value.host == "there"
            assert "there" in str(failed.value)
    with pytest.raises(ConfigError, match="no host key is pinned"):
        Host(dataclasses.replace(spec, known_hosts="# none\n"))
    bare = sshd.host_key_line.split(maxsplit=1)[1]
    async with Host(dataclasses.replace(spec, known_hosts=bare)) as host:
        assert await host.prepare() == str(tmp_path / "there")


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


async def test_our_own_key_must_be_readable_and_accepted(sshd: SshHost, tmp_path: Path) -> None:
    spec = ssh_spec(sshd, tmp_path / "there")
    with pytest.raises(ConfigError, match="cannot be used"):
        Host(dataclasses.replace(spec, key_file=tmp_path / "missing"))
    await call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")])
    async with Host(dataclasses.replace(spec, key_file=tmp_path / "other")) as host:
        with pytest.raises(InfraError, match="authorized_keys"):
            await host.prepare()


async def test_a_host_behind_another_is_reached_through_it(sshd: SshHost, tmp_path: Path) -> None:
    async with SshHost(tmp_path / "gateway") as gateway:
        way = ssh_spec(gateway, tmp_path / "unused")
        spec = dataclasses.replace(ssh_spec(sshd, tmp_path / "there"), jump=way)
        (tmp_path / "file").write_bytes(b"some bytes" * 1000)
        async with Host(spec) as host:
            digest = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
            path = await host.cache.put(digest, tmp_path / "file")
            assert Path(path).read_bytes() == (tmp_path / "file").read_bytes()
        assert "Accepted publickey" in (gateway.directory / "sshd.log").read_text()
        assert not (tmp_path / "unused").exists()
        await gateway.stop()
        async with Host(spec) as host:
            with pytest.raises(InfraError, match="cannot be reached"):
                await host.run(["true"], timeout=5)


async def test_a_certificate_beside_the_key_is_shown(sshd: SshHost, tmp_path: Path) -> None:
    authority = tmp_path / "authority"
    for argv in (
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(authority)],
        ["ssh-keygen", "-q", "-s", str(authority), "-I", "lab", "-n", sshd.user, "-V", "+1h",
         str(sshd.client_key.with_suffix(".pub"))],
    ):  # fmt: skip
        subprocess.run(argv, check=True)
    line = authority.with_suffix(".pub").read_text()
    (sshd.directory / "authorized_keys").write_text(f"cert-authority {line}")
    async with Host(ssh_spec(sshd, tmp_path / "there")) as host:
        assert (await host.run(["echo", "hello"], timeout=5)).text() == "hello"
    # The key alone is not let in.
    sshd.client_key.with_name("client_key-cert.pub").unlink()
    async with Host(ssh_spec(sshd, tmp_path / "there")) as host:
        with pytest.raises(InfraError, match="the login was refused"):
            await host.run(["true"], timeout=5)


async def test_many_channels_at_a_time(there: Host) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(there.run(["sleep", f"0.{number}"], timeout=20))


async def test_a_command_does_not_outlive_its_timeout_without_us(there: Host) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await there.run(["sleep", "52.01"], timeout=1)
    assert await gone("52.01", 3)
