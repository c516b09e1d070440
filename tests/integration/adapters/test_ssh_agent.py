# SPDX-License-Identifier: GPL-2.0-or-later
"""Logging in with what a real ssh-agent holds, at a real sshd."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host import ssh as module
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.ssh import HostAwayError
from kwatch.errors import ConfigError
from tests.lab.process import Server
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.domain.lab.host import HostSpec


class Agent:
    """An ssh-agent of the test's own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def add(self, key: Path, *words: str) -> None:
        """Hand it a key, and the certificate beside it."""
        subprocess.run(["ssh-add", "-q", *words, str(key)], check=True,
                       env={**os.environ, "SSH_AUTH_SOCK": str(self.socket)})  # fmt: skip


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    socket = tmp_path / "agent.sock"
    server = await Server.start(["ssh-agent", "-D", "-a", str(socket)], log=tmp_path / "agent.log")
    await server.until(socket.exists)
    try:
        yield Agent(socket)
    finally:
        await server.stop()


def spec(server: SshHost, directory: Path, agent: Path | None) -> HostSpec:
    return dataclasses.replace(server.spec(directory), key_file=None, agent=agent)


async def hello(host: HostSpec) -> str:
    async with Host(host) as there:
        return (await there.account.run(["echo", "hello"], timeout=10)).text()


async def test_a_key_that_only_the_agent_has(sshd: SshHost, agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(HostAwayError, match=r"holds no key: run 'SSH_AUTH_SOCK=.* ssh-add KEY'"):
        await hello(spec(sshd, tmp_path, agent.socket))
    agent.add(sshd.client_key)
    sshd.client_key.unlink()
    there = spec(sshd, tmp_path / "there", agent.socket)
    assert await hello(there) == "hello"
    # Also for the connections that come when the first is full.
    async with Host(there) as host:
        for _ in range(2):
            assert (await host.account.run(["true"], timeout=10)).status == 0
            await host.close()


async def test_a_certificate_in_the_agent(sshd: SshHost, agent: Agent, tmp_path: Path) -> None:
    authority = tmp_path / "authority"
    for argv in (
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(authority)],
        ["ssh-keygen", "-q", "-s", str(authority), "-I", "lab", "-n", sshd.user, "-V", "+1h",
         str(sshd.client_key.with_suffix(".pub"))],
    ):  # fmt: skip
        subprocess.run(argv, check=True)
    line = authority.with_suffix(".pub").read_text()
    (sshd.directory / "authorized_keys").write_text(f"cert-authority {line}")
    agent.add(sshd.client_key, "-k")
    with pytest.raises(HostAwayError, match=r"a key that the agent at .* holds"):
        await hello(spec(sshd, tmp_path, agent.socket))
    agent.add(sshd.client_key)
    assert await hello(spec(sshd, tmp_path, agent.socket)) == "hello"


async def test_through_a_gateway_with_the_agent(
    sshd: SshHost, agent: Agent, tmp_path: Path
) -> None:
    async with SshHost(tmp_path / "gateway") as gateway:
        agent.add(sshd.client_key)
        agent.add(gateway.client_key)
        way = spec(gateway, tmp_path / "unused", agent.socket)
        there = dataclasses.replace(spec(sshd, tmp_path / "there", agent.socket), jump=way)
        assert await hello(there) == "hello"
        assert "Accepted publickey" in (gateway.directory / "sshd.log").read_text()


async def test_a_key_file_beside_the_agent(sshd: SshHost, agent: Agent, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    agent.add(sshd.client_key)
    there = dataclasses.replace(spec(sshd, tmp_path / "there", agent.socket), key_file=other)
    assert await hello(there) == "hello"


async def test_what_to_do_without_an_agent(sshd: SshHost, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set key_file .* or agent"):
        Host(spec(sshd, tmp_path, None))
    with pytest.raises(HostAwayError, match=r"agent at .*/none cannot be reached: No such file"):
        await hello(spec(sshd, tmp_path, tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(HostAwayError, match=r"cannot be reached: Connection refused\. Start it"):
        await hello(spec(sshd, tmp_path, tmp_path / "file"))


async def test_what_listens_and_is_no_agent(
    sshd: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGENT_TIMEOUT", 0.3)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\0\0\0\1?")
        await reader.read()
        writer.close()

    for serve, words in ((mute, r"does not answer: TimeoutError\. Start"), (nonsense, "refuses: ")):
        async with await asyncio.start_unix_server(serve, tmp_path / serve.__name__):
            with pytest.raises(HostAwayError, match=words) as failed:
                await hello(spec(sshd, tmp_path, tmp_path / serve.__name__))
            assert failed.value.host == "there"


async def test_an_agent_that_comes_back_is_used_again(
    sshd: SshHost, agent: Agent, tmp_path: Path
) -> None:
    away = agent.socket.with_name("elsewhere")
    agent.add(sshd.client_key)
    async with Host(spec(sshd, tmp_path / "there", away)) as host:
        with pytest.raises(HostAwayError, match="cannot be reached"):
            await host.account.run(["true"], timeout=10)
        away.symlink_to(agent.socket)
        assert (await host.account.run(["echo", "hello"], timeout=10)).text() == "hello"
