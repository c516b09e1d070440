# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists in a real public-inbox: postings that are found, held, spread over two looks, our own."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from kwatch.adapters.lore import Lore
from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import Letter, Release, ReportKind
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.source.mailing_list import MailingList
from kwatch.domain.source.posting import SeriesRule
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import Series, series_digest
from kwatch.errors import InfraError
from kwatch.stages import listen
from kwatch.store import cursors, mail, notices, revisions, series
from kwatch.store.database import Database
from tests.integration.stages.jobs import claimed, keep, queued
from tests.lab.inbox import Inbox
from tests.lab.toykernel import KERNEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.domain.facts import Heard
    from kwatch.store.database import Transaction

DAY = datetime(2026, 11, 11, tzinfo=UTC)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
RULE = SeriesRule(name="llvm-cov", files=("kernel/llvm-cov.c",))
TRUSTED = dataclasses.replace(RULE, senders=frozenset({"author@example.org"}))
OTHER = "other"
LIST = "llvm"


def mails() -> list[bytes]:
    """Cover and patches of the toy's series, as the author sends them."""
    return [path.read_bytes() for path in KERNEL.series]


@dataclass(slots=True, kw_only=True)
class Lab:
    inbox: Inbox
    lore: Lore
    database: Database
    rules: dict[str, list[SeriesRule]] = field(default_factory=lambda: {LIST: [RULE]})

    async def look(self, name: str = LIST) -> Heard:
        """Look at a list as the worker does."""
        job = await claimed(self.database, JobKind.LISTEN, name)
        lists = {
            one: MailingList(
                name=one, url=self.inbox.url(one), address=f"{one}@example.org", since=DAY
            )
            for one in (LIST, OTHER)
        }
        facts = await listen.run(
            job,
            lists=lists,
            rules=self.rules,
            lore=self.lore,
            database=self.database,
            clock=NOW.timestamp,
        )
        assert facts is not None
        await keep(self.database, job, facts)
        return facts

    async def deliver(self, *raws: bytes, to: str = LIST, day: int = 1) -> None:
        for number, raw in enumerate(raws):
            when = DAY + timedelta(days=day, seconds=number)
            await self.inbox.deliver(to, raw.partition(b"\n")[2], received_at=when)

    async def series(self) -> tuple[Series, ...]:
        return await self.database.read(series.newest_first)


@pytest_asyncio.fixture
async def lab(tmp_path: Path, database: Database) -> AsyncIterator[Lab]:
    async with (
        Inbox(tmp_path / "inbox", [LIST, OTHER]) as inbox,
        aiohttp.ClientSession() as session,
    ):
        lore = Lore(directory=tmp_path / "lore", user_agent="kwatch/0.1+lab", session=session)
        yield Lab(inbox=inbox, lore=lore, database=database)


async def add_revision(database: Database) -> str:
    """A tag that was planned before any series was there; its number."""

    def add(tx: Transaction) -> int:
        return revisions.add(
            tx, Revision(tree="next", tag="next-20261116", commit="a" * 40, seen_at=1.0)
        )

    return str(await database.write(add))


async def test_a_series_is_found_and_held(lab: Lab) -> None:
    await add_revision(lab.database)
    await lab.deliver(*mails())
    facts = await lab.look()
    assert len(facts.mails) == 3
    (posted,) = facts.posted
    assert posted.series.digest == series_digest(posted.mbox)
    assert posted.mbox.count(b"From mboxrd@z") == 2
    (found,) = await lab.series()
    assert found.title == "Coverage of the toy kernel with Clang"
    assert (found.name, found.patches, found.accepted_by) == ("llvm-cov", 2, None)
    assert found.origin == "20261110000000.4711-1-author@example.org"
    assert await lab.database.read(series.current, "llvm-cov") is None
    assert await queued(lab.database, JobKind.PLAN) == []
    # Nothing new: nothing is told again.
    again = await lab.look()
    assert (again.mails, again.posted) == ((), ())


async def test_a_series_of_a_trusted_sender_is_tested_at_once(lab: Lab) -> None:
    number = await add_revision(lab.database)
    lab.rules[LIST] = [TRUSTED]
    await lab.deliver(*mails())
    await lab.look()
    (found,) = await lab.series()
    assert found.accepted_by == "the list of trusted senders"
    assert await lab.database.read(series.current, "llvm-cov") == found
    assert await queued(lab.database, JobKind.PLAN) == [number]


async def test_a_posting_that_comes_in_pieces_is_put_together(lab: Lab) -> None:
    cover, one, two = mails()
    await lab.deliver(two)
    assert (await lab.look()).posted == ()
    await lab.deliver(cover, day=2)
    assert (await lab.look()).posted == ()
    await lab.deliver(one, day=3)
    assert len((await lab.look()).posted) == 1
    # The same bytes, however they came.
    (found,) = await lab.series()
    await lab.database.write(lambda tx: tx.execute("DELETE FROM series"))
    await lab.database.write(lambda tx: tx.execute("DELETE FROM cursor"))
    await lab.look()
    (again,) = await lab.series()
    assert again.digest == found.digest


async def test_a_posting_that_another_list_carries_too_is_put_together(lab: Lab) -> None:
    """A mail is kept once; the list that it came by first need not be the one watched."""
    lab.rules[OTHER] = [SeriesRule(name="another", files=("another/file.c",))]
    cover, one, two = mails()
    await lab.deliver(cover, one, two, to=OTHER)
    assert (await lab.look(OTHER)).posted == ()
    await lab.deliver(cover, one)
    await lab.look()
    await lab.deliver(two, day=2)
    await lab.look()
    assert len(await lab.series()) == 1


async def test_a_series_is_looked_for_on_its_list_only(lab: Lab) -> None:
    await lab.deliver(*mails(), to=OTHER)
    await lab.look(OTHER)
    await lab.deliver(b"x\n" + patch_mail("another", "other/file.c"))
    await lab.look()
    assert await lab.series() == ()


def patch_mail(name: str, creates: str, *, date: str = "Wed, 11 Nov 2026 01:00:00 +0000",
               sender: str = "author@example.org") -> bytes:  # fmt: skip
    return (
        f"Message-ID: <{name}@example.org>\nFrom: somebody <{sender}>\nDate: {date}\n"
        f"Subject: [PATCH] {name}\nTo: llvm@example.org\n\nWhy.\n---\n"
        f"diff --git a/{creates} b/{creates}\nnew file mode 100644\n--- /dev/null\n"
        f"+++ b/{creates}\n@@ -0,0 +1 @@\n+text\n"
    ).encode()


async def test_the_newest_by_the_archives_clock_is_current(lab: Lab) -> None:
    """A sender's clock may be years ahead: nothing would ever be newer."""
    lab.rules[LIST] = [TRUSTED]
    ahead = patch_mail("old", "kernel/llvm-cov.c", date="Fri, 01 Jan 2100 00:00:00 +0000")
    await lab.deliver(b"x\n" + ahead, day=1)
    await lab.look()
    (found,) = await lab.series()
    assert found.posted_at == (DAY + timedelta(days=1)).timestamp()
    await lab.deliver(b"x\n" + patch_mail("new", "kernel/llvm-cov.c"), day=2)
    await lab.look()
    current = await lab.database.read(series.current, "llvm-cov")
    assert current is not None
    assert current.title == "new"


async def test_of_two_mails_with_one_message_id_the_first_counts(lab: Lab) -> None:
    """Nobody changes a posting afterwards by sending its Message-ID once more."""
    cover, one, two = mails()
    await lab.deliver(cover, one)
    await lab.look()
    await lab.deliver(one.replace(b"guest send", b"guest sell"), two, day=2)
    await lab.look()
    (found,) = await lab.series()
    mbox = await lab.database.read(series.mbox, found.digest)
    assert b"guest send" in mbox
    assert b"guest sell" not in mbox
    # Neither when a mail of somebody else comes, nor from the beginning of the list.
    await lab.deliver(b"x\n" + patch_mail("bystander", "other/file.c"), day=3)
    assert (await lab.look()).posted == ()
    await lab.database.write(lambda tx: tx.execute("DELETE FROM cursor"))
    assert (await lab.look()).posted == ()


async def test_our_own_mails_and_machines_are_not_listened_to(lab: Lab) -> None:
    letter = Letter(
        notice=1,
        kind=ReportKind.NEW,
        message_id="ours@example.org",
        subject="a report that quotes a patch",
        envelope_from="kwatch@example.org",
        recipients=(),
        message=b"",
    )
    # Without the history of the regression that it would be about.
    with contextlib.closing(sqlite3.connect(lab.database.path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        notices.put(connection, of_regression(1), "1", now=1.0)
        mail.put_letter(connection, letter, Release.MODERATE, now=1.0)
    robot = patch_mail("robot", "kernel/llvm-cov.c").replace(
        b"To: llvm", b"Auto-Submitted: auto-generated\nTo: llvm"
    )
    talk = b"Message-ID: <talk@example.org>\nFrom: a <a@example.org>\nSubject: hello\n\nhello\n"
    for raw in (patch_mail("ours", "kernel/llvm-cov.c"), robot, talk):
        await lab.deliver(b"x\n" + raw)
    facts = await lab.look()
    assert (facts.mails, facts.posted) == ((), ())
    (source,) = await lab.database.read(cursors.sources)
    assert (source.name, source.error) == (f"list:{LIST}", None)


async def test_hostile_mails_stop_nothing(lab: Lab) -> None:
    hostile = [
        b"Message-ID: <a@example.org>\nFrom: \xff\xfe\nSubject: =?utf-8?q?=FF?= [PATCH 9/0\n\n\xff",
        (
            b"Message-ID: <b@example.org>\nSubject: [PATCH 1/99999999999999999999999] x\n\n"
            b"diff --git a/x b/x\n"
        ),
        (
            b"Message-ID: <c@example.org>\nReferences: <c@example.org>\nSubject: [PATCH 2/2] x\n"
            b"From: a <a@example.org>\n\ndiff --git a/kernel/llvm-cov.c b/kernel/llvm-cov.c\n"
        ),
    ]
    for raw in hostile:
        await lab.deliver(b"x\n" + raw)
    await lab.deliver(*mails())
    assert len((await lab.look()).posted) == 1


async def test_mails_that_are_left_out_are_named(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """A mail that cannot be read, one that is too large: list and Message-ID are in the journal."""
    head = b"x\nMessage-ID: <%s@example.org>\nFrom: a <a@example.org>\nSubject: [PATCH] x\n"
    await lab.deliver(head % b"parts" + b"Content-Type: message/rfc822\n\n" * 20)
    await lab.deliver(head % b"large" + b"\n" + b"diff --git a/x b/x\n" * 200_000)
    await lab.deliver(*mails())
    assert len((await lab.look()).posted) == 1
    assert "list llvm: mail parts@example.org" in caplog.text
    assert "nested parts" in caplog.text
    assert "list llvm: mail large@example.org" in caplog.text


async def test_a_posting_of_too_many_bytes_is_named(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "MAX_POSTING", 1000)
    await lab.deliver(*mails())
    facts = await lab.look()
    assert (len(facts.mails), facts.posted) == (3, ())
    assert "posting 20261110000000.4711-1-author@example.org is skipped" in caplog.text


async def test_one_posting_through_two_lists_is_one_series(lab: Lab) -> None:
    """Each list adds headers and a footer of its own, and a Message-ID may be rewritten."""
    lab.rules[OTHER] = [TRUSTED]
    await lab.deliver(*mails())
    await lab.look()
    (held,) = await lab.series()
    assert held.accepted_by is None
    await lab.deliver(*[
        raw.replace(b"Message-I", b"List-Id: <other.example.org>\nMessage-I", 1)
        .replace(b"20261110000000.4711", b"rewritten").replace(b"[PATCH", b"[OTHER] [PATCH", 1)
        + b"____\nother mailing list\n"
        for raw in mails()
    ], to=OTHER)  # fmt: skip
    await lab.look(OTHER)
    (found,) = await lab.series()
    assert found.digest == held.digest
    assert found.accepted_by == "the list of trusted senders"


async def test_an_archive_that_is_away_is_the_labs_trouble(lab: Lab) -> None:
    await lab.inbox.stop()
    with pytest.raises(InfraError):
        await lab.look()
    await lab.inbox.start()
    await lab.deliver(*mails())
    await lab.database.write(lambda tx: tx.execute("DELETE FROM job"))
    assert len((await lab.look()).posted) == 1


async def test_a_list_that_is_no_longer_configured(lab: Lab) -> None:
    job = await claimed(lab.database, JobKind.LISTEN, "gone")
    facts = await listen.run(job, lists={}, rules={}, lore=lab.lore, database=lab.database,
                             clock=NOW.timestamp)  # fmt: skip
    assert facts is None
