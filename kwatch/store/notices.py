# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads of mail and their notices: what there is to report, and whether it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.thread import Thread, ThreadKind
from kwatch.store import queue

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that a thread may report.

    ``cause`` is what happened: in a thread about a regression, the number of one of its events.
    """

    id: int
    cause: str


def thread_number(tx: Transaction, thread: Thread) -> int:
    """The number of a thread, made if it is not there."""
    tx.execute(
        "INSERT INTO thread (kind, owner) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (thread.kind, thread.owner),
    )
    number = thread_of(tx, thread)
    assert number is not None  # noqa: S101 - it was inserted above
    return number


def thread_of(tx: Transaction, thread: Thread) -> int | None:
    """The number of a thread; None if it has nothing yet."""
    row = tx.execute(
        "SELECT id FROM thread WHERE kind = ? AND owner = ?", (thread.kind, thread.owner)
    ).fetchone()
    return None if row is None else int(row["id"])


def load_thread(tx: Transaction, number: int) -> Thread:
    """The thread of this number."""
    row = tx.execute("SELECT kind, owner FROM thread WHERE id = ?", (number,)).fetchone()
    return Thread(kind=ThreadKind(row["kind"]), owner=row["owner"])


def put(tx: Transaction, thread: Thread, cause: str, *, now: float) -> None:
    """A thread has something to report; a cause is reported once."""
    tx.execute(
        "INSERT INTO notice (thread, cause, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (thread_number(tx, thread), cause, now),
    )


def wake(tx: Transaction, thread: Thread, *, now: float) -> None:
    """Have the pending notices of a thread reported."""
    queue.enqueue(tx, JobKind.REPORT, str(thread_number(tx, thread)), now=now)


def pending(tx: Transaction, thread: int) -> tuple[Notice, ...]:
    """The notices of a thread that are not dealt with, in order."""
    rows = tx.execute(
        "SELECT id, cause FROM notice WHERE thread = ? AND handled_at IS NULL ORDER BY id",
        (thread,),
    )
    return tuple(Notice(id=row["id"], cause=row["cause"]) for row in rows)


def handled(tx: Transaction, number: int, *, now: float) -> None:
    """A notice is dealt with: a mail was written, or it is not worth one."""
    tx.execute(
        "UPDATE notice SET handled_at = ? WHERE id = ? AND handled_at IS NULL", (now, number)
    )


def reopen(tx: Transaction, number: int, *, now: float) -> None:
    """The mail of a notice was withdrawn before anybody got it: it is written again."""
    row = tx.execute(
        "UPDATE notice SET handled_at = NULL WHERE id = ? RETURNING thread", (number,)
    ).fetchone()
    queue.enqueue(tx, JobKind.REPORT, str(row["thread"]), now=now)
