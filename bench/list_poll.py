# SPDX-License-Identifier: GPL-2.0-or-later
"""Claim: a poll that finds one new patch costs well under a second, however long the history.

Fills a database with 60 days of a list that carries 1,000 patches a day, ten postings of the
watched series among them, then polls it with one fresh patch: parsing in the child process, and
the look at the stored mails. Beside it: the cost of reading all stored mails, as it was done at
each poll before, measured on 2,000 of them and scaled. A heartbeat measures the longest time for
which the event loop did not turn.

Usage: python bench/list_poll.py [DAYS] [PATCHES_A_DAY]
"""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kwatch.adapters.lore import RawMail
from kwatch.adapters.mail_reader import read_mails
from kwatch.domain.facts import ListMail
from kwatch.domain.source.message import Mail, Parsed, parse
from kwatch.domain.source.posting import SeriesRule, assemble
from kwatch.domain.source.series import patch_digest
from kwatch.stages import listen
from kwatch.store import inbox
from kwatch.store.database import Database

if TYPE_CHECKING:
    from kwatch.domain.facts import Posted
    from kwatch.store.database import Transaction

START = datetime(2026, 10, 1, tzinfo=UTC)
RULE = SeriesRule(name="coverage", titles=("*code coverage*",), files=("kernel/llvm-cov/fs.c",))
PATCHES = 7
WATCHED = 10
SAMPLE = 2000
BEAT = 0.002
GOAL = 1.0
LIMIT = 0.050


def raw_patch(posting: int, index: int, title: str) -> bytes:
    """Patch ``index`` of ``posting``, 0 the cover, with a diff of 8 KiB."""
    answers = f"In-Reply-To: <{posting}-0@example.org>\nReferences: <{posting}-0@example.org>\n"
    body = "".join(f"+\tline {number} of the change\n" for number in range(300))
    return (
        f"Message-ID: <{posting}-{index}@example.org>\n"
        f"From: author {posting % 400} <author{posting % 400}@example.org>\n"
        f"Date: Thu, 01 Oct 2026 04:32:00 +0000\n{answers if index else ''}"
        f"Subject: [PATCH {index}/{PATCHES}] {title}\n\nWhy.\n---\n"
        f"diff --git a/drivers/d{posting}/x{index}.c b/drivers/d{posting}/x{index}.c\n"
        f"new file mode 100644\n--- /dev/null\n+++ b/drivers/d{posting}/x{index}.c\n"
        f"@@ -0,0 +1,300 @@\n{body}-- \n2.39.5\n"
    ).encode()


def title_of(posting: int, index: int, every: int) -> str:
    kind = "Enable code coverage" if posting % every == 0 else f"subsystem{posting % 50}: rework"
    return f"{kind} of {posting}, step {index}"


def read(raw: bytes, when: datetime) -> Mail:
    parsed = parse(raw, received_at=when)
    assert isinstance(parsed, Parsed)
    return dataclasses.replace(parsed.mail, patch=patch_digest(raw))


def fill(tx: Transaction, postings: int, every: int, days: int) -> None:
    """Parse one posting of a kind; the others differ in what identifies them."""
    patterns = [read(raw_patch(1, index, "x"), START) for index in range(PATCHES + 1)]
    for posting in range(postings):
        when = START + timedelta(days=days) * posting / postings
        mails = []
        for index, pattern in enumerate(patterns):
            title = title_of(posting, index, every)
            one = dataclasses.replace(
                pattern,
                message_id=f"{posting}-{index}@example.org",
                in_reply_to=f"{posting}-0@example.org" if index else None,
                references=(f"{posting}-0@example.org",) if index else (),
                from_address=f"author{posting % 400}@example.org",
                title=title,
                subject=title,
                received_at=when + timedelta(seconds=index),
                new_files=(f"drivers/d{posting}/x{index}.c",) if index else (),
                patch=f"{posting}-{index}",
            )
            mails.append(ListMail(mail=one, raw=raw_patch(posting, index, title)))
        inbox.keep(tx, "lkml", mails)


def cpu() -> float:
    """Seconds of CPU time that this process and its children took."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


async def poll(database: Database, raw: bytes, now: datetime) -> list[Posted]:
    """What stages/listen.py does with what the archive gave."""
    mail = RawMail(epoch=0, commit="c" * 40, received_at=now, raw=raw)
    (one,) = await read_mails([mail])
    assert isinstance(one, Mail)
    since = (now - listen.MEMORY).timestamp()
    fresh = [ListMail(mail=one, raw=raw)]
    return await database.read(listen._postings, "lkml", fresh, [RULE], since=since)  # noqa: SLF001


async def lagging(database: Database, raw: bytes, now: datetime) -> tuple[int, float, float]:
    """Postings found, CPU seconds, and the longest lag of the loop in seconds."""
    lag = 0.0

    async def beat() -> None:
        nonlocal lag
        while True:
            slept = time.perf_counter()
            await asyncio.sleep(BEAT)
            lag = max(lag, time.perf_counter() - slept - BEAT)

    async with asyncio.TaskGroup() as group:
        heart = group.create_task(beat())
        await asyncio.sleep(10 * BEAT)
        before = cpu()
        posted = await poll(database, raw, now)
        used = cpu() - before
        await asyncio.sleep(10 * BEAT)
        heart.cancel()
    return len(posted), used, lag


def read_all(tx: Transaction, count: int) -> float:
    """CPU seconds to read, parse and assemble ``count`` stored mails."""
    before = cpu()
    rows = tx.execute(
        "SELECT raw, received_at FROM posting_raw JOIN posting_mail USING (message_id) LIMIT ?",
        (count,),
    )
    found = [
        parse(row["raw"], received_at=datetime.fromtimestamp(row["received_at"], UTC))
        for row in rows
    ]
    assemble(one.mail for one in found if isinstance(one, Parsed))
    return cpu() - before


async def main(days: int, a_day: int) -> int:
    postings = days * a_day // PATCHES
    every = max(postings // WATCHED, 1)
    stored = postings * (PATCHES + 1)
    now = START + timedelta(days=days)
    with tempfile.TemporaryDirectory() as folder:
        database = await Database.open(Path(folder) / "history.sqlite")
        await database.write(fill, postings, every, days)
        print(f"{stored} mails of {days} days, {WATCHED} postings of the watched series")
        stranger = raw_patch(postings, 1, "subsystem: another")
        author = raw_patch(every, 1, "Enable code coverage, again")
        results = []
        for name, raw in (("a stranger's patch", stranger), ("one of the series", author)):
            found, used, lag = await lagging(database, raw, now)
            results.append((used, lag))
            print(f"{name:20} {used:7.2f} s CPU  longest lag {lag:6.3f} s  {found} postings")
        sample = min(SAMPLE, stored)
        used = await database.read(read_all, sample)
        await database.close()
    print(f"{'reading all':20} {used * stored / sample:7.2f} s CPU  ({sample} mails: {used:.2f} s)")
    within = all(used < GOAL and lag < LIMIT for used, lag in results)
    print(f"under {GOAL:g} s and no lag of {LIMIT * 1000:.0f} ms: {'yes' if within else 'NO'}")
    return 0 if within else 1


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    sys.exit(asyncio.run(main(*numbers, *(60, 1000)[len(numbers) :])))
