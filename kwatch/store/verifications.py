# SPDX-License-Identifier: GPL-2.0-or-later
"""Verifications: clean builds of a culprit and its parents, which share a compiler cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.digest import digest
from kwatch.domain.lab.job import JobKind
from kwatch.domain.verdict.question import Phase

if TYPE_CHECKING:
    import sqlite3

    from kwatch.store.database import Transaction


def of_build(tx: Transaction, key: str) -> str | None:
    """The token of the verification that waits for a build, of the oldest where several do."""
    row = tx.execute(
        "SELECT investigation.id, opened_at FROM trial"
        " JOIN want ON want.trial = trial.id AND asker_kind = ?"
        " JOIN investigation ON investigation.id = CAST(asker_key AS INTEGER)"
        " JOIN investigation_step AS step"
        " ON step.investigation = investigation.id AND step.trial = trial.id"
        " WHERE waits_kind = ? AND waits_key = ? AND outcome IS NULL AND step.phase = ?"
        " AND ended_at IS NULL ORDER BY investigation.id LIMIT 1",
        (JobKind.INVESTIGATE, JobKind.BUILD, key, Phase.VERIFY),
    ).fetchone()
    return None if row is None else _token(row)


def alive(tx: Transaction) -> frozenset[str]:
    """The tokens of all verifications that go on."""
    rows = tx.execute(
        "SELECT id, opened_at FROM investigation WHERE ended_at IS NULL AND phase = ?",
        (Phase.VERIFY,),
    ).fetchall()
    return frozenset(map(_token, rows))


def _token(row: sqlite3.Row) -> str:
    """No other verification has it, not even one of another history in which numbers repeat."""
    fields = {"investigation": row["id"], "opened": repr(row["opened_at"])}
    return digest("verification", 1, fields)[:16]
