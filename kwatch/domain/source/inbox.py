# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the postings of a watched series without reading every mail that is stored.

A posting depends on the mails of its thread alone; whether it follows another one, on what the
two share: a change-id, titles, new files, a link. Each stored mail is indexed by these keys, so
only related threads are loaded, and the result is that of an assembly of everything.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kwatch.domain.source.message import Mail, normalised
from kwatch.domain.source.posting import Posting, assemble, follows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kwatch.domain.source.posting import SeriesRule

MAX_RELATED = 20_000
"""Mails that are looked at for one series; more than that is an attack."""

MAX_ROUNDS = 100
"""Generations of successors that are found in one look."""

_KEY = 200


class Inbox(Protocol):
    """The stored cover letters and patches. One of each Message-ID: the first that came."""

    def get(self, message_ids: Collection[str]) -> Iterable[Mail]:
        """Those of these mails that are stored."""
        ...

    def having(self, keys: Collection[str]) -> Iterable[Mail]:
        """The mails with any of these keys."""
        ...

    def titles(self) -> Iterable[tuple[str, str]]:
        """Message-ID and title of each mail that can be the root of a posting."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The complete postings of a series, oldest first. ``cut``: MAX_RELATED or MAX_ROUNDS hit."""

    postings: tuple[Posting, ...]
    mails: Mapping[str, Mail]
    cut: bool


def keys_of(mail: Mail) -> frozenset[str]:
    """The keys that a mail is found by."""
    return frozenset(
        [
            *(f"answers {parent}" for parent in mail.parents),
            *(f"links {link}" for link in mail.links),
            *(f"creates {path}" for path in mail.new_files),
            f"title {normalised(mail.title)[:_KEY]}",
            *([f"change {mail.change_id}"] if mail.change_id else []),
        ]
    )


def find(rule: SeriesRule, fresh: Collection[str], inbox: Inbox) -> Found:
    """The complete postings of the watched series, the threads of the ``fresh`` mails included.

    They are the same, in the same order, as if all stored mails were assembled at once.
    """
    patterns = [pattern.casefold() for pattern in rule.titles]
    named = [
        message_id
        for message_id, title in inbox.titles()
        if any(fnmatch.fnmatchcase(title.casefold(), pattern) for pattern in patterns)
    ]
    related = _Related(inbox)
    related.add(inbox.get({*fresh, *named}))
    related.add(inbox.having([f"creates {path}" for path in rule.files]))
    looked_for: set[str] = set()
    members: list[Posting] = []
    for _ in range(MAX_ROUNDS):
        members = []
        for posting in assemble(related.mails.values()):
            if follows(posting, rule, members) is not None:
                members.append(posting)
        keys = {key for one in members for key in _successor_keys(one)} - looked_for
        looked_for |= keys
        if not related.add(inbox.having(keys)):
            break
    else:
        related.cut = True
    return Found(
        postings=tuple(one for one in members if one.complete),
        mails=related.mails,
        cut=related.cut,
    )


def _successor_keys(posting: Posting) -> Iterable[str]:
    """The keys of mails whose postings may follow ``posting``; its own thread aside."""
    for title in (posting.title, *(patch.title for patch in posting.patches)):
        yield f"title {normalised(title)[:_KEY]}"
    yield from (f"links {message_id}" for message_id in posting.message_ids)
    yield from (f"creates {path}" for path in posting.new_files)
    if posting.change_id:
        yield f"change {posting.change_id}"


class _Related:
    """Mails with the whole thread of each, as far as it is stored."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.mails: dict[str, Mail] = {}
        self.cut = False

    def add(self, mails: Iterable[Mail]) -> bool:
        """Add mails and their threads; False if all were there."""
        before = len(self.mails)
        new = self._new(mails)
        while new:
            parents = {parent for one in new for parent in one.parents} - self.mails.keys()
            answers = [f"answers {one.message_id}" for one in new]
            new = self._new([*self._inbox.get(parents), *self._inbox.having(answers)])
        return len(self.mails) > before

    def _new(self, mails: Iterable[Mail]) -> list[Mail]:
        new = {one.message_id: one for one in mails if one.message_id not in self.mails}
        if len(self.mails) + len(new) > MAX_RELATED:
            self.cut = True
            return []
        self.mails.update(new)
        return list(new.values())


class WithFresh:
    """An inbox and mails that are not stored yet; of one Message-ID the stored mail counts."""

    def __init__(self, stored: Inbox, fresh: Iterable[Mail]) -> None:
        self._stored = stored
        firsts: dict[str, Mail] = {}
        for one in fresh:
            firsts.setdefault(one.message_id, one)
        for one in stored.get(firsts.keys()):
            del firsts[one.message_id]
        self._fresh = firsts
        self._by_key: dict[str, list[Mail]] = {}
        for one in firsts.values():
            for key in keys_of(one):
                self._by_key.setdefault(key, []).append(one)

    def get(self, message_ids: Collection[str]) -> Iterable[Mail]:
        """See Inbox."""
        yield from self._stored.get(message_ids)
        yield from (self._fresh[one] for one in message_ids if one in self._fresh)

    def having(self, keys: Collection[str]) -> Iterable[Mail]:
        """See Inbox."""
        yield from self._stored.having(keys)
        yield from (one for key in keys for one in self._by_key.get(key, ()))

    def titles(self) -> Iterable[tuple[str, str]]:
        """See Inbox."""
        yield from self._stored.titles()
        yield from ((one.message_id, one.title) for one in self._fresh.values() if one.index <= 1)
