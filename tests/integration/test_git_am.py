# SPDX-License-Identifier: GPL-2.0-or-later
"""git itself applies what the domain made of the mails."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kwatch.domain.source.posting import mboxrd
from kwatch.domain.source.series import series_digest
from tests.unit.domain.mailed import Mailed

if TYPE_CHECKING:
    from pathlib import Path

# The log message holds a line that a plain mbox reader takes for the next mail.
TEXT = """\
First line of the message.

From mboxrd@z Mon Sep 17 00:00:00 2001
>From here on it goes on.

Signed-off-by: series author <author@example.org>
"""


def git(repository: Path, *args: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=series author", "-c", "user.email=author@example.org",
         "-C", str(repository), *args],
        input=stdin,
        capture_output=True,
        check=True,
    )  # fmt: skip
    return done.stdout.decode()


def test_git_am_takes_it(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    git(tmp_path, "init", "-q", str(source))
    git(source, "commit", "-q", "--allow-empty", "-m", "base")
    git(tmp_path, "clone", "-q", str(source), str(target))
    for number in (1, 2, 3):
        (source / "file").write_text("line\n" * number + "\n")
        git(source, "add", "file")
        git(source, "commit", "-q", "-m", f"change {number}\n\n{TEXT}", "--cleanup=verbatim")
    mails = []
    for number in (1, 2, 3):
        mail = git(source, "format-patch", "--stdout", "-1", f"HEAD~{3 - number}")
        mail = mail.replace("Subject: [PATCH]", f"Subject: [PATCH {number}/3]")
        mails.append(mail.replace("From: ", f"Message-ID: <{number}@example.org>\nFrom: ", 1))
    raw = [mail.encode() for mail in mails]
    mbox = mboxrd([raw[0], raw[1].replace(b"\n", b"\r\n"), raw[2]])
    git(target, "am", "--quiet", "-3", "--patch-format=mboxrd", stdin=mbox)
    assert git(target, "rev-parse", "HEAD^{tree}") == git(source, "rev-parse", "HEAD^{tree}")
    assert git(target, "log", "--format=%B") == git(source, "log", "--format=%B")


WAYS: list[dict[str, Any]] = [
    {},
    {"crlf": True},
    {"encoding": "base64"},
    {"encoding": "quoted-printable", "crlf": True},
    {"in_body": True},
    {"prefix": "Re: [LLVM] [PATCH] ", "footer": "____\nA list\n+line\n", "notes": ""},
    {"headers": ("Received: from a by b", "Message-ID: <other@example.org>")},
]


def test_mails_with_one_digest_make_one_commit(tmp_path: Path) -> None:
    """The rules of the digest are git's: the same commit, byte for byte."""
    git(tmp_path, "init", "-q", ".")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/thing.c").write_text("first\nsecond\nthird\n")
    git(tmp_path, "add", "lib/thing.c")
    git(tmp_path, "commit", "-q", "-m", "base")
    base = git(tmp_path, "rev-parse", "HEAD").strip()
    made: dict[str, set[str]] = {}
    other = replace(Mailed(), date="Thu, 05 Sep 2024 04:32:01 +0200")
    for mailed in (Mailed(), other):
        for way in WAYS:
            raw = mailed.raw(**{"headers": ("Message-ID: <x@example.org>",), **way})
            line = b"From mboxrd@z Mon Sep 17 00:00:00 2001\n"
            git(tmp_path, "checkout", "-q", base)
            git(tmp_path, "am", "--quiet", "-3", "--committer-date-is-author-date",
                "--patch-format=mboxrd", stdin=line + raw)  # fmt: skip
            commit = git(tmp_path, "rev-parse", "HEAD").strip()
            made.setdefault(series_digest(line + raw), set()).add(commit)
    assert [len(commits) for commits in made.values()] == [1, 1]
