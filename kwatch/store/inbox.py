# SPDX-License-Identifier: GPL-2.0-or-later
"""Cover letters and patches of lists, parsed once, until their postings are complete.

``posting_mail`` has the parsed headers, ``posting_raw`` the mails as they came, ``posting_key``
what a mail is found by (see domain/source/inbox.py).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kwatch.domain.source.inbox import keys_of
from kwatch.domain.source.message import Mail, MailKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from kwatch.domain.facts import ListMail
    from kwatch.store.database import Transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "message_id", "received_at", "sent_at", "kind", "part", "total", "version", "author",
    "address", "subject", "title", "prefixes", "in_reply_to", "refs", "has_diff", "new_files",
    "links", "change_id", "base_commit", "digest", "patch",
)  # fmt: skip


def keep(tx: Transaction, source: str, mails: Sequence[ListMail]) -> None:
    """Keep what the list ``source`` carried. A Message-ID counts once, whatever came later."""
    for one in mails:
        mail = one.mail
        stored = tx.execute(
            f"INSERT INTO posting_mail ({', '.join(_COLUMNS)})"
            f" VALUES ({', '.join('?' for _ in _COLUMNS)}) ON CONFLICT DO NOTHING"
            " RETURNING message_id",
            _row(mail),
        ).fetchone()
        tx.execute(
            "INSERT INTO posting_list (message_id, list) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (mail.message_id, source),
        )
        if stored is None:
            continue
        tx.execute(
            "INSERT INTO posting_raw (message_id, raw) VALUES (?, ?)", (mail.message_id, one.raw)
        )
        tx.executemany(
            "INSERT INTO posting_key (key, message_id) VALUES (?, ?)",
            [(key, mail.message_id) for key in keys_of(mail)],
        )


def raw(tx: Transaction, message_id: str) -> bytes | None:
    """A mail as it came."""
    row = tx.execute("SELECT raw FROM posting_raw WHERE message_id = ?", (message_id,)).fetchone()
    return row["raw"] if row else None


def size(tx: Transaction, message_id: str) -> int:
    """Bytes of a mail as it came, 0 if it is not stored."""
    row = tx.execute(
        "SELECT length(raw) AS size FROM posting_raw WHERE message_id = ?", (message_id,)
    ).fetchone()
    return row["size"] if row else 0


class Stored:
    """The mails of all lists that came after ``since``: an Inbox of the domain."""

    def __init__(self, tx: Transaction, *, since: float) -> None:
        self._tx = tx
        self._since = since

    def get(self, message_ids: Collection[str]) -> Iterable[Mail]:
        """See domain/source/inbox.py."""
        return self._mails("SELECT value FROM json_each(?)", message_ids)

    def having(self, keys: Collection[str]) -> Iterable[Mail]:
        """See domain/source/inbox.py."""
        return self._mails(
            "SELECT message_id FROM posting_key WHERE key IN (SELECT value FROM json_each(?))", keys
        )

    def titles(self) -> Iterable[tuple[str, str]]:
        """See domain/source/inbox.py."""
        rows = self._tx.execute(
            "SELECT message_id, title FROM posting_mail WHERE part <= 1 AND received_at >= ?",
            (self._since,),
        )
        return ((row["message_id"], row["title"]) for row in rows)

    def _mails(self, chosen: str, values: Collection[str]) -> Iterable[Mail]:
        if not values:
            return []
        rows = self._tx.execute(
            f"SELECT * FROM posting_mail WHERE message_id IN ({chosen}) AND received_at >= ?",
            (json.dumps(list(values)), self._since),
        )
        return [_mail(row) for row in rows]


def _row(mail: Mail) -> tuple[object, ...]:
    return (
        mail.message_id, _seconds(mail.received_at) or 0.0, _seconds(mail.date), mail.kind.name,
        mail.index, mail.total, mail.version, mail.from_name, mail.from_address, mail.subject,
        mail.title, json.dumps(mail.prefixes), mail.in_reply_to, json.dumps(mail.references),
        mail.has_diff, json.dumps(mail.new_files), json.dumps(mail.links), mail.change_id,
        mail.base_commit, mail.digest, mail.patch,
    )  # fmt: skip


def _mail(row: sqlite3.Row) -> Mail:
    return Mail(
        digest=row["digest"],
        patch=row["patch"],
        message_id=row["message_id"],
        in_reply_to=row["in_reply_to"],
        references=tuple(json.loads(row["refs"])),
        from_name=row["author"],
        from_address=row["address"],
        subject=row["subject"],
        date=None if row["sent_at"] is None else _EPOCH + timedelta(seconds=row["sent_at"]),
        received_at=_EPOCH + timedelta(seconds=row["received_at"]),
        kind=MailKind[row["kind"]],
        prefixes=tuple(json.loads(row["prefixes"])),
        title=row["title"],
        index=row["part"],
        total=row["total"],
        version=row["version"],
        has_diff=bool(row["has_diff"]),
        new_files=tuple(json.loads(row["new_files"])),
        links=tuple(json.loads(row["links"])),
        change_id=row["change_id"],
        base_commit=row["base_commit"],
    )


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else (when - _EPOCH).total_seconds()
