# SPDX-License-Identifier: GPL-2.0-or-later
"""Postings: what one sending of a patch series was, and whether it succeeds a known one.

A version number identifies nothing. The series that this project began with was posted by another
sender without a number, under another title, as a reply to the last version; tools that group by
number mix its patches with those of the first version.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from kwatch.domain.source.message import MailKind, normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kwatch.domain.source.message import Mail

MAX_DEPTH = 1000
"""Mails between a patch and its cover; a deeper thread is not walked."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_FROM_LINE = re.compile(rb"^(>*From )", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedPatch:
    """One patch of a posting: ``index`` counts from 1."""

    index: int
    message_id: str
    title: str
    new_files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One sending of a series: a cover (or patch 1 without one) and the patches that reach it.

    ``root`` is the Message-ID of the cover or of that patch. ``ancestors`` are the mails that it
    answers, as far as known, and ``links`` those that its text points to. ``first_seen`` is the
    archive's clock (else the sender's) for the root, None where neither is known.
    """

    root: str
    sender: str
    title: str
    version: int
    total: int
    cover: str | None
    patches: tuple[PostedPatch, ...]
    change_id: str | None
    new_files: tuple[str, ...]
    ancestors: tuple[str, ...]
    links: tuple[str, ...]
    first_seen: datetime | None

    @property
    def complete(self) -> bool:
        """Whether every patch from 1 to ``total`` is there."""
        return len(self.patches) == self.total

    @property
    def message_ids(self) -> tuple[str, ...]:
        """Cover and patches, in order."""
        cover = (self.cover,) if self.cover else ()
        return (*cover, *(patch.message_id for patch in self.patches))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRule:
    """Which series is watched.

    ``titles`` are patterns as of a shell (``*source-based code coverage*``), matched without regard
    to case. ``files`` are paths that only this series creates. ``senders`` are the addresses whose
    postings are tested without anybody's consent: mailed patches are code that we run.
    """

    name: str
    titles: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    senders: frozenset[str] = frozenset()


class Reason(Enum):
    """Why a posting belongs to the watched series, the surest first."""

    CHANGE_ID = "same change-id"
    NEWER_VERSION = "same title and sender, higher version"
    THREAD = "its cover answers or links the known thread"
    PATCH_TITLES = "at least half of the patch titles are the same"
    NEW_FILES = "creates the same files"
    TITLE = "the title is one of those watched for"


class Acceptance(Enum):
    """Whether the patches of a posting may be run."""

    ACCEPTED = "the sender is on the operator's list"
    HELD = "waits for the operator: kwatch series accept"


def assemble(mails: Iterable[Mail]) -> list[Posting]:
    """Group mails into postings, oldest first, whatever the order in which they come.

    A patch belongs to the nearest root that it answers, directly or through other mails, of the
    same sender, total and version. Of several mails with one Message-ID, and of several patches
    with one index, the earliest counts. A patch whose root is not known makes no posting.
    """
    known: dict[str, Mail] = {}
    for mail in sorted(mails, key=_arrival):
        known.setdefault(mail.message_id, mail)
    posted = [
        mail for mail in known.values() if mail.kind is not MailKind.OTHER and mail.from_address
    ]
    covers = {mail.message_id for mail in posted if mail.kind is MailKind.COVER}
    firsts = {
        mail.message_id
        for mail in posted
        if mail.is_patch and mail.index == 1 and _root(mail, known, covers) is None
    }
    members: defaultdict[str, dict[int, Mail]] = defaultdict(dict)
    for mail in posted:
        root = mail.message_id
        if root not in covers | firsts:
            found = _root(mail, known, covers | firsts)
            if found is None:
                continue
            root = found
        slots = members[root]
        if mail.is_patch and (mail.index not in slots or _better(mail, slots[mail.index])):
            slots[mail.index] = mail
    postings = [_posting(known[root], slots, known) for root, slots in members.items()]
    return sorted(postings, key=lambda posting: (posting.first_seen or _BEGINNING, posting.root))


def follows(posting: Posting, watched: SeriesRule, known: Iterable[Posting]) -> Reason | None:
    """Why ``posting`` belongs to the watched series, or None when it does not.

    ``known`` are the postings that were found to belong to it before; one of them is no news.
    """
    earlier = tuple(known)
    if any(posting.root == one.root for one in earlier):
        return None
    reasons = {reason for one in earlier for reason in _reasons(posting, one)}
    if set(posting.new_files) & set(watched.files):
        reasons.add(Reason.NEW_FILES)
    title = posting.title.casefold()
    if any(fnmatch.fnmatchcase(title, pattern.casefold()) for pattern in watched.titles):
        reasons.add(Reason.TITLE)
    return next((reason for reason in Reason if reason in reasons), None)


def acceptance(posting: Posting, rule: SeriesRule) -> Acceptance:
    """Whether the operator trusts the sender beforehand; the only proof is the From line."""
    allowed = {sender.lower() for sender in rule.senders}
    return Acceptance.ACCEPTED if posting.sender in allowed else Acceptance.HELD


def mboxrd(mails: Iterable[bytes]) -> bytes:
    """These mails in their order as one file for ``git am --patch-format=mboxrd``."""
    return b"".join(_mboxrd(raw) for raw in mails)


def _mboxrd(raw: bytes) -> bytes:
    content = raw.partition(b"\n")[2] if raw.startswith(b"From ") else raw
    content = _FROM_LINE.sub(rb">\1", content.replace(b"\r\n", b"\n"))
    # The date is git's own for such a line: it tells the line from a sentence.
    end = b"\n" if content.endswith(b"\n") else b"\n\n"
    return b"From mboxrd@z Mon Sep 17 00:00:00 2001\n" + content + end


def _arrival(mail: Mail) -> tuple[datetime, str, str]:
    return (mail.received_at or mail.date or _BEGINNING, mail.message_id, mail.digest)


def _better(mail: Mail, other: Mail) -> bool:
    """Whether a later mail with the same number replaces one that carries no patch."""
    return mail.has_diff and not other.has_diff


def _ancestors(mail: Mail, known: Mapping[str, Mail]) -> list[str]:
    """The mails above this one, nearest first: its own headers, then those of its parents."""
    found: dict[str, None] = {}
    level = [mail]
    while level and len(found) < MAX_DEPTH:
        parents = [parent for one in level for parent in one.parents]
        fresh = [parent for parent in dict.fromkeys(parents) if parent not in found]
        found.update(dict.fromkeys(fresh))
        level = [known[parent] for parent in fresh if parent in known]
    found.pop(mail.message_id, None)
    return list(found)


def _root(mail: Mail, known: Mapping[str, Mail], roots: set[str]) -> str | None:
    """The nearest of ``roots`` that this patch answers and that is of the same sending."""
    for ancestor in _ancestors(mail, known):
        if ancestor in roots:
            root = known[ancestor]
            if (root.from_address, root.total, root.version) == (
                mail.from_address,
                mail.total,
                mail.version,
            ):
                return ancestor
    return None


def _posting(root: Mail, slots: Mapping[int, Mail], known: Mapping[str, Mail]) -> Posting:
    patches = tuple(
        PostedPatch(
            index=index,
            message_id=slots[index].message_id,
            title=slots[index].title,
            new_files=slots[index].new_files,
        )
        for index in sorted(slots)
    )
    created = [*root.new_files, *(path for patch in patches for path in patch.new_files)]
    return Posting(
        root=root.message_id,
        sender=root.from_address,
        title=root.title,
        version=root.version,
        total=root.total,
        cover=root.message_id if root.kind is MailKind.COVER else None,
        patches=patches,
        change_id=root.change_id,
        new_files=tuple(sorted(set(created))),
        ancestors=tuple(_ancestors(root, known)),
        links=root.links,
        first_seen=root.received_at or root.date,
    )


def _reasons(posting: Posting, known: Posting) -> set[Reason]:
    """What makes ``posting`` a later version of one known posting."""
    reasons = set()
    if posting.change_id is not None and posting.change_id == known.change_id:
        reasons.add(Reason.CHANGE_ID)
    same = (normalised(posting.title), posting.sender) == (normalised(known.title), known.sender)
    if same and posting.version > known.version:
        reasons.add(Reason.NEWER_VERSION)
    # A reviewer's single patch in the thread is an answer to the series, not the series.
    alike = posting.cover is not None or posting.total == known.total
    if alike and set(known.message_ids) & {*posting.ancestors, *posting.links}:
        reasons.add(Reason.THREAD)
    ours = {normalised(patch.title) for patch in posting.patches}
    theirs = {normalised(patch.title) for patch in known.patches}
    if ours and 2 * len(ours & theirs) >= max(len(ours), len(theirs)):
        reasons.add(Reason.PATCH_TITLES)
    if set(posting.new_files) & set(known.new_files):
        reasons.add(Reason.NEW_FILES)
    return reasons
