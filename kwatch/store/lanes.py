# SPDX-License-Identifier: GPL-2.0-or-later
"""Lanes and the trials of their tags."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kwatch.domain.verdict.lane import Lane, TagRun
from kwatch.store import trials

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from kwatch.store.database import Transaction

# The newest tags of a lane that are judged: half a year of linux-next.
JUDGED = 150


def number(tx: Transaction, lane: Lane) -> int:
    """The number of a lane, made if it is not there."""
    tx.execute(
        "INSERT INTO lane (tree, variant) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (lane.tree, lane.variant),
    )
    row = tx.execute(
        "SELECT id FROM lane WHERE tree = ? AND variant = ?", (lane.tree, lane.variant)
    ).fetchone()
    return int(row["id"])


def load(tx: Transaction, key: int) -> Lane:
    """The lane of this number."""
    row = tx.execute("SELECT tree, variant FROM lane WHERE id = ?", (key,)).fetchone()
    return Lane(tree=row["tree"], variant=row["variant"])


def plan(tx: Transaction, lane: int, revision: int, trial: int) -> None:
    """Let this trial be the one by which the revision counts in the lane."""
    tx.execute(
        "DELETE FROM planned WHERE lane = ? AND revision = ? AND trial = ?", (lane, revision, trial)
    )
    tx.execute(
        "INSERT INTO planned (lane, revision, trial) VALUES (?, ?, ?)", (lane, revision, trial)
    )


def planned(
    tx: Transaction, revision: int, variant: str | None = None
) -> tuple[tuple[int, int], ...]:
    """The (lane, trial) by which a revision counts, in all its lanes or in that of a variant."""
    rows = tx.execute(
        "SELECT lane, trial, max(planned.id) FROM planned JOIN lane ON lane.id = planned.lane"
        " WHERE revision = ? AND (? IS NULL OR variant = ?) GROUP BY lane ORDER BY lane",
        (revision, variant, variant),
    )
    return tuple((row["lane"], row["trial"]) for row in rows)


def runs(tx: Transaction, lane: int) -> tuple[TagRun, ...]:
    """The newest tags of a lane, each at its present commit and with its newest trial."""
    rows = tx.execute(
        f"""
        SELECT newest.revision, newest.tag, trial.*, source.definition FROM (
            SELECT planned.revision, planned.trial, revision.tag, row_number() OVER (
                PARTITION BY revision.tag
                ORDER BY revision.seen_at DESC, revision.id DESC, planned.id DESC) AS place
            FROM (SELECT * FROM planned WHERE lane = ? ORDER BY id DESC LIMIT {2 * JUDGED})
                AS planned
            JOIN revision ON revision.id = planned.revision) AS newest
        JOIN trial ON trial.id = newest.trial JOIN source ON source.key = trial.source
        WHERE newest.place = 1 ORDER BY newest.revision DESC LIMIT {JUDGED}
        """,
        (lane,),
    ).fetchall()
    return _runs(tx, list(reversed(rows)))


def run(tx: Transaction, revision: int, trial: int) -> TagRun:
    """A tag and one trial of it."""
    return runs_of(tx, [(revision, trial)])[revision, trial]


def runs_of(tx: Transaction, wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], TagRun]:
    """Tags, each with one trial of it, by the numbers of both."""
    rows = tx.execute(
        "SELECT revision.id AS revision, revision.tag, trial.*, source.definition"
        " FROM json_each(?) AS wanted"
        " CROSS JOIN revision ON revision.id = json_extract(wanted.value, '$[0]')"
        " JOIN trial ON trial.id = json_extract(wanted.value, '$[1]')"
        " JOIN source ON source.key = trial.source",
        (json.dumps(wanted),),
    ).fetchall()
    return {(run.revision, run.number): run for run in _runs(tx, rows)}


def _runs(tx: Transaction, rows: Sequence[sqlite3.Row]) -> tuple[TagRun, ...]:
    found = trials.stored_all(tx, rows)
    shown = trials.seen_all(tx, found)
    return tuple(
        TagRun(
            revision=row["revision"],
            tag=row["tag"],
            number=one.id,
            trial=one.trial,
            seen=seen,
        )
        for row, one, seen in zip(rows, found, shown, strict=True)
    )
