# SPDX-License-Identifier: GPL-2.0-or-later
"""listen: follow a mailing list for postings of the watched series."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kwatch.adapters import mail_reader
from kwatch.adapters.lore import Cursor
from kwatch.adapters.mail_reader import Unread
from kwatch.domain.facts import Heard, ListMail, Posted
from kwatch.domain.source.inbox import WithFresh, find
from kwatch.domain.source.message import Mail
from kwatch.domain.source.posting import Acceptance, acceptance, mboxrd
from kwatch.domain.source.series import Series, digest_of
from kwatch.store import cursors, inbox, mail
from kwatch.store import series as series_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kwatch.adapters.lore import Batch, Lore
    from kwatch.domain.lab.job import Job
    from kwatch.domain.source.mailing_list import MailingList
    from kwatch.domain.source.posting import Posting, SeriesRule
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

MEMORY = timedelta(days=60)
"""How long the mails of an incomplete posting are of use."""

MAX_POSTING = 64 << 20
"""Bytes of all patches of a posting; the largest real ones have some 10 MiB."""


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
    watched = rules.get(job.key, ())
    fresh: list[ListMail] = []
    posted: list[Posted] = []
    if watched:
        own = await database.read(mail.own_message_ids)
        fresh = [one for one in await _read(job.key, batch) if one.mail.message_id not in own]
    if fresh:
        earliest = (now - MEMORY).timestamp()
        posted = await database.read(_postings, job.key, fresh, watched, since=earliest)
    return Heard(
        source=job.key,
        cursor=batch.cursor.to_json(),
        mails=tuple(fresh),
        posted=tuple(posted),
        more=batch.more,
    )


async def _read(source: str, batch: Batch) -> list[ListMail]:
    """The cover letters and patches of a batch; a mail that cannot be read is logged."""
    for large in batch.too_large:
        log.warning(
            "list %s: mail %s (epoch %d, commit %s) is skipped: %d bytes",
            source, large.message_id, large.epoch, large.commit, large.size,
        )  # fmt: skip
    if not batch.mails:
        return []
    kept = []
    answers = await mail_reader.read_mails(batch.mails)
    for item, answer in zip(batch.mails, answers, strict=True):
        if isinstance(answer, Unread):
            log.warning(
                "list %s: mail %s (epoch %d, commit %s) is skipped: %s",
                source, answer.message_id, item.epoch, item.commit, answer.reason,
            )  # fmt: skip
        elif isinstance(answer, Mail):
            kept.append(ListMail(mail=answer, raw=item.raw))
    return kept


def _postings(
    tx: Transaction,
    source: str,
    fresh: Sequence[ListMail],
    rules: Sequence[SeriesRule],
    *,
    since: float,
) -> list[Posted]:
    """The complete postings of the watched series that are news to the store."""
    raws: dict[str, bytes] = {}
    for one in fresh:
        raws.setdefault(one.mail.message_id, one.raw)
    mails = WithFresh(inbox.Stored(tx, since=since), [one.mail for one in fresh])
    known = series_store.accepted(tx)
    posted = []
    for rule in rules:
        found = find(rule, raws.keys(), mails)
        if found.cut:
            log.warning("list %s: too many mails look like series %s", source, rule.name)
        for posting in found.postings:
            is_trusted = acceptance(posting, rule) is Acceptance.ACCEPTED
            patches = [found.mails[patch.message_id] for patch in posting.patches]
            digest = digest_of([patch.patch or patch.digest for patch in patches])
            if digest in known and (known[digest] or not is_trusted):
                continue
            size = sum(
                inbox.size(tx, one.message_id) or len(raws[one.message_id]) for one in patches
            )
            if size > MAX_POSTING:
                log.warning(
                    "list %s: posting %s is skipped: its patches have %d bytes",
                    source, posting.root, size,
                )  # fmt: skip
                continue
            mbox = mboxrd(_sources(tx, patches, raws))
            posted.append(
                Posted(series=_series(posting, rule, digest, is_trusted=is_trusted), mbox=mbox)
            )
    return posted


def _sources(
    tx: Transaction, patches: Sequence[Mail], fresh: Mapping[str, bytes]
) -> Iterator[bytes]:
    """The mails as they came; what is stored counts before what came again."""
    for patch in patches:
        stored = inbox.raw(tx, patch.message_id)
        yield fresh[patch.message_id] if stored is None else stored


def _series(posting: Posting, rule: SeriesRule, digest: str, *, is_trusted: bool) -> Series:
    seen = posting.first_seen
    return Series(
        name=rule.name,
        digest=digest,
        title=posting.title,
        origin=posting.root,
        patches=posting.total,
        accepted_by="the list of trusted senders" if is_trusted else None,
        posted_at=seen.timestamp() if seen else 0.0,
    )
