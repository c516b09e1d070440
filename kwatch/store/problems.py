# SPDX-License-Identifier: GPL-2.0-or-later
"""Regressions, their timelines, and the investigations into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kwatch.domain.finding import Finding
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.investigation import Answer, Goal, Phase
from kwatch.domain.verdict.regression import (
    OPEN_STATES,
    TRANSITIONS,
    Regression,
    RegressionEvent,
    RegressionState,
    TagResult,
)
from kwatch.store.codec import decode, decode_optional, encode
from kwatch.store.queue import marks

if TYPE_CHECKING:
    import sqlite3

    from kwatch.domain.trial.observation import Trial
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One entry of a regression's timeline. ``detail`` is what :func:`add_event` was given."""

    id: int
    regression: int
    kind: RegressionEvent
    at: float
    detail: Mapping[str, Any]
    reported_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigation:
    """An investigation as it stands; ``answer`` is None while it goes on."""

    id: int
    regression: int
    goal: Goal
    fixed: TagResult | None
    phase: Phase
    remaining: int | None
    answer: Answer | None
    opened_at: float
    ended_at: float | None


def open_regression(tx: Transaction, regression: Regression, *, now: float) -> int:
    """Store a regression that is SUSPECTED (its id is ignored); its number."""
    row = tx.execute(
        "INSERT INTO regression (tree, variant, variant_name, fingerprint, milestone, finding,"
        " good, bad, state, opened_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            regression.tree, regression.variant, regression.variant_name, regression.fingerprint,
            regression.milestone, encode(regression.finding), encode(regression.good),
            encode(regression.bad), RegressionState.SUSPECTED, now,
        ),
    ).fetchone()  # fmt: skip
    number = int(row["id"])
    add_event(tx, number, RegressionEvent.OPENED, {"tag": regression.bad.tag}, now=now)
    return number


def advance(
    tx: Transaction,
    number: int,
    event: RegressionEvent,
    detail: Mapping[str, object],
    *,
    now: float,
) -> bool:
    """Let ``event`` happen to a regression; False if it cannot in its state (it came twice)."""
    state = regression(tx, number).state
    after = TRANSITIONS.get((state, event))
    if after is None:
        return False
    tx.execute("UPDATE regression SET state = ? WHERE id = ?", (after, number))
    add_event(tx, number, event, detail, now=now)
    return True


def add_event(
    tx: Transaction,
    number: int,
    event: RegressionEvent,
    detail: Mapping[str, object],
    *,
    now: float,
) -> None:
    """Write an event into a regression's timeline."""
    tx.execute(
        "INSERT INTO regression_event (regression_id, kind, at, detail) VALUES (?, ?, ?, ?)",
        (number, event, now, json.dumps(detail)),
    )


def regression(tx: Transaction, number: int) -> Regression:
    """One regression."""
    return _regression(tx.execute("SELECT * FROM regression WHERE id = ?", (number,)).fetchone())


def regressions(tx: Transaction) -> tuple[Regression, ...]:
    """All of them, newest first."""
    return tuple(map(_regression, tx.execute("SELECT * FROM regression ORDER BY id DESC")))


def open_regressions(tx: Transaction, tree: str, variant: str) -> tuple[Regression, ...]:
    """Those of a tree in a variant that are neither fixed nor invalid."""
    rows = tx.execute(
        f"SELECT * FROM regression WHERE tree = ? AND variant = ?"
        f" AND state IN ({marks(OPEN_STATES)}) ORDER BY id",
        (tree, variant, *OPEN_STATES),
    )
    return tuple(map(_regression, rows))


def rename(tx: Transaction, trial: Trial, before: Finding, after: Finding) -> None:
    """What a regression was opened for has another name since its logs were read again."""
    rows = tx.execute(
        f"SELECT * FROM regression WHERE variant = ? AND fingerprint = ?"
        f" AND state IN ({marks(OPEN_STATES)})",
        (trial.variant, before.fingerprint, *OPEN_STATES),
    ).fetchall()
    for row in rows:
        found = _regression(row)
        if found.bad.commit != trial.commit:
            continue
        bad = replace(found.bad, finding=after)
        tx.execute(
            "UPDATE regression SET fingerprint = ?, finding = ?, bad = ? WHERE id = ?",
            (after.fingerprint, encode(after), encode(bad), found.id),
        )


def timeline(tx: Transaction, number: int) -> tuple[StoredEvent, ...]:
    """What happened to a regression, in order."""
    rows = tx.execute(
        "SELECT * FROM regression_event WHERE regression_id = ? ORDER BY id", (number,)
    )
    return tuple(
        StoredEvent(
            id=row["id"],
            regression=row["regression_id"],
            kind=RegressionEvent(row["kind"]),
            at=row["at"],
            detail=json.loads(row["detail"]),
            reported_at=row["reported_at"],
        )
        for row in rows
    )


def mark_reported(tx: Transaction, event: int, *, now: float) -> None:
    """An event is dealt with: a mail was written, or it is not worth one."""
    tx.execute(
        "UPDATE regression_event SET reported_at = ? WHERE id = ? AND reported_at IS NULL",
        (now, event),
    )


def open_investigation(
    tx: Transaction, number: int, goal: Goal, *, fixed: TagResult | None, now: float
) -> int | None:
    """Open an investigation into a regression unless one with this goal is open; its number."""
    known = tx.execute(
        "SELECT 1 FROM investigation WHERE regression_id = ? AND goal = ? AND ended_at IS NULL"
        " OR regression_id = ? AND goal = ? AND fixed = ?",
        (number, goal, number, goal, encode(fixed) if fixed else None),
    ).fetchone()
    if known:
        return None
    row = tx.execute(
        "INSERT INTO investigation (regression_id, goal, fixed, phase, opened_at)"
        " VALUES (?, ?, ?, ?, ?) RETURNING id",
        (number, goal, encode(fixed) if fixed else None, Phase.CONFIRM, now),
    ).fetchone()
    return int(row["id"])


def investigation(tx: Transaction, number: int) -> Investigation:
    """One investigation."""
    row = tx.execute("SELECT * FROM investigation WHERE id = ?", (number,)).fetchone()
    return _investigation(row)


def investigations(tx: Transaction, regression_number: int) -> tuple[Investigation, ...]:
    """All investigations into a regression, in order."""
    rows = tx.execute(
        "SELECT * FROM investigation WHERE regression_id = ? ORDER BY id", (regression_number,)
    )
    return tuple(map(_investigation, rows))


def open_investigations(tx: Transaction) -> tuple[Investigation, ...]:
    """Those that go on."""
    rows = tx.execute("SELECT * FROM investigation WHERE ended_at IS NULL ORDER BY id")
    return tuple(map(_investigation, rows))


def note_progress(tx: Transaction, number: int, phase: Phase, remaining: int | None) -> None:
    """Where an investigation stands."""
    tx.execute(
        "UPDATE investigation SET phase = ?, remaining = ? WHERE id = ?",
        (phase, remaining, number),
    )


def close_investigation(tx: Transaction, number: int, answer: Answer, *, now: float) -> None:
    """The answer is there; nothing is wanted any more."""
    tx.execute(
        "UPDATE investigation SET answer = ?, remaining = NULL, ended_at = ? WHERE id = ?",
        (encode(answer), now, number),
    )
    tx.execute(
        "DELETE FROM want WHERE asker_kind = ? AND asker_key = ?",
        (JobKind.INVESTIGATE, str(number)),
    )


def _regression(row: sqlite3.Row) -> Regression:
    return Regression(
        id=row["id"],
        tree=row["tree"],
        variant=row["variant"],
        variant_name=row["variant_name"],
        finding=decode(Finding, row["finding"]),
        milestone=Milestone(row["milestone"]),
        good=decode(TagResult, row["good"]),
        bad=decode(TagResult, row["bad"]),
        state=RegressionState(row["state"]),
        opened_at=row["opened_at"],
    )


def _investigation(row: sqlite3.Row) -> Investigation:
    return Investigation(
        id=row["id"],
        regression=row["regression_id"],
        goal=Goal(row["goal"]),
        fixed=decode_optional(TagResult, row["fixed"]),
        phase=Phase(row["phase"]),
        remaining=row["remaining"],
        answer=decode_optional(Answer, row["answer"]),
        opened_at=row["opened_at"],
        ended_at=row["ended_at"],
    )
