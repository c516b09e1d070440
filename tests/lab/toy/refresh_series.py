# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the mails of the toy's coverage series anew, after a change of the toy's sources.

Run it in the project's top folder: ``python -m tests.lab.toy.refresh_series [REPOSITORY]``.
Without an argument it applies the mails in series/ to today's sources by ``git am -3`` and writes
them again. When they no longer apply, or the series itself shall change: take a repository made by
``history.make_repository``, leave the two patches as its last two commits, and name it as argument.
"""

from __future__ import annotations

import re
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

from tests.lab.toy import history

SERIES = history.SOURCE_FOLDER / "series"
AUTHOR = "series author <author@example.org>"
TO = "toy@lists.example.org"
SENT = history.FIRST_DAY + 8 * 86400
"""When the cover letter was sent, in seconds since the epoch; a patch follows every second."""
COVER = """Coverage of the toy kernel with Clang

These two patches let the toy kernel measure its own coverage, as the
series for Linux does, and hand the raw profile to kwatch. Patch 1 has
functions, lines and branches, patch 2 adds MC/DC.
"""


def apply_mails(repository: Path, *, onto: str = history.STABLE) -> None:
    """Commit the mails of series/ on top of a revision, on a branch ``series`` made anew.

    Raises RuntimeError if they do not apply, with the repository as it was before.
    """
    history.git(repository, "checkout", "-q", "-B", "series", onto)
    mails = map(str, sorted(SERIES.glob("000[1-9]-*.eml")))
    try:
        history.git(repository, "am", "-q", "-3", *mails)
    except RuntimeError:
        history.git(repository, "am", "--abort")
        raise


def write_mails(repository: Path) -> None:
    """Replace the mails in series/ by the last two commits of the repository's HEAD."""
    history.git(repository, "checkout", "-q", "-B", "to-send")
    history.git(repository, "config", "branch.to-send.description", COVER)
    with tempfile.TemporaryDirectory() as folder:
        history.git(
            repository, "format-patch", "-q", "--cover-letter", "--cover-from-description=subject",
            "--thread=shallow", f"--to={TO}", f"--from={AUTHOR}", "--signature=2.47.3",
            "--signoff", "-o", folder, "-2", who=AUTHOR, when=SENT,
        )  # fmt: skip
        mails = [path.read_text() for path in sorted(Path(folder).iterdir())]
        names = [path.stem for path in sorted(Path(folder).iterdir())]
    for old in SERIES.glob("*.eml"):
        old.unlink()
    for number, (name, mail) in enumerate(zip(names, mails, strict=True)):
        (SERIES / f"{name}.eml").write_text(_with_fixed_headers(mail, number))


def _with_fixed_headers(mail: str, number: int) -> str:
    """The mail with dates and message ids that do not depend on when and where it was made."""
    head, body = mail.split("\n\n", 1)
    head = re.sub(r"\AFrom \S+ ", f"From {'0' * 40} ", head)
    head = re.sub(r"(?m)^Date: .*$", f"Date: {_date(number)}", head)
    head = re.sub(r"(?m)^Message-I[dD]: .*$", f"Message-ID: {_message_id(number)}", head)
    head = re.sub(
        r"(?m)^(In-Reply-To|References): .*$", lambda match: f"{match[1]}: {_message_id(0)}", head
    )
    return f"{head}\n\n{body}"


def _date(number: int) -> str:
    return formatdate(SENT + number).replace("-0000", "+0000")


def _message_id(number: int) -> str:
    return f"<20261110000000.4711-{number + 1}-author@example.org>"


def main() -> None:
    """See the module's text."""
    if len(sys.argv) > 1:
        write_mails(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "toy"
        history.make_repository(repository)
        apply_mails(repository)
        write_mails(repository)


if __name__ == "__main__":
    main()
