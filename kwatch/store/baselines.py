# SPDX-License-Identifier: GPL-2.0-or-later
"""What tags without an earlier good one are compared with, and by which trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.store import lanes, revisions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.facts import BaselinesFound
    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.database import Transaction


def put(tx: Transaction, facts: BaselinesFound, *, now: float) -> None:
    """Store what the failure of a tag can be compared with; none of it is tried yet."""
    row = tx.execute(
        "INSERT INTO baseline_search (lane, failing, at) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (facts.lane, facts.failing, now),
    ).fetchone()
    if row is None:
        return
    for place, revision in enumerate(facts.revisions):
        tx.execute(
            "INSERT INTO baseline (search, place, revision) VALUES (?, ?, ?)",
            (row["id"], place, revisions.add(tx, revision)),
        )


def is_searched(tx: Transaction, lane: int, failing: int) -> bool:
    """Whether baselines were looked for, found or not."""
    row = tx.execute(
        "SELECT 1 FROM baseline_search WHERE lane = ? AND failing = ?", (lane, failing)
    ).fetchone()
    return row is not None


def next_untried(tx: Transaction, lane: int, failing: int) -> tuple[int, str] | None:
    """The number and the commit of the next baseline to try, if one is left."""
    row = tx.execute(
        "SELECT revision.id, commit_id FROM baseline_search AS search"
        " JOIN baseline ON baseline.search = search.id"
        " JOIN revision ON revision.id = baseline.revision"
        " WHERE search.lane = ? AND failing = ? AND trial IS NULL ORDER BY place LIMIT 1",
        (lane, failing),
    ).fetchone()
    return None if row is None else (row["id"], row["commit_id"])


def tried(tx: Transaction, lane: int, failing: int, revision: int, trial: int) -> None:
    """A baseline is tried by this trial."""
    tx.execute(
        "UPDATE baseline SET trial = ? WHERE revision = ? AND search ="
        " (SELECT id FROM baseline_search WHERE lane = ? AND failing = ?)",
        (trial, revision, lane, failing),
    )


def runs(tx: Transaction, lane: int) -> Mapping[int, tuple[TagRun, ...]]:
    """What was tried for the tags (their revision numbers) of a lane, in the order of trying."""
    rows = tx.execute(
        "SELECT failing, revision, trial FROM baseline_search AS search"
        " JOIN baseline ON baseline.search = search.id"
        " WHERE search.lane = ? AND trial IS NOT NULL ORDER BY failing, place",
        (lane,),
    ).fetchall()
    found: dict[int, tuple[TagRun, ...]] = {}
    for row in rows:
        run = lanes.run(tx, row["revision"], row["trial"])
        found[row["failing"]] = (*found.get(row["failing"], ()), run)
    return found
