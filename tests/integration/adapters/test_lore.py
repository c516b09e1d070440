# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of archives against a real public-inbox, and against a proxy that misbehaves."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from kwatch.adapters.lore import MAX_MANIFEST, Batch, Cursor, Lore
from kwatch.domain.source.message import MAX_MAIL, Parsed, parse
from kwatch.errors import InfraError
from tests.lab.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

START = datetime(2025, 11, 1, tzinfo=UTC)
USER_AGENT = "kwatch/0.1+lab@example.org"


def mail(number: int, size: int = 0) -> bytes:
    return (
        f"From: author <author@example.org>\nTo: lkml@example.org\nSubject: mail {number}\n"
        f"Message-ID: <{number}@example.org>\nDate: Sat, 01 Nov 2025 00:00:00 +0000\n\n"
        f"body {number}\n{'x' * 70 * (size > 0)}\n"
    ).encode() + b"a line to make it large\n" * (size // 24)


async def deliver(inbox: Inbox, numbers: Iterable[int]) -> None:
    for number in numbers:
        when = START + timedelta(days=number)
        await inbox.deliver("lkml", mail(number), received_at=when)


@asynccontextmanager
async def reader(folder: Path) -> AsyncIterator[Lore]:
    async with aiohttp.ClientSession() as session:
        yield Lore(directory=folder / "state", user_agent=USER_AGENT, session=session)


def numbers(batch: Batch) -> list[int]:
    found = []
    for raw in batch.mails:
        read = parse(raw.raw, received_at=raw.received_at)
        assert isinstance(read, Parsed)
        number = int(read.mail.message_id.split("@")[0])
        assert raw.received_at == START + timedelta(days=number)
        found.append(number)
    return found


async def drain(lore: Lore, inbox: Inbox, cursor: Cursor | None, limit: int = 2) -> list[int]:
    found = []
    more = True
    while more:
        batch = await lore.poll(inbox.url("lkml"), cursor, since=START, limit=limit)
        found += numbers(batch)
        cursor, more = Cursor.from_json(batch.cursor.to_json()), batch.more
    return found


async def test_new_mails_come_once_and_in_order(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        url = inbox.url("lkml")
        nothing = await lore.poll(url, None, since=START)
        assert nothing.mails == ()
        await deliver(inbox, range(1, 4))
        first = await lore.poll(url, nothing.cursor, since=START)
        assert numbers(first) == [1, 2, 3]
        assert [raw.raw for raw in first.mails] == inbox.messages("lkml")
        assert not first.more
        again = await lore.poll(url, first.cursor, since=START)
        assert (again.mails, again.cursor) == ((), first.cursor)
        await deliver(inbox, [4])
        assert numbers(await lore.poll(url, first.cursor, since=START)) == [4]
        # A kill before the cursor was stored: the same mails once more, none lost.
        assert numbers(await lore.poll(url, first.cursor, since=START)) == [4]


async def test_a_backlog_comes_in_pieces_without_a_fetch(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        await deliver(inbox, range(1, 6))
        assert await drain(lore, inbox, None) == [1, 2, 3, 4, 5]
        url = inbox.url("lkml")
        piece = await lore.poll(url, None, since=START, limit=3)
        assert (numbers(piece), piece.more) == ([1, 2, 3], True)
        assert numbers(await lore.poll(url, piece.cursor, since=START, limit=3)) == [4, 5]


async def test_the_first_look_goes_back_so_far_only(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        await deliver(inbox, range(1, 9))
        url = inbox.url("lkml")
        batch = await lore.poll(url, None, since=START + timedelta(days=6))
        assert numbers(batch) == [6, 7, 8]
        (repository,) = (tmp_path / "state").rglob("0.git")
        assert (repository / "shallow").exists()
        await deliver(inbox, [9])
        assert numbers(await lore.poll(url, batch.cursor, since=START)) == [9]


@pytest.mark.parametrize("days", [4, 400])
async def test_a_dormant_list(tmp_path: Path, days: int) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        await deliver(inbox, range(1, 4))
        url = inbox.url("lkml")
        dormant = await lore.poll(url, None, since=START + timedelta(days=days))
        assert dormant.mails == ()
        await deliver(inbox, [401])
        assert numbers(await lore.poll(url, dormant.cursor, since=START)) == [401]


async def test_removed_and_purged_mails(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        url = inbox.url("lkml")
        await deliver(inbox, range(1, 6))
        held = inbox.messages("lkml")
        before = await lore.poll(url, None, since=START)
        await inbox.remove("lkml", held[4])
        removed = await lore.poll(url, before.cursor, since=START)
        assert removed.mails == ()
        await deliver(inbox, [6])
        assert numbers(await lore.poll(url, removed.cursor, since=START)) == [6]
        # Every commit after the purged one gets a new id, the one of the cursor too.
        await inbox.purge("lkml", held[1])
        await deliver(inbox, [7])
        rewritten = await lore.poll(url, before.cursor, since=START)
        assert numbers(rewritten) == [4, 5, 6, 7]
        assert await drain(lore, inbox, before.cursor, limit=1) == [4, 5, 6, 7]
        assert await drain(lore, inbox, None) == [1, 3, 4, 5, 6, 7]
        assert (await lore.poll(url, rewritten.cursor, since=START)).mails == ()


async def test_epochs_roll_over(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        url = inbox.url("lkml")
        await deliver(inbox, [1, 2])
        first = await lore.poll(url, None, since=START)
        await deliver(inbox, [3])
        await inbox.roll_over("lkml")
        empty = await lore.poll(url, first.cursor, since=START)
        assert numbers(empty) == [3]
        await deliver(inbox, [4, 5])
        await inbox.roll_over("lkml")
        await deliver(inbox, [8])
        both = await lore.poll(url, first.cursor, since=START)
        assert numbers(both) == [3, 4, 5, 8]
        assert [raw.epoch for raw in both.mails] == [0, 1, 1, 2]
        assert both.cursor.epoch == 2
        assert numbers(await lore.poll(url, empty.cursor, since=START)) == [4, 5, 8]
        assert await drain(lore, inbox, None) == [1, 2, 3, 4, 5, 8]
        # Only the epochs that can hold something new are looked at.
        shutil.rmtree(tmp_path / "state")
        late = await lore.poll(url, None, since=START + timedelta(days=7))
        assert numbers(late) == [8]
        assert [path.name for path in (tmp_path / "state").rglob("*.git")] == ["2.git"]


async def test_the_repository_can_be_lost(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        url = inbox.url("lkml")
        await deliver(inbox, range(1, 6))
        cursor = (await lore.poll(url, None, since=START)).cursor
        shutil.rmtree(tmp_path / "state")
        await deliver(inbox, [6])
        assert numbers(await lore.poll(url, cursor, since=START)) == [6]


async def test_a_huge_mail_is_told_and_not_read(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        await inbox.deliver("lkml", mail(1, MAX_MAIL + 1000), received_at=START)
        await deliver(inbox, [2])
        batch = await lore.poll(inbox.url("lkml"), None, since=START)
        assert numbers(batch) == [2]
        (told,) = batch.too_large
        assert told.size > MAX_MAIL


# --- a proxy with faults ------------------------------------------------------------------------


@asynccontextmanager
async def served(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/lkml/manifest.js.gz", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/lkml"
    finally:
        await runner.cleanup()


def packed(manifest: object) -> bytes:
    return gzip.compress(json.dumps(manifest).encode())


ENTRY = {"/lkml/git/0.git": {"fingerprint": "0" * 40, "modified": 1762000000}}
LATER = "Sun, 22 Nov 2026 10:05:00 GMT"
NOW = "Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "headers", "content", "message", "wait"),
    [
        (200, {"Content-Type": "text/html"}, b"<html>", "challenged.*user_agent", 3600),
        (429, {"Retry-After": "120"}, b"", "429.*later", 120),
        (429, {"Retry-After": "999999"}, b"", "429", 86400),
        (429, {"Retry-After": LATER, "Date": NOW}, b"", "429", 300),
        (429, {"Retry-After": "soon"}, b"", "429", None),
        (503, {"Retry-After": "-5"}, b"", "503", None),
        (500, {}, b"oops", "500", None),
        (403, {}, b"", "403.*turns this client away", None),
        (404, {}, b"", "404.*check the URL", None),
        (200, {}, packed(ENTRY)[:-12], "cut off", None),
        (200, {}, b"\x1f\x8b" + bytes(30), "damaged", None),
        (200, {}, b"", "no manifest", None),
        (200, {}, b"Not gzip at all", "no manifest", None),
        (200, {}, packed([1, 2]), "no manifest", None),
        (200, {}, gzip.compress(b"[" * 100_000), "no manifest", None),
        (200, {}, gzip.compress(b" " * (MAX_MANIFEST + 10)), "unpacks to more", None),
        (200, {}, b"x" * (MAX_MANIFEST + 10), "more than", None),
    ],
)
async def test_answers_that_are_no_manifest(  # noqa: PLR0917
    tmp_path: Path,
    status: int,
    headers: dict[str, str],
    content: bytes,
    message: str,
    wait: int | None,
) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["User-Agent"] == USER_AGENT
        kind = {"Content-Type": "application/gzip"}
        return web.Response(status=status, headers={**kind, **headers}, body=content)

    async with served(answer) as url, reader(tmp_path) as lore:
        with pytest.raises(InfraError, match=message) as caught:
            await lore.poll(url, None, since=START)
        expected = None if wait is None else timedelta(seconds=wait)
        assert caught.value.retry_after == expected
        assert url in str(caught.value)


async def test_a_stall_ends(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with served(answer) as url, reader(tmp_path) as lore:
        with pytest.raises(InfraError, match=r"within 0\.3 s"):
            await lore.poll(url, None, since=START, timeout=0.3)


async def test_a_connection_that_breaks(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(packed(ENTRY))
        assert request.transport is not None
        request.transport.close()
        return response

    async with served(answer) as url, reader(tmp_path) as lore:
        with pytest.raises(InfraError, match="cannot be read"):
            await lore.poll(url, None, since=START)


async def test_nobody_listens(tmp_path: Path) -> None:
    async with Inbox(tmp_path / "lore", ["lkml"]) as inbox, reader(tmp_path) as lore:
        await deliver(inbox, [1])
        await inbox.stop()
        with pytest.raises(InfraError, match="cannot be read"):
            await lore.poll(inbox.url("lkml"), None, since=START)
        await inbox.start()
        assert numbers(await lore.poll(inbox.url("lkml"), None, since=START)) == [1]


async def test_a_manifest_without_its_epoch(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=packed(ENTRY), content_type="application/gzip")

    async with served(answer) as url, reader(tmp_path) as lore:
        with pytest.raises(InfraError, match="not found"):
            await lore.poll(url, None, since=START)


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"/lkml/git/0.git": None},
        {"/lkml/git/0.git": {"fingerprint": None}},
        {"/lkml/git/0.git": {"fingerprint": "--upload-pack=x"}},
        {"/other/git/0.git": {"fingerprint": "0" * 40}},
        {"/lkml/git/0.git/../../x": {"fingerprint": "0" * 40}},
    ],
)
async def test_manifests_that_name_no_epoch(tmp_path: Path, manifest: object) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=packed(manifest), content_type="application/gzip")

    async with served(answer) as url, reader(tmp_path) as lore:
        batch = await lore.poll(url, None, since=START)
        assert (batch.mails, batch.more) == ((), False)
        assert batch.cursor.committed_at == START
