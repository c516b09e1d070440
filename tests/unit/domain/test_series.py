# SPDX-License-Identifier: GPL-2.0-or-later
"""A series is what is applied, whatever way it came."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.source.patch import Patch, read_patch, split_mbox
from kwatch.domain.source.posting import mboxrd
from kwatch.domain.source.series import SCHEMA, patch_digest, series_digest
from tests.unit.domain.mailed import DIFF, Mailed

BASE = Mailed()
BINARY = (
    "diff --git a/x b/x\nnew file mode 100644\nindex 0000000..257cc56\nGIT binary patch\n"
    "literal 4\nLcmZQzWMT#Y01f~L\n\nliteral 0\nHcmV?d00001\n\n"
)


def test_the_digest_of_a_series_stays_what_it_is() -> None:
    """If this fails on purpose: a new SCHEMA number, and the digest that it gives."""
    assert SCHEMA == 1
    second = Mailed(subject="lib: use the thing", text="Now.", diff=DIFF.replace("2nd", "zwei"))
    mbox = mboxrd(
        [
            BASE.raw(headers=("Message-ID: <1@example.org>",)),
            second.raw(headers=("Message-ID: <2@example.org>",), prefix="[PATCH 2/2] "),
        ]
    )
    assert series_digest(mbox) == "8cc7f9b1b363f871657abd162c39ff9a5c8a7a39ce4f74b1af028f193740c99e"


def test_a_patch_is_read_as_git_reads_it() -> None:
    assert read_patch(BASE.raw()) == Patch(
        author="Jörg Author",
        address="Author@example.org",
        date="1725503520 7200",
        message=f"lib: do the thing\n\n{BASE.text}",
        diff=DIFF.encode(),
    )


HEADER = st.sampled_from(
    [
        "Received: from a.example.org by b.example.org; Thu, 5 Sep 2024 02:33:00 +0000",
        "List-Id: <llvm.example.org>",
        "List-Unsubscribe: <mailto:llvm+unsubscribe@example.org>",
        "To: llvm@example.org",
        "Cc: lkml@example.org,\n\tmaintainer@example.org",
        "DKIM-Signature: v=1; a=rsa-sha256; d=example.org;\n\tb=" + "Zm9v" * 10,
        "Message-ID: <x@example.org>",
        "In-Reply-To: <y@example.org>",
        "References: <y@example.org> <z@example.org>",
        "Sender: owner-llvm@example.org",
        "Precedence: bulk",
        "X-Mailer: git-send-email 2.39.5",
    ]
)
FOOTER = st.sampled_from(
    [
        "",
        "_______________________________________________\nA list -- a@example.org\n",
        "To unsubscribe: majordomo@example.org\n",
        "--- \nlist@example.org\n",
        " a line\n+another line\n-and another\n",
    ]
)
WAY = st.fixed_dictionaries(
    {
        "headers": st.lists(HEADER, max_size=6).map(tuple),
        "prefix": st.sampled_from(["", "[PATCH] ", "Re: [LLVM] [PATCH v2 1/2] ", "[RFC PATCH]"]),
        "notes": st.sampled_from(["", "v2: better\n", " lib/thing.c | 3 ++-\n"]),
        "footer": FOOTER,
        "encoding": st.sampled_from(["8bit", "base64", "quoted-printable"]),
        "crlf": st.booleans(),
        "in_body": st.booleans(),
    }
)


@given(WAY)
@settings(max_examples=300, deadline=None)
def test_the_way_of_a_patch_does_not_count(way: dict[str, object]) -> None:
    assert patch_digest(BASE.raw(**way)) == patch_digest(BASE.raw())  # type: ignore[arg-type]


WORD = st.text(alphabet="abcXYZ09.,", min_size=1, max_size=12)


@given(WAY, st.sampled_from(["author", "date", "subject", "text", "diff"]), WORD)
@settings(max_examples=300, deadline=None)
def test_what_is_applied_counts(way: dict[str, object], field: str, word: str) -> None:
    changed = {
        "author": replace(BASE, author=f"Jörg {word} <Author@example.org>"),
        "date": replace(BASE, date=f"Thu, 05 Sep 2024 04:32:{len(word):02} +0200"),
        "subject": replace(BASE, subject=f"lib: {word}"),
        "text": replace(BASE, text=f"{BASE.text}\nLink: {word}"),
        "diff": replace(BASE, diff=DIFF.replace("+2nd\n", f"+2nd{word}\n")),
    }[field]
    assert patch_digest(changed.raw(**way)) != patch_digest(BASE.raw())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "diff",
    [
        DIFF.replace("100644", "100755"),
        DIFF.replace("lib/thing.c", "lib/other.c"),
        DIFF.replace(" third", " third "),
        DIFF.replace("+-- \n", "+--\n"),
        DIFF.replace("+2nd\n", "+2nd\r here\n"),
        DIFF + "\\ No newline at end of file\n",
        DIFF + DIFF.replace("thing", "more"),
        DIFF.replace("index", "old mode 100644\nnew mode 100755\nindex"),
        DIFF.replace("@@ -1,3 +1,4 @@", "@@ -2,3 +2,4 @@"),
        BINARY,
    ],
)
def test_every_line_of_a_diff_counts(diff: str) -> None:
    assert patch_digest(replace(BASE, diff=diff).raw()) != patch_digest(BASE.raw())


def test_a_binary_patch_is_read_to_its_end() -> None:
    mailed = replace(BASE, diff=BINARY)
    found = read_patch(mailed.raw(footer="A list\n"))
    assert found is not None
    assert found.diff == BINARY.encode()
    other = replace(mailed, diff=BINARY.replace("LcmZQ", "LcmZR"))
    assert patch_digest(other.raw()) != patch_digest(mailed.raw())


def test_in_body_headers_replace_those_of_the_mail() -> None:
    body = "Subject: [PATCH] another\n title\nFrom: =?utf-8?q?J=C3=B6rg?= <j@example.org>\n\nWhy."
    found = read_patch(replace(BASE, text=body).raw())
    assert found is not None
    assert (found.author, found.address) == ("Jörg", "j@example.org")
    assert found.message == "another title\n\nWhy."
    assert found.date == "1725503520 7200"


def test_a_footer_in_a_part_of_its_own_does_not_count() -> None:
    """As mailman adds one to a mail that is no plain text."""
    head, _, body = BASE.raw().partition(b"\n\n")
    plain = head.rpartition(b"Content-Type")[0]
    part = head[len(plain) :]
    mixed = (
        plain + b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n' + part + b"\n\n" + body
        + b"\n--b\nContent-Type: text/plain\n\n____\nA list\n--b--\n"
    )  # fmt: skip
    assert patch_digest(mixed) == patch_digest(BASE.raw())


def test_patches_count_in_their_order() -> None:
    one, two = BASE.raw(prefix="[PATCH] "), replace(BASE, subject="more").raw(prefix="[PATCH] ")
    line = b"From 0123456789 Mon Sep 17 00:00:00 2001\n"
    assert series_digest(line + one + line + two) != series_digest(line + two + line + one)
    assert series_digest(line + one + line + two) != series_digest(line + one)
    assert len(split_mbox(line + one + line + two)) == 2
    assert split_mbox(b"") == []


def test_a_quoted_from_line_is_the_text_that_it_was() -> None:
    text = "Why.\n\nFrom here on it goes on.\n>From there, too."
    mbox = mboxrd([replace(BASE, text=text).raw(headers=("Message-ID: <x@example.org>",))])
    (raw,) = split_mbox(mbox)
    found = read_patch(raw)
    assert found is not None
    assert text in found.message


def test_a_mail_that_cannot_be_read_is_known_by_its_bytes() -> None:
    huge = b"Subject: x\n\n" + b"a" * (3 << 20)
    assert read_patch(huge) is None
    assert patch_digest(huge) != patch_digest(huge + b"a")


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_bytes_have_a_digest(raw: bytes) -> None:
    assert len(series_digest(raw)) == 64
    patch_digest(b"Subject: x\n\n---\ndiff --git a/x b/x\n" + raw)


@pytest.mark.parametrize(
    "body",
    [
        b"@@ -1,999999999 +1,999999999 @@\n" + b" \n" * 900_000,
        b"--- a\n+++ b\n" * 150_000,
        b"literal 1\n" * 150_000,
        b"GIT binary patch\nliteral 1\n" * 70_000,
        b"From: a\n" + b" x\n" * 500_000,
        b"[" * 1_500_000,
    ],
)
def test_hostile_patches_take_no_longer_than_others(body: bytes) -> None:
    started = time.monotonic()
    patch_digest(b"Subject: " + b"[" * 60_000 + b"\nFrom: a\n\n" + body)
    assert time.monotonic() - started < 3
