# SPDX-License-Identifier: GPL-2.0-or-later
"""report: write the mails that the notices of a thread are worth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.facts import Written
from kwatch.domain.mail.letter import compose
from kwatch.domain.mail.story import ThreadMail
from kwatch.domain.mail.thread import reports_of
from kwatch.stages.report.gathering import gather, load_case, with_config
from kwatch.store import mail, notices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kwatch.adapters.git import Git
    from kwatch.domain.lab.job import Job
    from kwatch.domain.mail.story import Correspondence, Letter
    from kwatch.domain.mail.thread import Thread
    from kwatch.domain.source.revision import Tree
    from kwatch.stages.report.gathering import Case
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database, Transaction
    from kwatch.store.notices import Notice


async def run(
    job: Job,
    *,
    trees: Mapping[str, Tree],
    correspondence: Callable[[str, str | None], Correspondence],
    git: Git,
    blobs: Blobs,
    database: Database,
    token: Callable[[], str],
    status_url: str | None,
) -> Written:
    """Write the mails that the pending notices of the thread with the number ``job.key`` are worth.

    Mails about a tree that is not configured any more go to the operator only.
    """
    thread, pending, sent = await database.read(_thread, int(job.key))
    case = await database.read(load_case, int(thread.owner), sent)
    case = await with_config(case, blobs, status_url)
    series = case.series.name if case.series else None
    page = f"{status_url.rstrip('/')}/{thread.kind}/{thread.owner}" if status_url else None
    letters: list[Letter] = []
    silent: list[int] = []
    by_cause = {str(event.id): event for event in case.events}
    events = [by_cause[notice.cause] for notice in pending]
    kinds = reports_of([(one.kind, one.detail) for one in events], is_begun=bool(case.thread))
    for notice, event, kind in zip(pending, events, kinds, strict=True):
        if kind is None:
            silent.append(notice.id)
            continue
        where = event.detail.get("tree", case.regression.tree)
        rules = correspondence(where, series)
        story = replace(
            await gather(
                case, event, kind, notice=notice.id, tree=trees.get(where), rules=rules, git=git
            ),
            status_url=page,
            thread=_mails_before(case, letters),
            told=_told(case, letters),
        )
        letters.append(compose(story, rules, token=token()))
    release = correspondence(case.regression.tree, series).release
    return Written(letters=tuple(letters), silent=tuple(silent), release=release)


def _thread(
    tx: Transaction, number: int
) -> tuple[Thread, tuple[Notice, ...], tuple[mail.StoredMail, ...]]:
    thread = notices.load_thread(tx, number)
    return thread, notices.pending(tx, number), mail.thread(tx, thread)


def _mails_before(case: Case, letters: Sequence[Letter]) -> tuple[ThreadMail, ...]:
    before = [ThreadMail(message_id=one.message_id, subject=one.subject) for one in case.thread]
    now = [ThreadMail(message_id=one.message_id, subject=one.subject) for one in letters]
    return (*before, *now)


def _told(case: Case, letters: Sequence[Letter]) -> tuple[str, ...]:
    """All recipients of the thread so far, in order."""
    before = [address for one in case.thread for address in one.recipients]
    now = [address for one in letters for address in one.recipients]
    return tuple(dict.fromkeys((*before, *now)))
