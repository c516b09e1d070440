# SPDX-License-Identifier: GPL-2.0-or-later
"""Investigations: where each stands, what it asked for, what it found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.lab.job import JobKind
from kwatch.domain.trial.seen import Seen
from kwatch.domain.verdict.lane import TagRun
from kwatch.domain.verdict.question import Answer, Ask, Goal, Phase, Question
from kwatch.store import lanes, queue, trials
from kwatch.store.codec import decode_optional, encode
from kwatch.store.trials import StoredTrial

if TYPE_CHECKING:
    import sqlite3

    from kwatch.domain.trial.trial import Trial
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigation:
    """An investigation as it stands; ``answer`` is None while it goes on.

    Either ``regression`` is what it is about, with the lane (number) whose tag is in question, or
    ``question``, without suspects, is what somebody wants to know.
    """

    id: int
    regression: int | None
    question: Question | None
    goal: Goal
    lane: int | None
    fixed: TagRun | None
    phase: Phase
    remaining: int | None
    seconds_left: float | None
    answer: Answer | None
    opened_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvestigationStep:
    """A trial that an investigation asked for, in the phase in which it did.

    ``seen`` is what it showed, None while it is not settled.
    """

    trial: StoredTrial
    seen: Seen | None
    phase: Phase
    at: float


def open_investigation(
    tx: Transaction, regression: int, goal: Goal, *, lane: int, fixed: TagRun | None, now: float
) -> int | None:
    """Open an investigation into a regression in a lane; its number.

    None if one with this goal goes on there, or if this very fix was investigated before.
    """
    revision, trial = (fixed.revision, fixed.number) if fixed else (None, None)
    is_known = tx.execute(
        "SELECT 1 FROM investigation WHERE regression_id = ? AND goal = ? AND lane = ?"
        " AND (ended_at IS NULL OR fixed_trial = ?)",
        (regression, goal, lane, trial),
    ).fetchone()
    if is_known:
        return None
    row = tx.execute(
        "INSERT INTO investigation (regression_id, goal, lane, fixed_revision, fixed_trial, phase,"
        " opened_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (regression, goal, lane, revision, trial, Phase.CONFIRM, now),
    ).fetchone()
    return int(row["id"])


def open_question(tx: Transaction, question: Question, *, now: float) -> int:
    """Open an investigation that is about no regression; its number."""
    row = tx.execute(
        "INSERT INTO investigation (goal, question, phase, opened_at) VALUES (?, ?, ?, ?)"
        " RETURNING id",
        (question.goal, encode(replace(question, suspects={})), Phase.CONFIRM, now),
    ).fetchone()
    number = int(row["id"])
    queue.enqueue(tx, JobKind.INVESTIGATE, str(number), now=now)
    return number


def load(tx: Transaction, number: int) -> Investigation:
    """One investigation."""
    row = tx.execute("SELECT * FROM investigation WHERE id = ?", (number,)).fetchone()
    return _investigation(tx, row)


def of_regression(tx: Transaction, regression: int) -> tuple[Investigation, ...]:
    """All investigations into a regression, in order."""
    rows = tx.execute(
        "SELECT * FROM investigation WHERE regression_id = ? ORDER BY id", (regression,)
    ).fetchall()
    return tuple(_investigation(tx, row) for row in rows)


def note_progress(tx: Transaction, number: int, ask: Ask) -> None:
    """Where an investigation stands."""
    tx.execute(
        "UPDATE investigation SET phase = ?, remaining = ?, seconds_left = ? WHERE id = ?",
        (ask.phase, ask.remaining, ask.seconds_left, number),
    )


def pending(tx: Transaction, number: int) -> frozenset[Trial]:
    """The trials that an investigation asked for and that are not settled."""
    rows = tx.execute(
        f"{trials.SELECT} JOIN want ON want.trial = trial.id"
        " WHERE asker_kind = ? AND asker_key = ? AND outcome IS NULL",
        (JobKind.INVESTIGATE, str(number)),
    )
    return frozenset(map(trials.trial_of, rows))


def note_step(tx: Transaction, number: int, trial: int, phase: Phase, *, now: float) -> None:
    """An investigation asks for a trial; the first time counts."""
    tx.execute(
        "INSERT INTO investigation_step (investigation, position, trial, phase, at) SELECT ?,"
        " count(*), ?, ?, ? FROM investigation_step WHERE investigation = ? ON CONFLICT DO NOTHING",
        (number, trial, phase, now, number),
    )


def steps(tx: Transaction, number: int) -> tuple[InvestigationStep, ...]:
    """The trials that an investigation asked for, in that order."""
    rows = tx.execute(
        "SELECT trial, phase, at FROM investigation_step WHERE investigation = ? ORDER BY position",
        (number,),
    ).fetchall()
    return tuple(
        InvestigationStep(
            trial=found,
            seen=trials.seen(tx, found),
            phase=Phase(row["phase"]),
            at=row["at"],
        )
        for row in rows
        for found in [trials.load(tx, row["trial"])]
    )


def close(tx: Transaction, number: int, answer: Answer, *, now: float) -> None:
    """The answer is there; nothing is wanted any more."""
    tx.execute(
        "UPDATE investigation SET answer = ?, remaining = NULL, seconds_left = NULL, ended_at = ?"
        " WHERE id = ?",
        (encode(answer), now, number),
    )
    tx.execute(
        "DELETE FROM want WHERE asker_kind = ? AND asker_key = ?",
        (JobKind.INVESTIGATE, str(number)),
    )


def _investigation(tx: Transaction, row: sqlite3.Row) -> Investigation:
    fixed = row["fixed_revision"]
    return Investigation(
        id=row["id"],
        regression=row["regression_id"],
        question=decode_optional(Question, row["question"]),
        goal=Goal(row["goal"]),
        lane=row["lane"],
        fixed=lanes.run(tx, fixed, row["fixed_trial"]) if fixed is not None else None,
        phase=Phase(row["phase"]),
        remaining=row["remaining"],
        seconds_left=row["seconds_left"],
        answer=decode_optional(Answer, row["answer"]),
        opened_at=row["opened_at"],
        ended_at=row["ended_at"],
    )
