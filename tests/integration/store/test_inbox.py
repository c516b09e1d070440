# SPDX-License-Identifier: GPL-2.0-or-later
"""Postings found through the keys of stored mails are those that reading all of them finds."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.facts import ListMail
from kwatch.domain.source.inbox import WithFresh, find
from kwatch.domain.source.message import Mail, MailKind
from kwatch.domain.source.posting import SeriesRule, assemble, follows
from kwatch.store import inbox
from kwatch.store.migrations import SCHEMA
from tests.unit.domain.test_posting import the_real_case

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kwatch.domain.source.posting import Posting

START = datetime(2026, 11, 1, tzinfo=UTC)
TITLES = ("coverage: all of it", "x86: one", "x86: two", "mm: three", "")


@contextlib.contextmanager
def stored() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as tx:
        tx.row_factory = sqlite3.Row
        for statement in SCHEMA.split(";\n\n"):
            tx.execute(statement)
        yield tx


def kept(mails: Iterable[Mail]) -> list[ListMail]:
    return [ListMail(mail=mail, raw=mail.message_id.encode()) for mail in mails]


def of_all(mails: Iterable[Mail], rule: SeriesRule) -> list[Posting]:
    """What follows a rule, by an assembly of everything."""
    members: list[Posting] = []
    for posting in assemble(mails):
        if follows(posting, rule, members) is not None:
            members.append(posting)
    return [posting for posting in members if posting.complete]


@st.composite
def some_mails(draw: st.DrawFn) -> list[Mail]:
    count = draw(st.integers(1, 14))
    names = [f"{number}@example.org" for number in range(count + 2)]
    some_names = st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)
    mails = []
    for number in range(count):
        total = draw(st.integers(1, 2))
        index = draw(st.integers(0, total))
        mails.append(
            Mail(
                digest=f"{number}",
                patch=f"{number}",
                message_id=draw(st.sampled_from(names[: number + 1])),
                in_reply_to=draw(st.none() | st.sampled_from(names)),
                references=draw(some_names),
                from_name="author",
                from_address=draw(st.sampled_from(["author@example.org", "b@example.org"])),
                subject="x",
                date=START,
                received_at=START + timedelta(minutes=draw(st.integers(0, 20))),
                kind=MailKind.PATCH if index else MailKind.COVER,
                prefixes=("PATCH",),
                title=draw(st.sampled_from(TITLES)),
                index=index,
                total=total,
                version=draw(st.integers(1, 2)),
                has_diff=draw(st.booleans()),
                new_files=draw(st.lists(st.sampled_from("abc"), max_size=1).map(tuple)),
                links=draw(some_names),
                change_id=draw(st.none() | st.sampled_from(["one", "two"])),
                base_commit=None,
            )
        )
    return mails


RULES = st.builds(
    SeriesRule,
    name=st.just("coverage"),
    titles=st.sampled_from([(), ("*Coverage*",), ("x86: [!t]*",)]),
    files=st.sampled_from([(), ("a",), ("a", "b")]),
)


def first_of_each(mails: Sequence[Mail]) -> list[Mail]:
    firsts: dict[str, Mail] = {}
    for mail in mails:
        firsts.setdefault(mail.message_id, mail)
    return list(firsts.values())


@given(some_mails(), RULES, st.integers(1, 5))
@settings(max_examples=400, deadline=None)
def test_nothing_is_missed_and_nothing_is_added(
    mails: list[Mail], rule: SeriesRule, size: int
) -> None:
    with stored() as tx:
        for start in range(0, len(mails), size):
            fresh = mails[start : start + size]
            both = WithFresh(inbox.Stored(tx, since=0.0), fresh)
            found = find(rule, {mail.message_id for mail in fresh}, both)
            so_far = first_of_each(mails[: start + size])
            assert list(found.postings) == of_all(so_far, rule)
            assert not found.cut
            inbox.keep(tx, "llvm", kept(fresh))


def test_a_mail_comes_back_as_it_was_kept() -> None:
    mails = [
        replace(mail, patch=mail.digest)
        for mail in the_real_case()
        if mail.kind is not MailKind.OTHER
    ]
    with stored() as tx:
        inbox.keep(tx, "llvm", kept(mails))
        inbox.keep(tx, "lkml", kept(mails[:1]))
        names = [mail.message_id for mail in mails]
        held = inbox.Stored(tx, since=0.0)
        assert sorted(held.get(names), key=lambda one: names.index(one.message_id)) == mails
        assert inbox.raw(tx, names[0]) == names[0].encode()
        assert inbox.size(tx, "unknown@example.org") == 0
        lists = tx.execute("SELECT list FROM posting_list WHERE message_id = ?", names[:1])
        assert [row["list"] for row in lists] == ["lkml", "llvm"]


def test_only_mails_of_the_last_time_count() -> None:
    mails = the_real_case()[:3]
    with stored() as tx:
        inbox.keep(tx, "llvm", kept(mails))
        received = mails[1].received_at
        assert received is not None
        held = inbox.Stored(tx, since=received.timestamp())
        found = {one.message_id for one in held.get([mail.message_id for mail in mails])}
        assert found == {mail.message_id for mail in mails[1:]}
