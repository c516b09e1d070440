# SPDX-License-Identifier: GPL-2.0-or-later
"""The world around the daemon breaks: it says so, tries again, judges nobody, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lab.process import LOOPBACK
from tests.lab.smtpd import Fault
from tests.lab.toy.history import PLANTS
from tests.lab.toytree import (
    SLOW_BOOT,
    SLOW_BUILD,
    ToyTree,
    archived,
    left_behind,
    letters,
    nothing_left,
    outcomes,
    settle,
    toy_box,
    tune,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.lab.box import Box

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

HTML = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<html><title>Making sure you are not a bot!</title></html>"
)
RUBBISH = b"\x00\xff\xfe rubbish \x1b[31m \xc3\x28 0000\n" * 40


@contextlib.asynccontextmanager
async def speaking(port: int, answer: bytes) -> AsyncIterator[None]:
    """A server on ``port`` that answers everything with ``answer``."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                await reader.read(1024)
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, LOOPBACK, port)
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def silent(port: int) -> AsyncIterator[asyncio.Event]:
    """A server on ``port`` that hears everybody out and never answers; set once somebody came."""
    came = asyncio.Event()
    guests: list[asyncio.StreamWriter] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guests.append(writer)
        came.set()
        with contextlib.suppress(OSError):
            while await reader.read(1024):
                pass

    server = await asyncio.start_server(listen, LOOPBACK, port)
    try:
        yield came
    finally:
        server.close()
        for guest in guests:
            guest.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tree(tmp_path_factory: pytest.TempPathFactory, user: str) -> AsyncIterator[ToyTree]:
    """A running lab that has seen one good tag. Every test leaves the newest tag good."""
    async with toy_box(tmp_path_factory.mktemp("lab"), user) as box:
        grown = ToyTree.create(box)
        await box.post_series()
        first = grown.publish()
        await box.start()
        await settle(box, first)
        yield grown
        assert await box.stop() == 0
        await nothing_left(box, user)


async def _is_told(box: Box, source: str, *words: str) -> None:
    """Wait until /readyz and ``kwatch status`` tell of a source in trouble, in these words."""
    async with asyncio.timeout(30):
        while True:
            status, body = await box.get("/readyz")
            if status == 503 and all(word in body for word in (source, *words)):
                break
            await asyncio.sleep(0.2)
    _, output = await box.command("status")
    assert any(line.startswith(f"{source} ") for line in output.splitlines()), output
    assert source in (await box.get("/"))[1]
    assert (await box.get("/healthz"))[0] == 200


async def _is_ready(box: Box) -> None:
    async with asyncio.timeout(30):
        while (await box.get("/readyz"))[0] != 200:
            await asyncio.sleep(0.2)


async def _passes(tree: ToyTree) -> None:
    """A new good tag is tested, and everything that was ever tried says so."""
    await settle(tree.box, tree.publish())
    newest = tree.box.query("SELECT outcome FROM result ORDER BY id DESC LIMIT 1")
    assert newest == [{"outcome": "pass"}]
    assert "Traceback" not in tree.box.log()


async def test_the_git_server_is_away_or_talks_rubbish(tree: ToyTree) -> None:
    box = tree.box
    await box.gitd.stop()
    await _is_told(box, "tree:linux-next", "git ls-remote")
    async with speaking(box.gitd.port, RUBBISH):
        await _is_told(box, "tree:linux-next", "git ls-remote")
    await box.gitd.start()
    await _is_ready(box)
    await _passes(tree)


async def test_the_archive_is_away_or_answers_with_a_page(tree: ToyTree) -> None:
    box = tree.box
    await box.inbox.stop()
    await _is_told(box, "list:llvm-cov", "cannot be read")
    async with speaking(box.inbox.port, RUBBISH):
        await _is_told(box, "list:llvm-cov", "Bad")
    async with speaking(box.inbox.port, HTML):
        await _is_told(box, "list:llvm-cov", "a web page came")
    await box.inbox.start()
    # The page asked for patience; the operator has none.
    await box.command("look", "list:llvm-cov")
    await _is_ready(box)
    await _passes(tree)


async def test_a_silent_archive_holds_up_nothing_else(tree: ToyTree) -> None:
    box = tree.box
    await box.inbox.stop()
    async with silent(box.inbox.port) as came:
        async with asyncio.timeout(30):
            await came.wait()
        await _passes(tree)
    await box.inbox.start()
    await _is_ready(box)


async def test_a_silent_git_server_holds_up_no_stop(tree: ToyTree) -> None:
    box = tree.box
    await box.gitd.stop()
    async with silent(box.gitd.port) as came:
        async with asyncio.timeout(30):
            await came.wait()
        assert (await box.get("/healthz"))[0] == 200
        started = time.monotonic()
        assert await box.stop() == 0
        assert time.monotonic() - started < 10
    await box.gitd.start()
    await box.start()
    await _passes(tree)


@pytest.mark.parametrize(
    ("edits", "program"),
    [(SLOW_BUILD, "make"), (SLOW_BOOT, "qemu-system")],
    ids=["build", "boot"],
)  # fmt: skip
async def test_the_host_is_away_in_the_middle(
    tree: ToyTree, edits: dict[str, tuple[str, str]], program: str, user: str
) -> None:
    box = tree.box
    before = len(outcomes(box))
    tree.commit(edits)
    tag = tree.publish()
    await box.until(
        lambda: any(program in line for line in left_behind(user)),
        timeout=60, what=f"running {program}", pause=0.02,
    )  # fmt: skip
    await box.sshd.stop()
    await asyncio.sleep(4)
    assert box.is_running
    assert (await box.get("/healthz"))[0] == 200
    assert len(outcomes(box)) == before
    await box.sshd.start()
    await settle(box, tag, timeout=150)
    (commit,) = box.query("SELECT commit_id FROM revision WHERE tag = ?", tag)
    assert outcomes(box)[commit["commit_id"], False, 0, 0][0] == "pass"
    assert "infra" not in {seen[0] for seen in outcomes(box).values()}
    # The next test's tag is without it.
    tree.revert(edits)


async def test_a_host_that_is_away_for_longer_is_shown(tree: ToyTree) -> None:
    box = tree.box
    await box.sshd.stop()
    tag = tree.publish()
    async with asyncio.timeout(40):
        while "unreachable" not in (await box.command("hosts"))[1]:
            await asyncio.sleep(0.5)
    status, output = await box.command("hosts", "check")
    assert status == 1
    assert "cannot be reached" in output
    assert "infra" not in {seen[0] for seen in outcomes(box).values()}
    await box.sshd.start()
    await settle(box, tag, timeout=90)
    async with asyncio.timeout(40):
        while not re.search("^kvm1 +ok ", (await box.command("hosts"))[1], re.MULTILINE):
            await asyncio.sleep(0.5)
    assert "infra" not in {seen[0] for seen in outcomes(box).values()}


async def test_a_host_that_is_drained_gets_no_work_until_it_is_resumed(tree: ToyTree) -> None:
    box = tree.box
    assert await box.command("hosts", "drain", "kvm1") == (0, "kvm1 gets no more work\n")
    _, output = await box.command("hosts")
    assert re.search("^kvm1 +drained .*taken out by uid", output, re.MULTILINE)
    before = len(outcomes(box))
    tag = tree.publish()
    assert await box.stop() == 0
    await box.start()
    # The restart has not forgotten it.
    await asyncio.sleep(5)
    assert re.search("^kvm1 +drained ", (await box.command("hosts"))[1], re.MULTILINE)
    assert len(outcomes(box)) == before
    assert await box.command("hosts", "resume", "kvm1") == (0, "kvm1 will be checked\n")
    await settle(box, tag, timeout=150)
    assert "infra" not in {seen[0] for seen in outcomes(box).values()}
    status, output = await box.command("hosts", "resume", "kvm9")
    assert (status, output) == (1, "no host is called 'kvm9'; hosts: kvm1\n")


# --- mail -----------------------------------------------------------------------------------------


def _send_jobs(box: Box) -> list[tuple[int, str]]:
    """Failures and last error of the mails that are still to go."""
    rows = box.query(
        "SELECT failures, error, run_after FROM job WHERE kind = 'send' AND state = 'queued'"
    )
    return [(row["failures"], row["error"]) for row in rows if row["run_after"] > time.time()]


async def _is_put_off(box: Box, failures: int, *words: str) -> None:
    """Wait until a mail failed that often and waits for its next try, and the lab says so."""

    def seen() -> bool:
        return any(
            count >= failures and all(word in error for word in words)
            for count, error in _send_jobs(box)
        )

    await box.until(seen, timeout=60, what=f"failure {failures} with {words}")
    status, output = await box.command("status")
    assert status == 0
    assert any("send" in line and words[0] in line for line in output.splitlines()), output
    assert (await box.get("/healthz"))[0] == 200


async def test_the_mail_server_misbehaves_in_every_way(tree: ToyTree) -> None:
    box, smtpd = tree.box, tree.box.smtpd
    told, in_archive = len({str(mail["Message-ID"]) for mail in letters(box)}), len(archived(box))
    await smtpd.set_fault(Fault.REFUSE_CONNECT)
    tree.commit(PLANTS["panic"])
    bad = tree.publish()
    await _is_put_off(box, 1, "the session broke")
    assert len(archived(box)) == in_archive
    # The server takes the mail, and the answer is lost: it is sent again, and is the same mail.
    await smtpd.set_fault(Fault.CLOSE_AFTER_DATA)
    await box.until(lambda: len(archived(box)) > in_archive, timeout=60, what="mail")
    await box.until(lambda: bool(_send_jobs(box)), timeout=10, what="second try")
    await smtpd.set_fault(Fault.NONE)
    await settle(box, bad, timeout=120)

    await smtpd.set_fault(Fault.TEMPORARY)
    tree.revert(PLANTS["panic"])
    good = tree.publish()
    await _is_put_off(box, 1, "451")
    await smtpd.set_fault(Fault.GARBAGE)
    await _is_put_off(box, 2, "mail server")
    # Nobody is at the address of one of them: the others get it, and it is said.
    await smtpd.set_fault(Fault.PERMANENT_RECIPIENT, refused=frozenset({"operator@example.org"}))
    await settle(box, good)
    await smtpd.set_fault(Fault.NONE)
    refused = box.query("SELECT * FROM recipient WHERE state = 'refused'")
    assert [row["address"] for row in refused] == ["operator@example.org"]
    assert "550" in refused[0]["answer"]

    events = [str(mail["X-Kwatch-Event"]) for mail in archived(box)[in_archive:]]
    assert events == ["new", "bisected", "fixed"]
    ids = [str(mail["Message-ID"]) for mail in letters(box)]
    assert len(set(ids)) == told + 3
    assert len(ids) > len(set(ids)), "no mail was ever sent twice: the fault was not hit"
    assert {row["state"] for row in box.query("SELECT state FROM mail")} == {"sent"}
    assert "infra" not in {seen[0] for seen in outcomes(box).values()}


# --- a full disk ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _small_disk(directory: Path, megabytes: int) -> Iterator[None]:
    directory.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "kwatch-lab", str(directory)],
        check=True,
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _fill(ballast: Path) -> None:
    """Take all room that is left."""
    with ballast.open("ab", buffering=0) as out, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    out.write(os.urandom(size))


async def test_a_full_disk_is_waited_for(tmp_path: Path, user: str) -> None:
    disk = tmp_path / "disk"
    with _small_disk(disk, 48):
        async with toy_box(tmp_path / "lab", user) as box:
            tune(box, {f'state_directory = "{box.state}"': f'state_directory = "{disk}/state"'})
            box.state = disk / "state"
            tree = ToyTree.create(box)
            await box.post_series()
            first = tree.publish()
            await box.start()
            await settle(box, first)

            _fill(disk / "ballast")
            tree.commit(PLANTS["panic"])
            bad = tree.publish()
            await box.until(lambda: _has_no_room(box), timeout=60, what="word of the full disk")
            await asyncio.sleep(5)
            _fill(disk / "ballast")
            await asyncio.sleep(5)
            assert box.is_running
            assert "Traceback" not in box.log()
            assert len(box.log().splitlines()) < 300, "the log itself would fill a disk"
            (disk / "ballast").unlink()

            await settle(box, bad, timeout=150)
            events = [str(mail["X-Kwatch-Event"]) for mail in archived(box)]
            assert events == ["new", "bisected"]
            assert "infra" not in {seen[0] for seen in outcomes(box).values()}
            assert box.query("SELECT 1 FROM job WHERE state = 'dead'") == []
            assert box.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
            assert await box.stop() == 0


def _has_no_room(box: Box) -> bool:
    return "no room left" in box.log() or "No space left" in box.log()
