# SPDX-License-Identifier: GPL-2.0-or-later
"""Where regressions are: in which branches of which lanes, since when, until when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kwatch.domain.verdict.judge import Here
from kwatch.domain.verdict.lane import Line
from kwatch.domain.verdict.regression import Presence
from kwatch.store import lanes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.database import Transaction


def put(tx: Transaction, regression: int, lane: int, *, good: TagRun | None, bad: TagRun) -> bool:
    """A regression shows in one more line, first in ``bad``; False if it is there already."""
    done = tx.execute(
        "INSERT INTO presence (regression, lane, branch, good_revision, good_trial, bad_revision,"
        " bad_trial) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            regression, lane, bad.branch, good.revision if good else None,
            good.number if good else None, bad.revision, bad.number,
        ),
    )  # fmt: skip
    return done.rowcount == 1


def move_first_bad(
    tx: Transaction, regression: int, lane: int, *, good: TagRun, bad: TagRun
) -> None:
    """An earlier tag of the line has it too."""
    tx.execute(
        "UPDATE presence SET good_revision = ?, good_trial = ?, bad_revision = ?, bad_trial = ?"
        " WHERE regression = ? AND lane = ? AND branch = ?",
        (good.revision, good.number, bad.revision, bad.number, regression, lane, bad.branch),
    )


def end(tx: Transaction, regression: int, lane: int, run: TagRun) -> None:
    """The line of ``run`` is free of it since that tag."""
    tx.execute(
        "UPDATE presence SET gone_revision = ? WHERE regression = ? AND lane = ? AND branch = ?",
        (run.revision, regression, lane, run.branch),
    )


def resume(tx: Transaction, regression: int, lane: int, run: TagRun) -> bool:
    """The line of ``run`` has it again; False if it was not gone."""
    done = tx.execute(
        "UPDATE presence SET gone_revision = NULL WHERE regression = ? AND lane = ?"
        " AND branch = ? AND gone_revision IS NOT NULL",
        (regression, lane, run.branch),
    )
    return done.rowcount == 1


def of_regression(tx: Transaction, regression: int) -> tuple[Presence, ...]:
    """All lines that have or had a regression, in the order of their lanes."""
    rows = tx.execute(
        "SELECT * FROM presence WHERE regression = ? ORDER BY lane, branch", (regression,)
    ).fetchall()
    return _presences(tx, rows)


def homes(tx: Transaction, regressions: Sequence[int]) -> Mapping[int, Presence]:
    """Each regression in the line that it was opened in."""
    rows = tx.execute(
        "SELECT presence.* FROM json_each(?) AS wanted"
        " CROSS JOIN regression ON regression.id = wanted.value"
        " JOIN presence ON presence.regression = regression.id"
        " AND presence.lane = regression.lane AND presence.branch = regression.branch",
        (json.dumps(regressions),),
    ).fetchall()
    found = zip(rows, _presences(tx, rows), strict=True)
    return {row["regression"]: presence for row, presence in found}


def in_lane(tx: Transaction, regression: int, lane: int) -> Mapping[str, Here]:
    """The branches of a lane that have or had a regression."""
    rows = tx.execute(
        "SELECT * FROM presence WHERE regression = ? AND lane = ?", (regression, lane)
    ).fetchall()
    return {
        row["branch"]: Here(
            first_bad=row["bad_revision"], good=_good(tx, row), gone=row["gone_revision"]
        )
        for row in rows
    }


def load(tx: Transaction, regression: int, lane: int, branch: str) -> Presence:
    """A regression in one line."""
    row = tx.execute(
        "SELECT * FROM presence WHERE regression = ? AND lane = ? AND branch = ?",
        (regression, lane, branch),
    ).fetchone()
    return _presences(tx, [row])[0]


def _presences(tx: Transaction, rows: Sequence[sqlite3.Row]) -> tuple[Presence, ...]:
    places = {lane: lanes.load(tx, lane) for lane in {row["lane"] for row in rows}}
    goods = {(row["good_revision"], row["good_trial"]) for row in rows} - {(None, None)}
    bads = {(row["bad_revision"], row["bad_trial"]) for row in rows}
    runs = lanes.runs_of(tx, sorted(goods | bads))
    return tuple(
        Presence(
            line=Line(lane=places[row["lane"]], branch=row["branch"]),
            good=runs.get((row["good_revision"], row["good_trial"])),
            bad=runs[row["bad_revision"], row["bad_trial"]],
            gone=row["gone_revision"],
        )
        for row in rows
    )


def _good(tx: Transaction, row: sqlite3.Row) -> TagRun | None:
    number = row["good_revision"]
    return None if number is None else lanes.run(tx, number, row["good_trial"])
