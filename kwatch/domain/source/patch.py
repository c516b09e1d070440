# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``git am`` puts into a commit, read from the bytes of one mail.

The rules are those of git-mailinfo(1) and git-mailsplit(1): in-body headers, the ``---`` line,
subject prefixes. Of what follows the message only the diff counts, whose hunks say how long they
are; a diffstat, a signature and the footer of a list are no part of it.
"""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.source.message import (
    MAX_HEADER,
    Unreadable,
    decoded,
    header_values,
    opened,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from email.message import Message

_FROM_LINE = re.compile(
    rb"^From [^\n]*\d.\d\d:\d\d[ \t]+(?:9[1-9]|\d{3,})(?:[ \t][^:\n]*)?\n", re.MULTILINE
)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_SUBJECT_NOISE = re.compile(r"\A(?:\s|:|re:|\[[^\]]*\])*", re.IGNORECASE)
_IN_BODY = re.compile(r"(From|Date|Subject):[ \t]*(.*)", re.IGNORECASE)
_BREAK = re.compile(rb"diff -|Index: |---(?: \S|\s*$)")
_ADDRESS = re.compile(r"[^\s<>(]+@[^\s<>)]+")
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_EXTENDED = re.compile(
    rb"(?:old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from"
    rb"|rename to|similarity index|dissimilarity index|index|---|\+\+\+) "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One commit to be. ``date`` is seconds since the epoch and offset, as git writes them.

    ``diff`` are the bytes after transfer decoding, in the sender's charset: git applies them so.
    """

    author: str
    address: str
    date: str
    message: str
    diff: bytes


def split_mbox(mbox: bytes) -> list[bytes]:
    """The mails of an mboxrd file, with their From lines unquoted; no empty ones."""
    content = mbox.replace(b"\r\n", b"\n")
    pieces = _FROM_LINE.split(content)
    return [_QUOTED_FROM.sub(rb"\1", piece) for piece in pieces if piece.strip()]


def read_patch(raw: bytes) -> Patch | None:
    """The commit of one mail, or None if the mail cannot be read. Never raises."""
    message = opened(raw)
    if isinstance(message, Unreadable):
        return None
    body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip(b"\n")
    try:
        patch = _patch(message)
        # The parser takes a lone carriage return for a line end, git does not.
        return replace(patch, diff=patch.diff + body) if b"\r" in body else patch
    except Exception:  # noqa: BLE001 - the parser's failures are the sender's choice
        return None


def _patch(message: Message) -> Patch:
    values = header_values(message)
    headers = {name: "".join(values.get(name, [])[:1]) for name in ("from", "date", "subject")}
    lines, charset = _content(message)
    start = _skip_in_body_headers(lines, charset, headers)
    if any(len(value) >= MAX_HEADER for value in headers.values()):
        raise ValueError("a header that is cut off says nothing")
    end = next((at for at in range(start, len(lines)) if _BREAK.match(lines[at])), len(lines))
    log = [text_of(line, charset) for line in lines[start:end]]
    author, address = _author(headers["from"])
    return Patch(
        author=author,
        address=address,
        date=_date(headers["date"]),
        message=_message(headers["subject"], log),
        diff=b"".join(line + b"\n" for line in _diff(lines[end:])),
    )


def _content(message: Message) -> tuple[list[bytes], str | None]:
    """The lines of all parts, as git reads them one after the other, and the first charset."""
    lines: list[bytes] = []
    charset: str | None = None
    for part in message.walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            charset = charset or part.get_content_charset()
            lines += payload.removesuffix(b"\n").split(b"\n")
    return lines, charset


def _skip_in_body_headers(
    lines: Sequence[bytes], charset: str | None, headers: dict[str, str]
) -> int:
    """Let From, Date and Subject at the top of the body replace the mail's; where the log begins.

    Each counts once; a continuation line belongs to the header above it.
    """
    found: dict[str, list[str]] = {}
    newest: str | None = None
    at = 0
    for at, raw in enumerate(lines):  # noqa: B007 - the position is the answer
        line = text_of(raw, charset)
        if newest is not None and line[:1] in {" ", "\t"} and line.strip():
            found[newest].append(line.strip())
            continue
        if not line.strip():
            if found:
                break
            continue
        header = _IN_BODY.match(line)
        if header is None or header[1].lower() in found:
            break
        newest = header[1].lower()
        found[newest] = [header[2]]
    else:
        at = len(lines)
    headers.update({name: " ".join(pieces) for name, pieces in found.items()})
    return at


def _author(value: str) -> tuple[str, str]:
    """Name and address, the latter in the sender's case; a value that is no mailbox is a name."""
    # Decoded afterwards: an encoded name may hold a comma.
    name, address = email.utils.parseaddr(value)
    if not _ADDRESS.fullmatch(address):
        return " ".join(decoded(value).split()), ""
    return " ".join(decoded(name).split()), address


def _date(value: str) -> str:
    """Seconds since the epoch and offset from UTC; a value that is no date stays as it is."""
    try:
        parsed = email.utils.parsedate_tz(value)
        if parsed is not None:
            return f"{email.utils.mktime_tz(parsed)} {parsed[9] or 0}"
    except (ValueError, OverflowError, TypeError, IndexError):
        pass
    return " ".join(value.split())


def _message(subject: str, log: Sequence[str]) -> str:
    """Subject and log as git strips them: no trailing blanks, no two blank lines in a row."""
    title = " ".join(_SUBJECT_NOISE.sub("", decoded(subject), count=1).split())
    kept: list[str] = [title, ""]
    for line in (line.rstrip() for line in log):
        if line or kept[-1]:
            kept.append(line)
    return "\n".join(kept).strip("\n")


def _diff(lines: Sequence[bytes]) -> Iterator[bytes]:
    """The lines that git-apply(1) reads: file headers, hunks by their counts, binary data."""
    at = 0
    while at < len(lines):
        line = lines[at]
        following = lines[at + 1] if at + 1 < len(lines) else b""
        if line.startswith(b"diff --git ") or (
            line.startswith(b"--- ") and following.startswith(b"+++ ")
        ):
            yield line
            at += 1
            while at < len(lines) and _EXTENDED.match(lines[at]):
                yield lines[at]
                at += 1
        elif hunk := _HUNK.match(line):
            end = _hunk_end(lines, at + 1, int((hunk[1] or b"1")[:9]), int((hunk[2] or b"1")[:9]))
            yield from lines[at:end]
            at = end
        elif line == b"GIT binary patch":
            end = _binary_end(lines, at + 1)
            yield from lines[at:end]
            at = end
        else:
            at += 1


def _hunk_end(lines: Sequence[bytes], at: int, old: int, new: int) -> int:
    """The index behind a hunk of ``old`` lines before and ``new`` lines after."""
    while at < len(lines) and (old > 0 or new > 0):
        match lines[at][:1]:
            case b"" | b" ":
                old, new = old - 1, new - 1
            case b"-":
                old -= 1
            case b"+":
                new -= 1
            case b"\\":
                pass
            case _:
                return at
        at += 1
    if at < len(lines) and lines[at].startswith(b"\\ "):
        at += 1
    return at


def _binary_end(lines: Sequence[bytes], at: int) -> int:
    """The index behind the one or two blocks of a binary patch; a blank line ends a block."""
    while at < len(lines) and lines[at].startswith((b"literal ", b"delta ")):
        while at < len(lines) and lines[at]:
            at += 1
        at += 1
    return min(at, len(lines))
