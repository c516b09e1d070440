# SPDX-License-Identifier: GPL-2.0-or-later
"""The services of the lab are what they claim to be."""

from __future__ import annotations

import asyncio
import os
import signal
import smtplib
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from tests.lab.gitd import GitServer
from tests.lab.inbox import Inbox
from tests.lab.process import listens
from tests.lab.smtpd import Fault, MailServer
from tests.lab.sshd import SshHost, ensure_user, remove_user

if TYPE_CHECKING:
    from collections.abc import Callable


def mail(number: int, recipient: str = "lkml@example.org") -> bytes:
    message = EmailMessage()
    message["From"] = "series author <author@example.org>"
    message["To"] = recipient
    message["Subject"] = f"mail {number}"
    message["Message-ID"] = f"<{number}@example.org>"
    message["Date"] = "Sat, 22 Nov 2025 10:00:00 +0000"
    message.set_content(f"body {number}\n")
    return message.as_bytes()


def send(server: MailServer, *recipients: str, number: int = 1) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP(server.host, server.port, timeout=10) as client:
        return client.sendmail("bot@example.org", recipients, mail(number))


async def test_inbox_archives_serves_and_survives(tmp_path: Path) -> None:
    when = datetime(2025, 11, 23, 4, 5, 6, tzinfo=UTC)
    async with Inbox(tmp_path / "lore", ["lkml", "llvm"]) as inbox:
        for number in range(3):
            await inbox.deliver("lkml", mail(number), received_at=when)
        await inbox.deliver("lkml", mail(1))
        held = inbox.messages("lkml")
        assert [b"body %d" % number in raw for number, raw in enumerate(held)] == [True] * 3
        assert inbox.messages("llvm") == []
        raw = await asyncio.to_thread(fetch, f"{inbox.url('lkml')}/1@example.org/raw")
        assert b"body 1" in raw
        await inbox.remove("lkml", held[0])
        assert inbox.messages("lkml") == held[1:]
        await inbox.roll_over("lkml")
        await inbox.deliver("lkml", mail(7))
        await inbox.purge("lkml", held[1])
        assert [b"body 2" in one or b"body 7" in one for one in inbox.messages("lkml")] == [
            True,
            True,
        ]
    assert not listens(inbox.port)
    async with Inbox(tmp_path / "lore", ["lkml"]) as again:
        assert len(again.messages("lkml")) == 2
    async with Inbox(tmp_path / "lore", ["lkml"], reset=True) as empty:
        assert empty.messages("lkml") == []


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        content: bytes = answer.read()
        return content


async def test_mail_server_keeps_and_feeds_the_list(tmp_path: Path) -> None:
    async with (
        Inbox(tmp_path / "lore", ["lkml"]) as inbox,
        MailServer(tmp_path / "mail", inbox=inbox) as server,
    ):
        for number in (1, 2):
            recipients = ("lkml@example.org", "maintainer@example.org")
            assert await asyncio.to_thread(send, server, *recipients, number=number) == {}
        first, second = server.accepted()
        assert first.sender == "bot@example.org"
        assert first.recipients == ("lkml@example.org", "maintainer@example.org")
        assert b"body 1" in first.content
        assert b"body 2" in second.content
        assert [b"body 1" in raw for raw in inbox.messages("lkml")] == [True, False]


async def test_mail_server_wants_the_password(tmp_path: Path) -> None:
    async with MailServer(tmp_path, user="bot", password="right") as server:

        def login(password: str) -> None:
            with smtplib.SMTP(server.host, server.port, timeout=10) as client:
                client.login("bot", password)
                client.sendmail("bot@example.org", ["a@example.org"], mail(1))

        with pytest.raises(smtplib.SMTPSenderRefused):
            await asyncio.to_thread(send, server, "a@example.org")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await asyncio.to_thread(login, "wrong")
        assert server.accepted() == []
        await asyncio.to_thread(login, "right")
        assert len(server.accepted()) == 1


@pytest.mark.parametrize(
    ("fault", "error", "kept"),
    [
        (Fault.REFUSE_CONNECT, ConnectionRefusedError, 0),
        (Fault.TEMPORARY, smtplib.SMTPSenderRefused, 0),
        (Fault.PERMANENT_RECIPIENT, smtplib.SMTPRecipientsRefused, 0),
        (Fault.GARBAGE, smtplib.SMTPException, 0),
        (Fault.CLOSE_AFTER_DATA, smtplib.SMTPServerDisconnected, 1),
    ],
)
async def test_mail_server_misbehaves(
    tmp_path: Path, fault: Fault, error: type[Exception], kept: int
) -> None:
    async with MailServer(tmp_path) as server:
        await server.set_fault(fault, refused=frozenset({"gone@example.org"}))
        with pytest.raises(error):
            await asyncio.to_thread(send, server, "gone@example.org")
        assert len(server.accepted()) == kept
        await server.set_fault(Fault.NONE)
        assert await asyncio.to_thread(send, server, "gone@example.org") == {}
        assert len(server.accepted()) == kept + 1


async def test_mail_server_refuses_one_of_two(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        gone = frozenset({"gone@example.org"})
        await server.set_fault(Fault.PERMANENT_RECIPIENT, refused=gone)
        refused = await asyncio.to_thread(send, server, "gone@example.org", "here@example.org")
        assert refused["gone@example.org"][0] == 550
        assert server.accepted()[0].recipients == ("here@example.org",)


async def test_mail_server_is_slow(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        await server.set_fault(Fault.SLOW, delay=0.2)
        started = time.monotonic()
        await asyncio.to_thread(send, server, "a@example.org")
        assert time.monotonic() - started >= 0.6


async def test_a_client_that_dies_does_not_cut_a_delivery_in_two(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "inbox", ["lkml"]) as inbox:
        async with MailServer(tmp_path / "smtp", inbox=inbox) as server:
            _, writer = await asyncio.open_connection(server.host, server.port)
            for words in (b"EHLO lab", b"MAIL FROM:<a@example.org>", b"RCPT TO:<lkml@example.org>",
                          b"DATA", mail(1) + b"\r\n."):  # fmt: skip
                writer.write(words + b"\r\n")
                await asyncio.sleep(0.05)
            while not server.accepted():
                await asyncio.sleep(0.01)
            writer.transport.abort()
            await asyncio.sleep(0.1)
        assert len(inbox.messages("lkml")) == 1


async def test_git_server_serves_and_goes_away(tmp_path: Path) -> None:
    repository = tmp_path / "trees" / "linux-next"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    subprocess.run(
        ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org",
         "commit", "-q", "--allow-empty", "-m", "first"],
        check=True,
    )  # fmt: skip
    async with GitServer(tmp_path / "trees") as server:
        listing = ["git", "ls-remote", server.url("linux-next"), "HEAD"]
        assert subprocess.run(listing, check=True, capture_output=True).stdout.endswith(b"HEAD\n")
        await server.stop()
        assert subprocess.run(listing, check=False, capture_output=True).returncode != 0
        await server.start()
        assert subprocess.run(listing, check=False, capture_output=True).returncode == 0


async def connect(host: SshHost) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        host.host,
        host.port,
        username=host.user,
        client_keys=[str(host.client_key)],
        known_hosts=asyncssh.import_known_hosts(host.host_key_line),
        config=None,
        agent_path=None,
    )


async def test_ssh_host_lets_in_and_goes_away(tmp_path: Path) -> None:
    async with SshHost(tmp_path) as host:
        async with await connect(host) as connection:
            done = await connection.run("id -un", check=True)
            assert done.stdout == f"{host.user}\n"
            pending = connection.run("sleep 30")
            await host.stop()
            with pytest.raises((asyncssh.Error, OSError)):
                await asyncio.wait_for(pending, 5)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await connect(host)
        await host.start()
        async with await connect(host) as connection:
            await connection.run("true", check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users")
async def test_ssh_host_has_a_user_of_its_own(tmp_path: Path) -> None:
    name = "kwlabtest"
    assert await ensure_user(name)
    try:
        assert not await ensure_user(name)
        async with SshHost(tmp_path, user=name) as host, await connect(host) as connection:
            done = await connection.run("id -un; setsid sleep 60 >/dev/null 2>&1 </dev/null &")
            assert done.stdout == f"{name}\n"
    finally:
        await remove_user(name)
    assert not Path("/home", name).exists()


def has_ended(process: int) -> bool:
    """Gone, or dead and waiting for a parent to look."""
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.05)


async def test_nothing_survives_a_killed_test(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from tests.lab.gitd import GitServer
from tests.lab.inbox import Inbox
from tests.lab.sshd import SshHost

async def main(folder: Path) -> None:
    async with (
        Inbox(folder / "lore", ["lkml"]) as inbox,
        GitServer(folder / "trees") as trees,
        SshHost(folder / "host") as host,
    ):
        servers = [one._server.process.pid for one in (inbox, trees, host)]
        print(*servers, flush=True)
        await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    servers = [int(word) for word in (await child.stdout.readline()).split()]
    assert len(servers) == 3
    child.send_signal(signal.SIGKILL)
    await child.communicate()
    await until(lambda: all(has_ended(server) for server in servers))


async def test_a_cancelled_test_leaves_nothing(tmp_path: Path) -> None:
    ports: list[int] = []

    async def serve() -> None:
        async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, GitServer(tmp_path / "t") as trees:
            ports.extend((inbox.port, trees.port))
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(serve(), 2.5)
    assert len(ports) == 2
    assert not any(listens(port) for port in ports)
