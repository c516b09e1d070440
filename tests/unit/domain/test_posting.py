# SPDX-License-Identifier: GPL-2.0-or-later
"""Mails from strangers, and the postings that they make."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.source.message import (
    MAX_MAIL,
    Mail,
    MailKind,
    Parsed,
    Unreadable,
    normalised,
    parse,
)
from kwatch.domain.source.posting import (
    Acceptance,
    Posting,
    Reason,
    SeriesRule,
    acceptance,
    assemble,
    follows,
    mboxrd,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

START = datetime(2024, 9, 5, 4, 32, tzinfo=UTC)
TITLES = (
    "llvm-cov: add Clang's Source-based Code Coverage support",
    "llvm-cov: add Clang's MC/DC support",
    "x86: disable llvm-cov instrumentation",
    "x86: enable llvm-cov support",
)
PATCH = """\
Adds a file.

Signed-off-by: series author <author@example.org>
---
 {path} | 1 +
 1 file changed, 1 insertion(+)
 create mode 100644 {path}

diff --git a/{path} b/{path}
new file mode 100644
index 0000000..257cc56
--- /dev/null
+++ b/{path}
@@ -0,0 +1 @@
+foo
--
2.39.5
"""


def raw_mail(
    subject: str,
    message_id: str,
    *,
    sender: str = "series author <author@example.org>",
    answers: Sequence[str] = (),
    body: str = "text\n",
) -> bytes:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = "llvm@example.org, Maintainer <Maintainer@Example.org>"
    message["Cc"] = "lkml@example.org"
    message["Subject"] = subject
    message["Message-ID"] = f"<{message_id}>"
    message["Date"] = "Thu, 05 Sep 2024 04:32:00 +0000"
    if answers:
        message["In-Reply-To"] = f"<{answers[-1]}>"
        message["References"] = " ".join(f"<{one}>" for one in answers)
    message.set_content(body, cte="8bit")
    return message.as_bytes()


def read(raw: bytes, minutes: int = 0) -> Mail:
    parsed = parse(raw, received_at=START + timedelta(minutes=minutes))
    assert isinstance(parsed, Parsed)
    return parsed.mail


def series(
    name: str,
    *,
    prefix: str = "PATCH",
    titles: Sequence[str] = TITLES,
    title: str = "Enable measuring the kernel's Source-based Code Coverage",
    sender: str = "series author <author@example.org>",
    answers: Sequence[str] = (),
    cover: str | None = "blurb\n",
    minutes: int = 0,
) -> list[Mail]:
    """One sending, as ``git send-email --thread=shallow`` makes it."""
    total = len(titles)
    thread = list(answers)
    mails = []
    if cover is not None:
        root = f"{name}-0@example.org"
        mails.append(
            raw_mail(
                f"[{prefix} 0/{total}] {title}", root, sender=sender, answers=answers, body=cover
            )
        )
        thread.append(root)
    for index, patch in enumerate(titles, 1):
        message_id = f"{name}-{index}@example.org"
        body = PATCH.format(path=f"kernel/llvm-cov/{name}{index}.c")
        mails.append(
            raw_mail(
                f"[{prefix} {index}/{total}] {patch}",
                message_id,
                sender=sender,
                answers=thread,
                body=body,
            )
        )
        if cover is None and index == 1:
            thread.append(message_id)
    return [read(raw, minutes + number) for number, raw in enumerate(mails)]


def the_real_case() -> list[Mail]:
    """v1, v2 in its thread, and the newest: another sender, no number, a reply far down."""
    first = series("v1", prefix="RFC PATCH", titles=TITLES[:1] + TITLES[2:])
    second = series("v2", prefix="PATCH v2", answers=["v1-0@example.org"], minutes=100)
    answer = read(
        raw_mail(
            "Re: [PATCH v2 0/4] Enable measuring",
            "review@example.org",
            sender="maintainer <maintainer@example.org>",
            answers=["v1-0@example.org", "v2-0@example.org"],
        ),
        150,
    )
    newest = series(
        "other",
        prefix="RFC PATCH",
        title="Enable Clang's Source-based Code Coverage and MC/DC for x86-64",
        sender="another sender <another@example.org>",
        answers=["review@example.org"],
        cover="v2: https://lore.kernel.org/all/v2-0@example.org/.\n",
        minutes=200,
    )
    return [*first, *second, answer, *newest]


def test_the_real_case_makes_three_postings() -> None:
    first, second, newest = assemble(the_real_case())
    assert [one.root for one in (first, second, newest)] == [
        "v1-0@example.org",
        "v2-0@example.org",
        "other-0@example.org",
    ]
    assert all(one.complete for one in (first, second, newest))
    assert [one.version for one in (first, second, newest)] == [1, 2, 1]
    assert [one.sender for one in (first, newest)] == ["author@example.org", "another@example.org"]
    assert [patch.message_id for patch in newest.patches] == [
        f"other-{index}@example.org" for index in (1, 2, 3, 4)
    ]
    assert newest.cover == newest.root
    assert newest.links == ("v2-0@example.org",)
    assert "v2-0@example.org" in newest.ancestors
    assert newest.first_seen == START + timedelta(minutes=200)


@given(st.permutations(the_real_case()))
@settings(max_examples=50, deadline=None)
def test_the_order_of_arrival_does_not_matter(mails: list[Mail]) -> None:
    assert assemble(mails) == assemble(the_real_case())


@given(st.sets(st.integers(0, len(the_real_case()) - 1)))
@settings(max_examples=50, deadline=None)
def test_missing_mails_never_mix_postings(missing: set[int]) -> None:
    mails = [mail for number, mail in enumerate(the_real_case()) if number not in missing]
    known = {mail.message_id for mail in mails}
    for posting in assemble(mails):
        names = {message_id.split("-")[0] for message_id in posting.message_ids}
        assert len(names) == 1
        assert set(posting.message_ids) <= known
        assert posting.complete == (len(posting.patches) == posting.total)


def test_a_resent_posting_without_a_number_stays_apart() -> None:
    again = series("again", answers=["v1-0@example.org"], minutes=10)
    postings = assemble([*series("v1"), *again])
    assert [[one.root, len(one.patches)] for one in postings] == [
        ["v1-0@example.org", 4],
        ["again-0@example.org", 4],
    ]


def test_a_posting_without_a_cover() -> None:
    (posting,) = assemble(series("bare", cover=None))
    assert posting.root == "bare-1@example.org"
    assert posting.cover is None
    assert posting.complete


def test_a_deep_thread_with_a_single_reference() -> None:
    mails = series("deep")
    chain = [
        replace(mail, in_reply_to=before.message_id, references=())
        for before, mail in itertools.pairwise(mails)
    ]
    (posting,) = assemble([mails[0], *chain])
    assert posting.root == "deep-0@example.org"
    assert posting.complete


def test_what_is_not_of_the_posting_stays_out() -> None:
    mails = series("v1")[:-1]
    stranger = raw_mail(
        "[PATCH 4/4] x86: evil",
        "evil@example.org",
        sender="stranger <stranger@example.org>",
        answers=["v1-0@example.org"],
        body=PATCH.format(path="evil.c"),
    )
    reroll = raw_mail(
        "[PATCH v2 4/4] x86: better", "better@example.org", answers=["v1-0@example.org"]
    )
    (posting,) = assemble([*mails, read(stranger), read(reroll)])
    assert len(posting.patches) == 3
    assert not posting.complete


def test_of_two_patches_with_one_number_the_first_with_a_diff_counts() -> None:
    mails = series("v1")
    answers = ["v1-0@example.org"]
    question = raw_mail("[PATCH 4/4] x86: a question", "question@example.org", answers=answers)
    late = raw_mail(
        "[PATCH 4/4] late", "late@example.org", answers=answers, body=PATCH.format(path="late.c")
    )
    (posting,) = assemble([read(question, -5), *mails, read(late, 60)])
    assert posting.patches[3].message_id == "v1-4@example.org"


def test_the_same_mail_from_two_lists_counts_once() -> None:
    mails = series("v1")
    copies = [replace(mail, received_at=START + timedelta(days=1), digest="copy") for mail in mails]
    assert assemble([*copies, *mails]) == assemble(mails)


def test_loops_in_a_thread_end() -> None:
    one, two = series("loop", cover=None, titles=TITLES[:2])
    assemble(
        [
            replace(one, in_reply_to=two.message_id, references=()),
            replace(two, in_reply_to=one.message_id, references=(two.message_id,)),
        ]
    )


RULE = SeriesRule(
    name="llvm-cov",
    titles=("*source-based code coverage*",),
    files=("kernel/llvm-cov/fs.c",),
    senders=frozenset({"Author@example.org"}),
)
NO_RULE = SeriesRule(name="llvm-cov")


def one_posting(mails: list[Mail]) -> Posting:
    (posting,) = assemble(mails)
    return posting


def test_the_newest_of_the_real_case_follows_and_is_held() -> None:
    first, second, newest = assemble(the_real_case())
    assert follows(first, RULE, []) is Reason.TITLE
    assert follows(second, RULE, [first]) is Reason.NEWER_VERSION
    assert follows(newest, RULE, [first, second]) is Reason.THREAD
    assert follows(newest, RULE, [first, second, newest]) is None
    assert acceptance(second, RULE) is Acceptance.ACCEPTED
    assert acceptance(newest, RULE) is Acceptance.HELD


def test_each_reason_alone() -> None:
    known = one_posting(series("v1", cover="change-id: 20240905-llvm-cov-0123456789ab\n"))
    other = ("a", "b", "c", "d")
    same_change = series(
        "x", titles=other, title="y", cover="change-id: 20240905-llvm-cov-0123456789ab\n"
    )
    assert follows(one_posting(same_change), NO_RULE, [known]) is Reason.CHANGE_ID
    linked = series(
        "x", titles=other, title="y", cover="https://lore.kernel.org/r/v1-3@example.org\n"
    )
    assert follows(one_posting(linked), NO_RULE, [known]) is Reason.THREAD
    half = series("x", titles=(TITLES[0].upper(), TITLES[1], "c", "d"), title="y")
    assert follows(one_posting(half), NO_RULE, [known]) is Reason.PATCH_TITLES
    less = series("x", titles=(TITLES[0], "b", "c", "d"), title="y")
    assert follows(one_posting(less), NO_RULE, [known]) is None
    files = replace(one_posting(series("v1", titles=other, title="y")), root="x@example.org")
    assert follows(files, NO_RULE, [known]) is Reason.NEW_FILES
    watched = SeriesRule(name="x", files=("kernel/llvm-cov/x2.c",))
    assert follows(one_posting(less), watched, []) is Reason.NEW_FILES
    assert follows(one_posting(less), SeriesRule(name="x", titles=("Y",)), []) is Reason.TITLE


def test_a_reviewers_patch_in_the_thread_is_no_successor() -> None:
    known = one_posting(series("v1"))
    fix = raw_mail(
        "[PATCH] fix a typo",
        "fix@example.org",
        answers=["v1-0@example.org", "v1-2@example.org"],
        body=PATCH.format(path="x"),
    )
    posting = one_posting([read(fix)])
    assert posting.complete
    assert follows(posting, NO_RULE, [known]) is None


# --- one mail ---------------------------------------------------------------------------------


def test_a_patch_is_read_whole() -> None:
    body = PATCH.format(path="kernel/llvm-cov/fs.c") + "\nbase-commit: 0123456789abcdef0123\n"
    parsed = parse(
        raw_mail(
            "[RFC PATCH net-next v12 03/14] net: add a thing",
            "x@example.org",
            answers=["a@example.org", "b@example.org"],
            body=body,
        )
    )
    assert isinstance(parsed, Parsed)
    assert not parsed.auto_submitted
    mail = parsed.mail
    assert (mail.kind, mail.index, mail.total, mail.version) == (MailKind.PATCH, 3, 14, 12)
    assert mail.prefixes == ("RFC", "PATCH", "net-next")
    assert mail.title == "net: add a thing"
    assert mail.in_reply_to == "b@example.org"
    assert mail.parents == ("b@example.org", "a@example.org")
    assert (mail.from_name, mail.from_address) == ("series author", "author@example.org")
    assert mail.new_files == ("kernel/llvm-cov/fs.c",)
    assert mail.base_commit == "0123456789abcdef0123"
    assert mail.has_diff


@pytest.mark.parametrize(
    ("subject", "kind", "numbers"),
    [
        ("[PATCH] x", MailKind.PATCH, (1, 1, 1)),
        ("[PATCHv3 2/5] x", MailKind.PATCH, (2, 5, 3)),
        ("[PATCH][v2] x", MailKind.PATCH, (1, 1, 2)),
        ("[RFC 0/3] x", MailKind.COVER, (0, 3, 1)),
        ("[PATCH 6.12 000/114] 6.12.1-rc1 review", MailKind.COVER, (0, 114, 1)),
        ("[RESEND PATCH V4 1/2] x", MailKind.PATCH, (1, 2, 4)),
        ("Re: [PATCH 1/2] x", MailKind.OTHER, (1, 1, 1)),
        ("[linux-next:master 8363/14863] x.c: error", MailKind.OTHER, (1, 1, 1)),
        ("[PATCH 9/3] x", MailKind.OTHER, (9, 3, 1)),
        ("[syzbot] [media?] WARNING", MailKind.OTHER, (1, 1, 1)),
        ("linux-next: Tree for Sep 19", MailKind.OTHER, (1, 1, 1)),
    ],
)
def test_subjects(subject: str, kind: MailKind, numbers: tuple[int, int, int]) -> None:
    mail = read(raw_mail(subject, "x@example.org", body=PATCH.format(path="x")))
    assert mail.kind is kind
    assert (mail.index, mail.total, mail.version) == numbers


def test_a_discussion_without_a_diff_is_no_patch() -> None:
    assert read(raw_mail("[RFC] how shall we", "x@example.org")).kind is MailKind.OTHER


CRASHERS = [
    b"From: .@3429e2599065\n",
    b"From: =?utf-8?q?=2C?=linux-arm-msm@example.org\n",
    b"Date: Sat, -00.00 Nov 2025 10:00:00 +0000\n",
    b"Date: Mon, 99 Foo 99999 99:99:99 +9999\n",
    b"Date: 1 Jan 0001 00:00:00 +1400\n",
    b"Content-Type: text/plain; charset=unknown-8bit-nonsense\n",
    b"Content-Type: text/plain; charset*=utf-8''%ff%fe\n",
    b'Content-Type: text/plain; charset="\xff\xfe"\n',
    b"Content-Type: text/plain; charset=punycode\n",
    b"Content-Type: multipart/mixed\n",
    b'Content-Type: multipart/mixed; boundary=""\n',
    b"Content-Type: message/rfc822\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: x-uuencode\n",
    b"Subject: =?utf-8?b?!!!?= =?nonsense?q?=FF?= \xff\xfe\x00\n",
    b"Subject: =?utf-8?q?=5BPATCH?= 1/2] x\n",
    b"References: " + b"<a@b> " * 100_000 + b"\n",
    b"From: " + b"(" * 50_000 + b"\n",
    b"From: " + b"a <" * 20_000 + b"\n",
    b"X: y\n" * 50_000,
    b"In-Reply-To: your mail <<<>>> of today\n",
]


@pytest.mark.parametrize("header", CRASHERS, ids=range(len(CRASHERS)))
def test_mails_that_crashed_others(header: bytes) -> None:
    started = time.monotonic()
    parsed = parse(b"From: a <a@example.org>\nMessage-ID: <x@example.org>\n" + header + b"\nbody\n")
    assert time.monotonic() - started < 3
    assert isinstance(parsed, Parsed)
    assert parsed.mail.message_id == "x@example.org"


@pytest.mark.parametrize(
    ("senders", "address"),
    [
        (
            b"undisclosed-recipients:;, <good+tag@example.org>",
            "good+tag@example.org",
        ),
        (b"=?utf-8?q?=2C?=linux-arm-msm@example.org, b@example.org", "b@example.org"),
    ],
)
def test_addresses_that_are_none_are_left_out(senders: bytes, address: str) -> None:
    raw = b"From: " + senders + b"\nMessage-ID: <x@example.org>\n\n"
    assert read(raw).from_address == address


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"Subject: x\n\nbody", "no Message-ID"),
        (b"", "no Message-ID"),
        (b"Message-ID: none\n\n", "no Message-ID"),
        (b"Message-ID: <x@y>\n\n" + b"a" * MAX_MAIL, "more than 2097152"),
        (b"Message-ID: <x@y>\nContent-Type: message/rfc822\n\n" * 1000, "nested parts"),
        (
            b"Message-ID: <x@y>\nContent-Type: multipart/mixed; boundary*=b\n\n"
            + b"--b\n\n\n" * 300_000,
            "more than 100 parts",
        ),
        (b"Message-ID: <x@y>\nContent-Type: a/b; " + b";" * 1_000_000, "Content header"),
        (b"Message-ID: <x@y>\rContent-Type: a/b; " + b";" * 1_000_000, "Content header"),
        (b"Message-ID: <x@y>\nContent-Type: a/b;" + b"\n b=c;" * 200_000, "Content header"),
    ],
)
def test_unreadable(header: bytes, reason: str) -> None:
    started = time.monotonic()
    answer = parse(header)
    assert time.monotonic() - started < 3
    assert isinstance(answer, Unreadable)
    assert reason in answer.reason


def test_two_senders_are_none() -> None:
    both = b"From: author@example.org, evil@example.com\nMessage-ID: <x@y>\n\n"
    twice = b"From: author@example.org\nFrom: evil@example.com\nMessage-ID: <x@y>\n\n"
    named = b'From: "author@example.org" <evil@example.com>\nMessage-ID: <x@y>\n\n'
    assert read(both).from_address == ""
    assert read(twice).from_address == ""
    assert read(named).from_address == "evil@example.com"


def test_encoded_names_bodies_and_clocks() -> None:
    raw = (
        b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"
        b"From: =?utf-8?q?J=C3=B6rg?= <J@Example.org>\nMessage-ID: <x@y>\n"
        b"Subject: =?iso-8859-1?q?[PATCH]_gr=FC=DFe?=\n"
        b"Date: Fri, 01 Jan 2100 00:00:00 -0000\n"
        b"Auto-Submitted: auto-generated\n"
        b"Content-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Type: text/plain; charset=iso-8859-1\n"
        b"Content-Transfer-Encoding: quoted-printable\n\ngr=FC=DFe\n"
        b"--b\nContent-Type: text/html\n\n<p>no</p>\n"
        b"--b\nContent-Type: text/plain\nContent-Disposition: attachment\n\nno\n--b--\n"
    )
    parsed = parse(raw)
    assert isinstance(parsed, Parsed)
    assert parsed.mail.from_name == "Jörg"
    assert parsed.mail.subject == "[PATCH] grüße"
    assert parsed.body.strip() == "grüße"
    assert parsed.auto_submitted
    assert read(raw).date == START
    assert parsed.mail.date == datetime(2100, 1, 1, tzinfo=UTC)


HEADER_NAMES = st.sampled_from(
    ["From", "To", "Cc", "Subject", "Date", "Message-ID", "References", "In-Reply-To",
     "Content-Type", "Content-Transfer-Encoding", "Auto-Submitted", "Content-Disposition"]
)  # fmt: skip
PIECES = st.sampled_from(
    [b"<x@y>", b"=?utf-8?q?=2C?=", b"=?utf-8?b?", b"(", b'"', b"\\", b"[PATCH 1/2]", b"a@b.c",
     b";", b"multipart/mixed; boundary=b", b"base64", b"\xff", b"\x00", b",", b":", b"\n ",
     b"charset=utf-7", b"charset*0*=x''%", b"-00.00", b"Mon, 1 Jan 2024 00:00:00 +0000"]
)  # fmt: skip


@given(
    st.lists(st.tuples(HEADER_NAMES, st.lists(PIECES | st.binary(max_size=8), max_size=6))),
    st.binary(max_size=200) | st.just(b"--b\n\nx\n--b--\n"),
)
@settings(max_examples=400, deadline=None)
def test_hostile_headers_never_raise(headers: list[tuple[str, list[bytes]]], body: bytes) -> None:
    lines = [name.encode() + b": " + b"".join(pieces) for name, pieces in headers]
    parsed = parse(b"\n".join([b"Message-ID: <z@z>", *lines, b"", body]), received_at=START)
    if isinstance(parsed, Parsed):
        assert parsed.mail.date is not None
        assert parsed.mail.date <= START
        assemble([parsed.mail])


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_never_raise(raw: bytes) -> None:
    parse(raw)


@given(st.text())
def test_normalised_titles_stay_normalised(title: str) -> None:
    assert normalised(normalised(title)) == normalised(title)


# --- the mbox ---------------------------------------------------------------------------------


def unquoted(mbox: bytes) -> list[bytes]:
    """The mails of an mboxrd file, by the format's description."""
    mails = re.split(rb"(?:\A|\n)From mboxrd@z Mon Sep 17 00:00:00 2001\n", mbox)[1:]
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", mail) for mail in mails]


@given(
    st.lists(
        st.text(alphabet="F>rom \nab", max_size=60)
        | st.just("From mboxrd@z Mon Sep 17 00:00:00 2001\n>From x\n"),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=100, deadline=None)
def test_the_mbox_gives_the_mails_back(bodies: list[str]) -> None:
    total = len(bodies)
    mails = [
        raw_mail(f"[PATCH {index}/{total}] x", f"{index}@example.org", body=body + "\n")
        for index, body in enumerate(bodies, 1)
    ]
    found = unquoted(mboxrd(mails))
    assert [mail.rstrip(b"\n") for mail in found] == [mail.rstrip(b"\n") for mail in mails]
