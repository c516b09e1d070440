# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands as they were given and answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.facts import CommandState
from kwatch.domain.lab.command import Command, Verb
from kwatch.domain.lab.job import JobKind
from kwatch.store import mail, queue, record, versions

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCommand:
    """A command and what became of it."""

    id: int
    command: Command
    state: CommandState
    answer: str | None


def give(tx: Transaction, command: Command, *, now: float) -> int:
    """Put a command into the queue; its number."""
    row = tx.execute(
        "INSERT INTO command (sender, verb, arguments, state, at) VALUES (?, ?, ?, ?, ?)"
        " RETURNING id",
        (command.sender, command.verb, command.argument, CommandState.ASKED, now),
    ).fetchone()
    queue.enqueue(tx, JobKind.COMMAND, str(row["id"]), now=now)
    return int(row["id"])


def load(tx: Transaction, number: int) -> StoredCommand:
    """One command."""
    row = tx.execute("SELECT * FROM command WHERE id = ?", (number,)).fetchone()
    return StoredCommand(
        id=row["id"],
        command=Command(sender=row["sender"], verb=Verb(row["verb"]), argument=row["arguments"]),
        state=CommandState(row["state"]),
        answer=row["answer"],
    )


def accept_series(tx: Transaction, prefix: str, *, by: str, now: float) -> str | None:
    """Accept the one series whose digest starts with ``prefix``; its title, or None.

    The newest revision of each tree is planned with it.
    """
    found = [one for one in versions.newest_first(tx) if one.digest.startswith(prefix)]
    if len(found) != 1 or len(prefix) < 6:
        return None
    versions.accept(tx, found[0].digest, by=by)
    record.plan_newest(tx, now=now)
    return found[0].title


def release_mail(tx: Transaction, number: int, *, now: float) -> bool:
    """Let a held mail go out; False if there is no such mail, or it is not held.

    An earlier mail of its thread must not be held either.
    """
    if not mail.release(tx, number):
        return False
    for ready in mail.ready_in_thread_of(tx, number):
        queue.demand(tx, JobKind.SEND, str(ready), now=now)
    return True


def reject_mail(tx: Transaction, number: int, *, now: float) -> bool:
    """Never send a held mail; False if there is no such mail, or it is not held."""
    return mail.reject(tx, number, now=now)
