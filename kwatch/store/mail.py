# SPDX-License-Identifier: GPL-2.0-or-later
"""Mail in and out: patch mails that wait for their posting, and the outbox.

A Message-ID is stored before SMTP ever sees it. A crash after the server took the mail sends it
once more under the same Message-ID, so that it stands in the archive once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.facts import ListMail
from kwatch.domain.mail.story import DeliveryState, MailState, ReportKind, first_state

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from kwatch.domain.mail.story import Delivery, Letter, Release
    from kwatch.store.database import Transaction

# A recipient that the server put off is tried again after this.
RETRY_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMail:
    """A mail of the outbox. ``waiting`` are the recipients that have not got it."""

    id: int
    message_id: str
    thread: str
    event: int | None
    kind: ReportKind
    subject: str
    envelope_from: str
    message: bytes
    state: MailState
    error: str | None
    created_at: float
    sent_at: float | None
    recipients: tuple[str, ...]
    waiting: tuple[str, ...]


def keep_postings(tx: Transaction, source: str, mails: Sequence[ListMail]) -> None:
    """Keep patch mails until their posting is complete; a Message-ID counts once."""
    tx.executemany(
        "INSERT INTO posting_mail (message_id, list, received_at, raw) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        [(mail.message_id, source, mail.received_at, mail.raw) for mail in mails],
    )


def posting_mails(tx: Transaction, *, since: float) -> tuple[ListMail, ...]:
    """The patch mails of all lists that came after ``since``, in the order they came.

    What several lists carry is kept once, under whichever had it first.
    """
    rows = tx.execute(
        "SELECT message_id, received_at, raw FROM posting_mail WHERE received_at >= ?"
        " ORDER BY received_at, message_id",
        (since,),
    )
    return tuple(
        ListMail(message_id=row["message_id"], received_at=row["received_at"], raw=row["raw"])
        for row in rows
    )


def put_letter(tx: Transaction, letter: Letter, release: Release, *, now: float) -> int | None:
    """Put a letter into the outbox; its number if it may leave now.

    An event has one letter for ever: a second one for the same event is ignored.
    """
    state = first_state(release)
    row = tx.execute(
        "INSERT INTO mail (message_id, thread, event_id, kind, subject, envelope_from, message,"
        " state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (event_id) DO NOTHING RETURNING id",
        (
            letter.message_id, letter.thread, letter.event, letter.kind, letter.subject,
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
    """Let a held mail go; False if it is not held."""
    row = tx.execute(
        "UPDATE mail SET state = ? WHERE id = ? AND state = ? RETURNING id",
        (MailState.READY, number, MailState.HELD),
    ).fetchone()
    return row is not None


def waits_for(tx: Transaction, number: int) -> int | None:
    """An earlier mail of the same thread that is on its way and that nobody has got yet."""
    row = tx.execute(
        "SELECT min(earlier.id) AS id FROM mail JOIN mail AS earlier USING (thread)"
        " WHERE mail.id = ? AND earlier.id < mail.id AND earlier.sent_at IS NULL"
        " AND earlier.state IN (?, ?)",
        (number, MailState.READY, MailState.SENDING),
    ).fetchone()
    found: int | None = row["id"]
    return found


def start_sending(tx: Transaction, number: int) -> StoredMail | None:
    """Mark a mail as being handed over; None if it is held, sent or given up."""
    row = tx.execute(
        "UPDATE mail SET state = ? WHERE id = ? AND state IN (?, ?) RETURNING *",
        (MailState.SENDING, number, MailState.READY, MailState.SENDING),
    ).fetchone()
    return None if row is None else _mail(tx, row)


def note_deliveries(
    tx: Transaction, number: int, deliveries: Sequence[Delivery], *, now: float
) -> bool:
    """What the server said; True if somebody must be tried again."""
    tx.executemany(
        "UPDATE recipient SET state = ?, answer = ? WHERE mail_id = ? AND address = ?",
        [(item.state, item.answer, number, item.address) for item in deliveries],
    )
    states = {
        DeliveryState(row["state"])
        for row in tx.execute("SELECT state FROM recipient WHERE mail_id = ?", (number,))
    }
    if DeliveryState.DEFERRED in states:
        state = MailState.READY
    elif DeliveryState.ACCEPTED in states:
        state = MailState.SENT
    else:
        state = MailState.FAILED
    tx.execute(
        "UPDATE mail SET state = ?, sent_at = coalesce(sent_at, ?), error = NULL WHERE id = ?",
        (state, now if DeliveryState.ACCEPTED in states else None, number),
    )
    return state is MailState.READY


def abandon(tx: Transaction, number: int) -> None:
    """No server took the mail for as long as it is worth trying."""
    tx.execute(
        "UPDATE mail SET state = ? WHERE id = ? AND state IN (?, ?)",
        (MailState.FAILED, number, MailState.READY, MailState.SENDING),
    )


def thread(tx: Transaction, name: str) -> tuple[StoredMail, ...]:
    """The mails of a thread, the root first."""
    rows = tx.execute("SELECT * FROM mail WHERE thread = ? ORDER BY id", (name,)).fetchall()
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
        thread=row["thread"],
        event=row["event_id"],
        kind=ReportKind(row["kind"]),
        subject=row["subject"],
        envelope_from=row["envelope_from"],
        message=row["message"],
        state=MailState(row["state"]),
        error=row["error"],
        created_at=row["created_at"],
        sent_at=row["sent_at"],
        recipients=tuple(item["address"] for item in recipients),
        waiting=tuple(
            item["address"] for item in recipients if item["state"] == DeliveryState.DEFERRED
        ),
    )
