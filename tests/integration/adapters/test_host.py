# SPDX-License-Identifier: GPL-2.0-or-later
"""The same contract for a host that is this machine and for one behind a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from kwatch.adapters.host.account import WRITE
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.ssh import HostAwayError, HostKeyError
from kwatch.errors import ConfigError, InfraError
from tests.lab.process import call, gone
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.adapters.process import Completed


async def test_a_command_answers(host: Host) -> None:
    argv = ["sh", "-c", 'cat; printf %s "$0" >&2; exit 3', "a 'quoted' $word"]
    done = await host.account.run(argv, stdin=b"fed\n", timeout=10, check=False)
    assert (done.status, done.stdout, done.stderr) == (3, b"fed\n", b"a 'quoted' $word")
    with pytest.raises(InfraError, match="status 3") as failed:
        await host.account.run(["sh", "-c", "exit 3"], timeout=10)
    if host.name == "there":
        assert failed.value.host == "there"


async def test_a_command_is_fed_from_an_iterator(host: Host) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d\n" % number * 1000

    counted = await host.account.run(["wc", "-l"], stdin=pieces(), timeout=10)
    assert counted.text() == "100000"


async def test_a_command_that_takes_too_long_or_says_too_much_is_killed(host: Host) -> None:
    with pytest.raises(InfraError, match=r"did not end within 0\.5 s"):
        await host.account.run(["sleep", "33.33"], timeout=0.5)
    assert await gone("33.33", 2)
    with pytest.raises(InfraError, match="more than 1000 bytes"):
        await host.account.run(["sh", "-c", "yes"], timeout=5, limit=1000)


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
    await host.account.get(path, back, limit=20 << 20)
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest
    with pytest.raises(InfraError, match="more than the 1000 allowed"):
        await host.account.get(path, tmp_path / "not", limit=1000)
    assert not (tmp_path / "not").exists()


async def test_a_file_with_another_digest_is_refused(host: Host, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(b"changed meanwhile")
    with pytest.raises(InfraError, match="did not arrive"):
        await host.cache.put("0" * 64, source)
    assert not list(Path(await host.account.path("cache/sha256")).iterdir())


async def test_a_file_of_which_not_all_came_is_none(host: Host) -> None:
    # Who is killed in mid-speech ends it as one who is done.
    target = await host.account.path("whole")
    for size, data in ((6, b"short"), (4, b"short")):
        done = await host.account.run(
            ["sh", "-c", WRITE, target, "x", str(size)], stdin=data, timeout=10, check=False
        )
        assert (done.status, done.stderr) == (1, f"not all of {target} came\n".encode())
    with pytest.raises(InfraError, match="no regular file"):
        await host.account.read("whole", 100)
    listed = await host.account.run(["ls", await host.account.path(".")], timeout=10)
    assert b"whole" not in listed.stdout


async def test_small_files(host: Host, tmp_path: Path) -> None:
    await host.account.write("deep/below/file", b"\0\xffcontent")
    assert await host.account.read("deep/below/file", 100) == b"\0\xffcontent"
    path = await host.cache.put_bytes(b"bytes")
    assert path == await host.cache.put_bytes(b"bytes")
    assert Path(path).read_bytes() == b"bytes"
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(InfraError, match="no regular file"):
        await host.account.get(str(tmp_path / "link"), tmp_path / "fetched", limit=1 << 20)


async def test_unix_sockets(host: Host) -> None:
    await host.account.prepare()
    path = await host.account.path("run/s")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        duplex = await host.account.connect_unix(path)
        duplex.writer.write(b"hello\n")
        assert await duplex.reader.read(100) == b"HELLO\n"
        duplex.writer.close()


async def test_probe(host: Host) -> None:
    found = await host.account.probe()
    assert found["uid"] == os.getuid()
    assert found["tools"]["git"].endswith("/git")
    assert found["disk_free_bytes"] > 0


async def test_a_host_that_was_never_there(tmp_path: Path, sshd: SshHost) -> None:
    spec = sshd.spec(tmp_path / "there")
    await sshd.stop()
    async with Host(spec) as host:
        with pytest.raises(HostAwayError, match="cannot be reached") as failed:
            await host.account.prepare()
        assert failed.value.host == "there"
        with pytest.raises(HostAwayError, match="next attempt in"):
            await host.account.prepare()


async def test_only_the_pinned_host_key_is_accepted(sshd: SshHost, tmp_path: Path) -> None:
    spec = sshd.spec(tmp_path / "there")
    await call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")])
    kind, other, *_ = (tmp_path / "other.pub").read_text().split()
    wrong = f"[{sshd.host}]:{sshd.port} {kind} {other}"
    of_another_host = sshd.host_key_line.replace(sshd.host, "192.0.2.1")
    for lines in (wrong, f"{kind} {other}", of_another_host):
        async with Host(dataclasses.replace(spec, known_hosts=lines)) as host:
            with pytest.raises(HostKeyError, match="ssh-keyscan") as failed:
                await host.account.prepare()
            assert failed.value.host == "there"
            assert "there" in str(failed.value)
    with pytest.raises(ConfigError, match="no host key is pinned"):
        Host(dataclasses.replace(spec, known_hosts="# none\n"))
    bare = sshd.host_key_line.split(maxsplit=1)[1]
    async with Host(dataclasses.replace(spec, known_hosts=bare)) as host:
        assert await host.account.prepare() == str(tmp_path / "there")


async def test_our_own_key_must_be_readable_and_accepted(sshd: SshHost, tmp_path: Path) -> None:
    spec = sshd.spec(tmp_path / "there")
    with pytest.raises(ConfigError, match="cannot be used"):
        Host(dataclasses.replace(spec, key_file=tmp_path / "missing"))
    await call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")])
    async with Host(dataclasses.replace(spec, key_file=tmp_path / "other")) as host:
        with pytest.raises(InfraError, match="authorized_keys"):
            await host.account.prepare()


async def test_a_host_behind_another_is_reached_through_it(sshd: SshHost, tmp_path: Path) -> None:
    async with SshHost(tmp_path / "gateway") as gateway:
        way = gateway.spec(tmp_path / "unused")
        spec = dataclasses.replace(sshd.spec(tmp_path / "there"), jump=way)
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
                await host.account.run(["true"], timeout=5)


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
    async with Host(sshd.spec(tmp_path / "there")) as host:
        assert (await host.account.run(["echo", "hello"], timeout=5)).text() == "hello"
    # The key alone is not let in.
    sshd.client_key.with_name("client_key-cert.pub").unlink()
    async with Host(sshd.spec(tmp_path / "there")) as host:
        with pytest.raises(InfraError, match="the login was refused"):
            await host.account.run(["true"], timeout=5)


async def test_many_channels_at_a_time(there: Host) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(there.account.run(["sleep", f"0.{number}"], timeout=20))


async def test_a_command_does_not_outlive_its_timeout_without_us(there: Host) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await there.account.run(["sleep", "52.01"], timeout=1)
    assert await gone("52.01", 3)


async def test_a_cancellation_that_comes_with_the_connection_is_not_lost(
    sshd: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = asyncssh.connection._connect
    begun: list[asyncio.Task[Completed]] = []

    async def connected(*words: Any) -> object:  # noqa: ANN401 - what there is
        connection = await connect(*words)
        begun[0].cancel()
        return connection

    monkeypatch.setattr("asyncssh.connection._connect", connected)
    async with Host(sshd.spec(tmp_path / "host")) as there:
        begun.append(asyncio.ensure_future(there.account.run(["sleep", "30"], timeout=60)))
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await begun[0]
