# SPDX-License-Identifier: GPL-2.0-or-later
"""The outbox.

A Message-ID is stored before SMTP sees it. A crash after the server took the mail sends it again
with the same Message-ID, so that the archive has it once. Every change of a mail's state goes
through the table in :mod:`kwatch.domain.mail.story`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.mail.letter import dated
from kwatch.domain.mail.story import (
    TRANSITIONS,
    DeliveryState,
    MailEvent,
    MailState,
    ReportKind,
    first_state,
)
from kwatch.store import notices

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from kwatch.domain.mail.story import Delivery, Letter, Release
    from kwatch.domain.mail.thread import Thread
    from kwatch.store.database import Transaction

# Seconds after which a deferred recipient is tried again.
RETRY_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMail:
    """A mail of the outbox. ``waiting`` are the recipients that have not got it."""

    id: int
    message_id: str
    kind: ReportKind
    subject: str
    envelope_from: str
    message: bytes
    state: MailState
    recipients: tuple[str, ...]
    waiting: tuple[str, ...]


def put_letter(tx: Transaction, letter: Letter, release: Release, *, now: float) -> int | None:
    """Put a letter into the outbox; its number if it may leave now.

    A notice has one letter for ever: a second one for the same notice is ignored.
    """
    state = first_state(release)
    row = tx.execute(
        "INSERT INTO mail (message_id, thread, notice, kind, subject, envelope_from, message,"
        " state, created_at) VALUES (?, (SELECT thread FROM notice WHERE id = ?), ?, ?, ?, ?, ?,"
        " ?, ?) ON CONFLICT (notice) DO NOTHING RETURNING id",
        (
            letter.message_id, letter.notice, letter.notice, letter.kind, letter.subject,
            letter.envelope_from, letter.message, state, now,
        ),
    ).fetchone()  # fmt: skip
    if row is None:
        return None
    tx.executemany(
        "INSERT INTO recipient (mail_id, address, state) VALUES (?, ?, ?)",
        [(row["id"], address, DeliveryState.DEFERRED) for address in letter.recipients],
    )
    return int(row["id"]) if state is MailState.READY else None


def release(tx: Transaction, number: int) -> bool:
    """Release a held mail; False if it is not held, or if an earlier one of its thread is.

    The mails of a thread are released in their order: each answers the one before.
    """
    earlier = tx.execute(
        "SELECT 1 FROM mail JOIN mail AS earlier USING (thread)"
        " WHERE mail.id = ? AND earlier.id < mail.id AND earlier.state = ?",
        (number, MailState.HELD),
    ).fetchone()
    if earlier is not None:
        return False
    return _advance(tx, number, MailEvent.RELEASE) is not None


def reject(tx: Transaction, number: int, *, now: float) -> bool:
    """Reject a held mail: it never goes out; False if it is not held.

    Later mails of its thread that have not gone out answer it: they are written again, as answers
    to the last mail that went out, or as the first of the thread.
    """
    if _advance(tx, number, MailEvent.REJECT) is None:
        return False
    _rewrite_later(tx, number, now=now)
    return True


def waits_for(tx: Transaction, number: int) -> tuple[int, MailState] | None:
    """The first earlier mail of the same thread that nobody has got yet but may get."""
    row = tx.execute(
        "SELECT earlier.id, earlier.state FROM mail JOIN mail AS earlier USING (thread)"
        " WHERE mail.id = ? AND earlier.id < mail.id AND earlier.sent_at IS NULL"
        " AND earlier.state IN (?, ?, ?) ORDER BY earlier.id LIMIT 1",
        (number, MailState.HELD, MailState.READY, MailState.SENDING),
    ).fetchone()
    return None if row is None else (row["id"], MailState(row["state"]))


def ready_in_thread_of(tx: Transaction, number: int) -> tuple[int, ...]:
    """The released mails in the thread of ``number``, oldest first."""
    rows = tx.execute(
        "SELECT other.id FROM mail JOIN mail AS other USING (thread)"
        " WHERE mail.id = ? AND other.state = ? ORDER BY other.id",
        (number, MailState.READY),
    )
    return tuple(row["id"] for row in rows)


def start_sending(tx: Transaction, number: int, *, now: float) -> StoredMail | None:
    """Mark a mail as being sent; None if it is held, or in a final state.

    The first attempt sets its Date. All later ones send the same bytes.
    """
    if _advance(tx, number, MailEvent.START) is None:
        return None
    row = tx.execute("SELECT * FROM mail WHERE id = ?", (number,)).fetchone()
    stored = _mail(tx, row)
    message = dated(stored.message, now)
    tx.execute("UPDATE mail SET message = ? WHERE id = ?", (message, number))
    return replace(stored, message=message)


def note_deliveries(
    tx: Transaction, number: int, deliveries: Sequence[Delivery], *, now: float
) -> bool:
    """Keep the server's answers; True if a recipient must be tried again."""
    tx.executemany(
        "UPDATE recipient SET state = ?, answer = ? WHERE mail_id = ? AND address = ?",
        [(item.state, item.answer, number, item.address) for item in deliveries],
    )
    states = {
        DeliveryState(row["state"])
        for row in tx.execute("SELECT state FROM recipient WHERE mail_id = ?", (number,))
    }
    is_accepted = DeliveryState.ACCEPTED in states
    if DeliveryState.DEFERRED in states:
        event = MailEvent.RETRY
    else:
        event = MailEvent.DELIVER if is_accepted else MailEvent.REFUSE
    if is_accepted:
        tx.execute("UPDATE mail SET sent_at = coalesce(sent_at, ?) WHERE id = ?", (now, number))
    after = _advance(tx, number, event)
    if after is MailState.FAILED:
        _rewrite_later(tx, number, now=now)
    return after is MailState.READY


def abandon(tx: Transaction, number: int, *, now: float) -> None:
    """Give up a mail whose send job was given up."""
    if _advance(tx, number, MailEvent.ABANDON) is None:
        return
    row = tx.execute("SELECT sent_at FROM mail WHERE id = ?", (number,)).fetchone()
    if row["sent_at"] is None:
        _rewrite_later(tx, number, now=now)


def _advance(tx: Transaction, number: int, event: MailEvent) -> MailState | None:
    """Change the state of a mail by the table; None, and no change, if ``event`` is not in it."""
    row = tx.execute("SELECT state FROM mail WHERE id = ?", (number,)).fetchone()
    after = TRANSITIONS.get((MailState(row["state"]), event)) if row else None
    if after is not None:
        tx.execute("UPDATE mail SET state = ? WHERE id = ?", (after, number))
    return after


def _rewrite_later(tx: Transaction, number: int, *, now: float) -> None:
    """Have the later mails of a thread written again, since nobody will get ``number``.

    No server has seen them: they wait for each earlier mail of the thread.
    """
    rows = tx.execute(
        "SELECT later.id, later.notice FROM mail JOIN mail AS later USING (thread)"
        " WHERE mail.id = ? AND later.id > mail.id AND later.sent_at IS NULL"
        " AND later.state IN (?, ?)",
        (number, MailState.HELD, MailState.READY),
    ).fetchall()
    for row in rows:
        tx.execute("DELETE FROM recipient WHERE mail_id = ?", (row["id"],))
        tx.execute("DELETE FROM mail WHERE id = ?", (row["id"],))
        notices.reopen(tx, row["notice"], now=now)


def thread(tx: Transaction, about: Thread) -> tuple[StoredMail, ...]:
    """The mails of a thread that went out or still may, the root first."""
    rows = tx.execute(
        "SELECT * FROM mail WHERE thread = ? AND (sent_at IS NOT NULL OR state NOT IN (?, ?))"
        " ORDER BY id",
        (notices.thread_of(tx, about), MailState.REJECTED, MailState.FAILED),
    ).fetchall()
    return tuple(_mail(tx, row) for row in rows)


def outbox(tx: Transaction) -> tuple[StoredMail, ...]:
    """All mails, newest first."""
    rows = tx.execute("SELECT * FROM mail ORDER BY id DESC").fetchall()
    return tuple(_mail(tx, row) for row in rows)


def own_message_ids(tx: Transaction) -> frozenset[str]:
    """Every Message-ID this lab ever made: what carries one of them is our own mail."""
    return frozenset(row["message_id"] for row in tx.execute("SELECT message_id FROM mail"))


def _mail(tx: Transaction, row: sqlite3.Row) -> StoredMail:
    recipients = tx.execute(
        "SELECT address, state FROM recipient WHERE mail_id = ? ORDER BY address",
        (row["id"],),
    ).fetchall()
    return StoredMail(
        id=row["id"],
        message_id=row["message_id"],
        kind=ReportKind(row["kind"]),
        subject=row["subject"],
        envelope_from=row["envelope_from"],
        message=row["message"],
        state=MailState(row["state"]),
        recipients=tuple(item["address"] for item in recipients),
        waiting=tuple(
            item["address"] for item in recipients if item["state"] == DeliveryState.DEFERRED
        ),
    )
