# SPDX-License-Identifier: GPL-2.0-or-later
"""The outbox as people read it. Nothing here writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.mail.story import Delivery, DeliveryState, MailState, ReportKind

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class MailLine:
    """A mail of the outbox without its text."""

    id: int
    message_id: str
    thread: str
    kind: ReportKind
    subject: str
    state: MailState
    error: str | None
    created_at: float
    sent_at: float | None
    deliveries: tuple[Delivery, ...]


def mails(
    tx: Transaction,
    *,
    thread: str | None = None,
    state: MailState | None = None,
    number: int | None = None,
    limit: int,
) -> tuple[MailLine, ...]:
    """Mails that fit all that is given, newest first. ``thread`` is written ``regression:17``."""
    kind, _, owner = (thread or "").partition(":")
    rows = tx.execute(
        "SELECT mail.id, message_id, thread.kind || ':' || owner AS thread, mail.kind, subject,"
        " state, error, created_at, sent_at FROM mail JOIN thread ON thread.id = mail.thread"
        " WHERE (:thread IS NULL OR mail.thread = (SELECT id FROM thread"
        " WHERE kind = :kind AND owner = :owner)) AND (:state IS NULL OR state = :state)"
        " AND (:number IS NULL OR mail.id = :number) ORDER BY mail.id DESC LIMIT :limit",
        {
            "thread": thread, "kind": kind, "owner": owner, "state": state, "number": number,
            "limit": limit,
        },
    ).fetchall()  # fmt: skip
    return tuple(
        MailLine(
            id=row["id"],
            message_id=row["message_id"],
            thread=row["thread"],
            kind=ReportKind(row["kind"]),
            subject=row["subject"],
            state=MailState(row["state"]),
            error=row["error"],
            created_at=row["created_at"],
            sent_at=row["sent_at"],
            deliveries=_deliveries(tx, row["id"]),
        )
        for row in rows
    )


def text(tx: Transaction, number: int) -> bytes | None:
    """The whole mail as it goes out."""
    row = tx.execute("SELECT message FROM mail WHERE id = ?", (number,)).fetchone()
    return None if row is None else bytes(row["message"])


def _deliveries(tx: Transaction, number: int) -> tuple[Delivery, ...]:
    rows = tx.execute(
        "SELECT address, state, answer FROM recipient WHERE mail_id = ? ORDER BY address", (number,)
    )
    return tuple(
        Delivery(
            address=row["address"], state=DeliveryState(row["state"]), answer=row["answer"] or ""
        )
        for row in rows
    )
