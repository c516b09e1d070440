# SPDX-License-Identifier: GPL-2.0-or-later
"""Mails that a child process reads, hostile ones among them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from kwatch.adapters import confined, mail_reader
from kwatch.adapters.lore import RawMail
from kwatch.adapters.mail_reader import Other, Unread, read_mails
from kwatch.domain.source.message import Mail, MailKind
from kwatch.domain.source.series import patch_digest
from kwatch.errors import InfraError
from tests.unit.domain.mailed import Mailed

WHEN = datetime(2026, 11, 11, 1, 2, 3, tzinfo=UTC)


def mail(raw: bytes) -> RawMail:
    return RawMail(epoch=0, commit="c" * 40, received_at=WHEN, raw=raw)


def patch(name: str) -> RawMail:
    return mail(Mailed().raw(headers=(f"Message-ID: <{name}@example.org>",)))


TALK = mail(b"Message-ID: <talk@example.org>\nSubject: hello\n\nhello\n")


async def test_each_mail_has_its_answer() -> None:
    huge = mail(b"Subject: x\nMessage-Id:\n <huge@example.org>\n\n" + b"a" * (3 << 20))
    one, talk, unread, two = await read_mails([patch("1"), TALK, huge, patch("2")])
    assert isinstance(one, Mail)
    assert isinstance(two, Mail)
    assert (one.message_id, two.message_id) == ("1@example.org", "2@example.org")
    assert one.kind is MailKind.PATCH
    assert one.received_at == WHEN
    assert one.date == datetime(2024, 9, 5, 2, 32, tzinfo=UTC)
    assert one.prefixes == ("PATCH",)
    assert one.patch == patch_digest(patch("2").raw)
    assert talk == Other()
    assert isinstance(unread, Unread)
    assert unread.message_id == "huge@example.org"
    assert "more than 2097152" in unread.reason


async def test_no_mails() -> None:
    assert await read_mails([]) == []


async def test_a_mail_that_kills_its_reader_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader is replaced by one that dies of a certain mail, as of a defect in C code."""
    monkeypatch.setattr(mail_reader, "__name__", "tests.integration.adapters.dying_reader")
    deadly = mail(b"Message-ID: <deadly@example.org>\n\ndie\n")
    found = await read_mails([patch("1"), deadly, patch("2"), TALK, deadly])
    names = [one.message_id if not isinstance(one, Other) else None for one in found]
    assert names == [
        "1@example.org", "deadly@example.org", "2@example.org", None, "deadly@example.org",
    ]  # fmt: skip
    assert isinstance(found[1], Unread)
    assert "status -11" in found[1].reason


async def test_a_slow_mail_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_reader, "__name__", "tests.integration.adapters.dying_reader")
    slow = mail(b"Message-ID: <slow@example.org>\n\nloop\n")
    one, unread, two = await read_mails([patch("1"), slow, patch("2")])
    assert isinstance(one, Mail)
    assert isinstance(two, Mail)
    assert unread == Unread(message_id="slow@example.org", reason="takes more than 0.2 s")


async def test_answers_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_reader, "MAX_INPUT", 1500)
    found = await read_mails([patch(str(number)) for number in range(5)])
    assert [one.message_id for one in found if isinstance(one, Mail)] == [
        f"{number}@example.org" for number in range(5)
    ]


async def test_a_child_that_cannot_start_is_the_labs_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No mail is called unreadable for it."""
    few = confined.Limits(memory=4 << 20, output=1 << 20, cpu=10, timeout=60)
    monkeypatch.setattr(mail_reader, "LIMITS", few)
    with pytest.raises(InfraError, match="short of memory"):
        await read_mails([patch("1")])


def test_what_a_child_prints_is_bounded() -> None:
    """Whatever names a mail lists, an answer has less than 4 MiB."""
    links = b"".join(b"https://lore.kernel.org/all/%d@x/\n" % number for number in range(50_000))
    raw = b"Message-ID: <x@y>\nSubject: [PATCH 0/9] x\nFrom: a <a@b.c>\n\n" + links
    found = mail_reader.describe(raw, WHEN)
    assert len(json.dumps(found)) < 4 << 20
    assert isinstance(found["links"], tuple)
    assert len(found["links"]) == 2000
