# SPDX-License-Identifier: GPL-2.0-or-later
"""listen: follow a mailing list for postings of the watched series."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kwatch.adapters.lore import Cursor, RawMail
from kwatch.domain.facts import Heard, ListMail, Posted
from kwatch.domain.source.message import Mail, MailKind, parse
from kwatch.domain.source.posting import Acceptance, acceptance, am_ready, assemble, follows
from kwatch.domain.source.series import Series, series_digest
from kwatch.store import cursors, mail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kwatch.adapters.lore import Lore
    from kwatch.domain.lab.job import Job
    from kwatch.domain.source.mailing_list import MailingList
    from kwatch.domain.source.posting import Posting, SeriesRule
    from kwatch.store.database import Database

log = logging.getLogger(__name__)

# How long the mails of a posting that is not complete are waited for.
MEMORY = timedelta(days=60)


async def run(
    job: Job,
    *,
    lists: Mapping[str, MailingList],
    rules: Mapping[str, Sequence[SeriesRule]],
    lore: Lore,
    database: Database,
    clock: Callable[[], float],
) -> Heard | None:
    """Read what is new on the list that ``job.key`` names; ``rules`` are the series it carries."""
    source = lists.get(job.key)
    if source is None:
        return None
    now = datetime.fromtimestamp(clock(), UTC)
    since = source.since or now
    known = await database.read(cursors.value, f"list:{job.key}")
    batch = await lore.poll(source.url, Cursor.from_json(known) if known else None, since=since)
    own = await database.read(mail.own_message_ids)
    watched = rules.get(job.key, ())
    fresh = [kept for item in batch.mails if watched and isinstance(item, RawMail)
             and (kept := _kept(item, own))]  # fmt: skip
    posted: list[Posted] = []
    if fresh:
        stored = await database.read(mail.posting_mails, since=(now - MEMORY).timestamp())
        # A busy list has tens of thousands of patches in that time.
        posted = await asyncio.to_thread(_postings, (*stored, *fresh), watched)
    return Heard(
        source=job.key,
        cursor=batch.cursor.to_json(),
        mails=tuple(fresh),
        posted=tuple(posted),
        more=batch.more,
    )


def _kept(item: RawMail, own: frozenset[str]) -> ListMail | None:
    """The mail if it is part of a posting, and not one that this lab sent itself."""
    parsed = parse(item.raw, received_at=item.received_at)
    if not isinstance(parsed, Mail):
        log.warning("a mail in epoch %d cannot be read: %s", item.epoch, parsed.reason)
        return None
    if parsed.kind is MailKind.OTHER or parsed.auto_submitted or parsed.message_id in own:
        return None
    return ListMail(
        message_id=parsed.message_id, received_at=item.received_at.timestamp(), raw=item.raw
    )


def _postings(kept: Sequence[ListMail], rules: Sequence[SeriesRule]) -> list[Posted]:
    """Every complete posting among the mails that belongs to a watched series.

    Of mails with one Message-ID the first counts, or anybody could change a posting afterwards.
    """
    firsts: dict[str, ListMail] = {}
    for one in kept:
        firsts.setdefault(one.message_id, one)
    raws = {one.message_id: one.raw for one in firsts.values()}
    postings = assemble(
        parsed
        for one in firsts.values()
        if isinstance(
            parsed := parse(one.raw, received_at=datetime.fromtimestamp(one.received_at, UTC)), Mail
        )
    )
    found = []
    for rule in rules:
        members: list[Posting] = []
        for posting in postings:
            reason = follows(posting, rule, members)
            if reason is None:
                continue
            members.append(posting)
            if posting.complete:
                found.append(_posted(posting, rule, raws))
    return found


def _posted(posting: Posting, rule: SeriesRule, raws: Mapping[str, bytes]) -> Posted:
    mbox = am_ready([raws[patch.message_id] for patch in posting.patches])
    is_trusted = acceptance(posting, rule) is Acceptance.ACCEPTED
    seen = posting.first_seen
    return Posted(
        series=Series(
            name=rule.name,
            digest=series_digest(mbox),
            title=posting.title,
            origin=posting.root,
            patches=posting.total,
            accepted_by="the list of trusted senders" if is_trusted else None,
            posted_at=seen.timestamp() if seen else 0.0,
        ),
        mbox=mbox,
    )
