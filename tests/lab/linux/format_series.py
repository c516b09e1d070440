# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the commits of a kernel repository as the mails that git send-email would send.

Run from a work tree that has the series on top of the import:

    python3 format_series.py REPOSITORY BASE TIP

The commit ids of the import depend on the tarball, so the mails name no base commit.
"""

from __future__ import annotations

import subprocess
import sys
from email import message_from_string
from pathlib import Path

HERE = Path(__file__).parent
TO = "llvm-cov@lists.example.org"
MAILER = "git-send-email 2.39.5"
MESSAGE_ID = "20261109083500.4711-{number}-author@example.org"
SUBJECT_BLANK = "*** SUBJECT HERE ***"
TEXT_BLANK = "*** BLURB HERE ***"
SEPARATOR = "From "


def format_patches(repository: Path, base: str, tip: str) -> list[str]:
    """Return the mbox entries of the cover letter and of each commit, in order."""
    command = [
        *("git", "-C", str(repository), "format-patch", "--stdout", "--cover-letter"),
        *("--no-thread", "--no-signature", "--from=kwatch series author <author@example.org>"),
        f"{base}..{tip}",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    entries: list[list[str]] = []
    for line in output.splitlines(keepends=True):
        if line.startswith(SEPARATOR) and line.endswith("Mon Sep 17 00:00:00 2001\n"):
            entries.append([])
        else:
            entries[-1].append(line)
    return ["".join(entry) for entry in entries]


def render(entry: str, number: int, date: str | None) -> str:
    """Return one mail: headers as git send-email orders them, and the body unchanged."""
    message = message_from_string(entry)
    subject = " ".join(str(message["Subject"]).split())
    body = entry.split("\n\n", 1)[1].rstrip("\n") + "\n"
    headers = [
        f"From: {message['From']}",
        f"To: {TO}",
        f"Subject: {subject}",
        f"Date: {date or message['Date']}",
        f"Message-ID: <{MESSAGE_ID.format(number=number + 1)}>",
        f"X-Mailer: {MAILER}",
    ]
    if number:
        cover = MESSAGE_ID.format(number=1)
        headers += [f"In-Reply-To: <{cover}>", f"References: <{cover}>"]
    headers += [
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    return "\n".join(headers) + "\n\n" + body


def main() -> None:
    """Replace the mails in the folder series beside this file."""
    repository, base, tip = sys.argv[1:4]
    title, text = (HERE / "cover-letter.txt").read_text().split("\n\n", 1)
    cover, *patches = format_patches(Path(repository), base, tip)
    cover = cover.replace(SUBJECT_BLANK, title).replace(TEXT_BLANK, text.rstrip("\n"))
    folder = HERE / "series"
    for old in folder.glob("*.eml"):
        old.unlink()
    first_date = str(message_from_string(patches[0])["Date"])
    (folder / "0000-cover-letter.eml").write_text(render(cover, 0, first_date), newline="\n")
    names = subprocess.run(
        ["git", "-C", repository, "log", "--reverse", "--format=%f", f"{base}..{tip}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for number, (patch, name) in enumerate(zip(patches, names, strict=True), 1):
        mail = render(patch, number, None)
        (folder / f"{number:04}-{name[:52].rstrip('-.')}.eml").write_text(mail, newline="\n")


if __name__ == "__main__":
    main()
