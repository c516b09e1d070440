# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands as they were given and answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.lab.command import (
    AcceptSeries,
    Command,
    CommandState,
    Look,
    ProveHost,
    Refuse,
    RejectMail,
    ReleaseMail,
    Retest,
    SetHost,
    Verb,
)
from kwatch.domain.lab.job import JobKind
from kwatch.store import hosts, lanes, mail, motion, queue, revisions, series

if TYPE_CHECKING:
    from kwatch.domain.lab.command import Order
    from kwatch.store.database import Transaction

SHORTEST_PREFIX = 6


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


def answer(tx: Transaction, number: int, state: CommandState, text: str) -> None:
    """Store what became of a command."""
    tx.execute("UPDATE command SET state = ?, answer = ? WHERE id = ?", (state, text, number))


def execute(tx: Transaction, order: Order, *, now: float) -> tuple[CommandState, str]:
    """Carry out an order; what became of it, and the answer."""
    match order:
        case Refuse():
            return CommandState.REFUSED, order.reason
        case AcceptSeries():
            return _accept_series(tx, order, now=now)
        case ReleaseMail():
            return _release_mail(tx, order.number, now=now)
        case RejectMail():
            return _reject_mail(tx, order.number, now=now)
        case Look():
            queue.demand(tx, order.kind, order.name, now=now)
            return CommandState.DONE, f"looking at {order.source}"
        case Retest():
            return _retest(tx, order, now=now)
        case SetHost():
            hosts.note(tx, order.name, order.state, now=now)
            return CommandState.DONE, order.answer
        case ProveHost():
            hosts.prove(tx, order.name, order.accelerator, order.seconds, now=now)
            return CommandState.DONE, f"{order.name}: {order.accelerator.upper()} is proven"
        case _:
            assert_never(order)


def _accept_series(tx: Transaction, order: AcceptSeries, *, now: float) -> tuple[CommandState, str]:
    """The newest revision of each tree is planned with it."""
    if len(order.prefix) < SHORTEST_PREFIX:
        return (
            CommandState.REFUSED,
            f"{order.prefix!r} is too short: give {SHORTEST_PREFIX} digits or more",
        )
    found = [one for one in series.newest_first(tx) if one.digest.startswith(order.prefix)]
    if len(found) != 1:
        return (
            CommandState.REFUSED,
            f"no single series starts with {order.prefix!r}: see 'kwatch series'",
        )
    series.accept(tx, found[0].digest, by=order.by)
    motion.plan_newest(tx, now=now)
    return CommandState.DONE, f"accepted: {found[0].title}"


def _release_mail(tx: Transaction, number: int, *, now: float) -> tuple[CommandState, str]:
    """An earlier mail of its thread must not be held either."""
    if not mail.release(tx, number):
        reason = (
            f"no held mail has the number {number}, or an earlier one of its thread is held:"
            " see 'kwatch report list'"
        )
        return CommandState.REFUSED, reason
    for ready in mail.ready_in_thread_of(tx, number):
        queue.demand(tx, JobKind.SEND, str(ready), now=now)
    return CommandState.DONE, f"mail {number} is on its way"


def _reject_mail(tx: Transaction, number: int, *, now: float) -> tuple[CommandState, str]:
    if mail.reject(tx, number, now=now):
        return CommandState.DONE, f"mail {number} is rejected and is never sent"
    return (
        CommandState.REFUSED,
        f"no held mail has the number {number}: see 'kwatch report list'",
    )


def _retest(tx: Transaction, order: Retest, *, now: float) -> tuple[CommandState, str]:
    """Trials that the lab failed at are tried again; others get one more sample."""
    revision = revisions.find(tx, order.tree, order.tag)
    planned = lanes.planned(tx, revision, order.variant) if revision is not None else ()
    if revision is None or not planned:
        what = f"{order.tree} {order.tag} {order.variant or ''}".rstrip()
        return CommandState.REFUSED, f"nothing is planned for {what}: see 'kwatch status'"
    for lane, number in planned:
        motion.retest(tx, lane, revision, number, now=now)
    many = "1 trial is" if len(planned) == 1 else f"{len(planned)} trials are"
    return CommandState.DONE, f"{order.tree} {order.tag}: {many} tested again"
