# SPDX-License-Identifier: GPL-2.0-or-later
"""From a story to a mail: recipients, subject, threading, bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from email_validator import EmailNotValidError, validate_email

from kwatch.domain.finding import AREA
from kwatch.domain.mail import header
from kwatch.domain.mail.body import body
from kwatch.domain.mail.header import Mailbox
from kwatch.domain.mail.mime import multipart
from kwatch.domain.mail.story import Letter, ReportKind
from kwatch.domain.mail.tables import ENDING
from kwatch.domain.text import ascii_line
from kwatch.domain.verdict.blame import Blame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kwatch.domain.mail.story import Correspondence, Story
    from kwatch.domain.verdict.lane import TagRun

MAX_SUBJECT = 120
_MAX_ROOT_SUBJECT = 200
_MAX_REFERENCES = 10
_MESSAGE_ID = re.compile(r"[\x21-\x3b\x3d\x3f-\x7e]{3,250}")
_TOKEN = re.compile(r"[a-z0-9]{4,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressees:
    """The recipients of a mail, as in its header."""

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The envelope."""
        return tuple(address for _, address in (*self.to, *self.cc))


def compose(story: Story, correspondence: Correspondence, *, token: str) -> Letter:
    """Write the mail.

    ``token`` (4 to 16 letters or digits) makes the Message-ID unique: draw it once for an event,
    and store the letter before it is sent. There is no Date yet: see :func:`dated`.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"not a token: {token!r}")
    at = datetime.fromtimestamp(int(story.at), UTC)
    regression = story.regression
    message_id = (
        f"{at:%Y%m%d}.r{regression.id}.{len(story.thread) + 1}.{token}"
        f"@{correspondence.message_id_domain}"
    )
    subject = subject_of(story)
    people = addressees(story, correspondence)
    text = body(story, correspondence, message_id)
    parents = [mail.message_id for mail in story.thread if _MESSAGE_ID.fullmatch(mail.message_id)]
    lines = [
        header.mailboxes("From", [(correspondence.from_name, correspondence.from_address)]),
        header.mailboxes("To", people.to),
        header.mailboxes("Cc", people.cc) if people.cc else "",
        header.line("Subject", subject),
        header.identifiers("Message-ID", [message_id]),
        header.identifiers("In-Reply-To", parents[-1:]) if parents else "",
        header.identifiers("References", _trimmed(parents)) if parents else "",
        header.line("Auto-Submitted", "auto-generated"),
        header.line("X-Kwatch-Regression", str(regression.id)),
        header.line("X-Kwatch-Tree", ascii_line(story.lane.tree, 60)),
        header.line("X-Kwatch-Tag", ascii_line(_tag_of(story).tag, 60)),
        header.line("X-Kwatch-Event", story.kind.value),
        header.line("MIME-Version", "1.0"),
    ]
    local, _, domain = correspondence.from_address.rpartition("@")
    return Letter(
        notice=story.notice,
        kind=story.kind,
        message_id=message_id,
        subject=subject,
        # The address that bounces come to tells which mail they are about.
        envelope_from=f"{local}+b-{story.notice}@{domain}",
        recipients=people.addresses,
        message="".join(lines).encode() + multipart(text, story.attachments, token),
    )


def _tag_of(story: Story) -> TagRun:
    """The tag that the event is about."""
    is_fixed = story.kind in ENDING and story.fixed is not None
    return story.fixed if story.fixed and is_fixed else story.shown


def dated(message: bytes, at: float) -> bytes:
    """The message with ``at`` as its Date, if it has none yet: retries are the same bytes."""
    head, separator, rest = message.partition(b"\n\n")
    if b"\nDate: " in head:
        return message
    line = header.line("Date", format_datetime(datetime.fromtimestamp(int(at), UTC))).encode()
    before, name, after = head.partition(b"Message-ID:")
    return b"".join((before, line, name, after, separator, rest))


def subject_of(story: Story) -> str:
    """The thread's subject, the same in every mail of it but for ``Re:``."""
    if story.thread:
        root = story.thread[0].subject.removeprefix("Re: ")
        return f"Re: {ascii_line(root, _MAX_ROOT_SUBJECT)}"
    regression = story.regression
    start = (
        f"[kwatch] {ascii_line(regression.bad.tag, 30)}: {ascii_line(story.arch, 12)} "
        f"{'warning' if story.is_warning else AREA[regression.finding.kind]}: "
    )
    end = f" ({story.blame})" if story.blame not in (None, Blame.UNKNOWN) else ""
    title = ascii_line(regression.finding.title, MAX_SUBJECT - len(start + end))
    return start + (title or regression.finding.kind.value) + end


def addressees(story: Story, correspondence: Correspondence) -> Addressees:
    """The people concerned, and nobody else.

    The author of a commit gets mail only if the commit is verified and the tree is at fault. The
    tree's lists get faults of the tree, the people of the series faults that may be the series',
    and the operator everything. That a regression is gone goes to all recipients of the thread; so
    does the news that a fault of the tree is back, or in another tree, whose lists get it too. If
    the tree is not configured any more, only the operator gets mail. That our lab is to blame after
    all goes to all who were told otherwise.
    """
    to: list[Mailbox] = []
    cc: list[Mailbox] = []
    if story.tree_url is None:
        pass
    elif story.kind in ENDING or story.is_corrected:
        cc += [("", address) for address in story.told]
    elif story.blame is Blame.TREE:
        if story.kind in {ReportKind.REAPPEARED, ReportKind.SPREAD}:
            is_new = story.kind is ReportKind.SPREAD
            to += [("", address) for address in correspondence.tree_mail_to if is_new]
            cc += [("", address) for address in story.told]
        elif story.culprit and story.is_verified:
            author = (story.culprit.author_name, story.culprit.author_address)
            to += [person for person in (author,) if _is_address(person[1])]
            cc += [("", address) for address in correspondence.tree_mail_to]
            cc += [person for person in story.culprit.signers if _is_address(person[1])]
        else:
            to += [("", address) for address in correspondence.tree_mail_to]
    elif story.blame in (Blame.SERIES, Blame.UNKNOWN):
        to += [("", address) for address in correspondence.series_mail_to]
    used = {correspondence.owner.lower(), correspondence.from_address.lower()}
    room = correspondence.max_recipients - 1
    to = _allowed(to, correspondence, used)[:room]
    cc = _allowed(cc, correspondence, used)[: room - len(to)]
    cc.append(("", correspondence.owner))
    return Addressees(to=tuple(to or cc[:1]), cc=tuple(cc if to else cc[1:]))


def _allowed(
    people: Iterable[Mailbox], correspondence: Correspondence, used: set[str]
) -> list[Mailbox]:
    """Those that may be written to and are not in ``used`` yet, which grows by them."""
    local, _, domain = correspondence.from_address.lower().rpartition("@")
    # Mail to ourselves, bounces too, is how robots begin to talk to each other.
    never = (*correspondence.never_mail, f"{local}+*@{domain}")
    found = []
    for name, address in people:
        key = address.lower()
        if key in used or any(fnmatchcase(key, pattern) for pattern in never):
            continue
        used.add(key)
        found.append((name, address))
    return found


def _is_address(text: str) -> bool:
    """Whether mail can go there: commits carry ``root@localhost.(none)`` and worse."""
    try:
        # The validator corrects what it can; who has to be guessed is not written to.
        checked = validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        return False
    return checked.ascii_email is not None and checked.ascii_email.lower() == text.lower()


def _trimmed(message_ids: list[str]) -> list[str]:
    """The root and the latest: readers thread by both ends, and headers may not grow for ever."""
    if len(message_ids) <= _MAX_REFERENCES:
        return message_ids
    return [message_ids[0], *message_ids[1 - _MAX_REFERENCES :]]
