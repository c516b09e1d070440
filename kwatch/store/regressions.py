# SPDX-License-Identifier: GPL-2.0-or-later
"""Regressions, where they were seen, and their timelines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kwatch.domain.finding import Finding
from kwatch.domain.mail.thread import ThreadKind, of_regression
from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.judge import Known, Opened
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.regression import (
    OPEN_STATES,
    TRANSITIONS,
    Regression,
    RegressionEvent,
    RegressionState,
)
from kwatch.store import lanes, notices, presences
from kwatch.store.codec import decode, encode
from kwatch.store.queue import marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from kwatch.domain.trial.trial import Trial
    from kwatch.domain.verdict.lane import Lane, TagRun
    from kwatch.domain.verdict.regression import Presence
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One entry of a regression's timeline. ``detail`` is what :func:`add_event` was given.

    ``reported_at`` is when its notice was dealt with.
    """

    id: int
    regression: int
    kind: RegressionEvent
    at: float
    detail: Mapping[str, Any]
    reported_at: float | None


def open_regression(tx: Transaction, lane: int, opened: Opened, *, now: float) -> int:
    """Store a regression that is SUSPECTED; its number."""
    seen = opened.bad.seen
    row = tx.execute(
        "INSERT INTO regression (lane, branch, facet, fingerprint, milestone, finding, state,"
        " opened_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            lane, opened.bad.branch, opened.facet, opened.finding.fingerprint,
            seen.milestone if seen else Milestone.NOTHING, encode(opened.finding),
            RegressionState.SUSPECTED, now,
        ),
    ).fetchone()  # fmt: skip
    number = int(row["id"])
    presences.put(tx, number, lane, good=opened.good, bad=opened.bad)
    sight(tx, number, lane, opened.bad, now=now)
    add_event(tx, number, RegressionEvent.OPENED, {"tag": opened.bad.tag}, now=now)
    return number


def sight(tx: Transaction, number: int, lane: int, run: TagRun, *, now: float) -> None:
    """A regression shows in a tag of a lane."""
    tx.execute(
        "INSERT INTO sighting (regression, lane, revision, trial, at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (number, lane, run.revision, run.number, now),
    )


def advance(
    tx: Transaction,
    number: int,
    event: RegressionEvent,
    detail: Mapping[str, object],
    *,
    now: float,
) -> bool:
    """Let ``event`` happen to a regression; False if it cannot in its state (it came twice)."""
    state = load(tx, number).state
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
    """Write an event into a regression's timeline, to be reported in its thread."""
    row = tx.execute(
        "INSERT INTO regression_event (regression_id, kind, at, detail) VALUES (?, ?, ?, ?)"
        " RETURNING id",
        (number, event, now, json.dumps(detail)),
    ).fetchone()
    notices.put(tx, of_regression(number), str(row["id"]), now=now)


def exists(tx: Transaction, number: int) -> bool:
    """Whether there is a regression of this number."""
    return bool(tx.execute("SELECT 1 FROM regression WHERE id = ?", (number,)).fetchone())


def load(tx: Transaction, number: int) -> Regression:
    """One regression."""
    row = tx.execute("SELECT * FROM regression WHERE id = ?", (number,)).fetchone()
    return _regressions(tx, [row])[0]


def newest_first(
    tx: Transaction, *, states: Sequence[RegressionState] | None = None, limit: int = 1000
) -> tuple[Regression, ...]:
    """Regressions in one of ``states`` (None: any), newest first."""
    chosen = tuple(states if states is not None else RegressionState)
    rows = tx.execute(
        f"SELECT * FROM regression WHERE state IN ({marks(chosen)}) ORDER BY id DESC LIMIT ?",
        (*chosen, limit),
    ).fetchall()
    return _regressions(tx, rows)


def known(tx: Transaction, lane: int, runs: Sequence[TagRun]) -> tuple[Known, ...]:
    """The regressions that tags of a lane may be about: by a finding of theirs, or a sighting."""
    names = {name for run in runs if run.seen for name in run.seen.fingerprints}
    rows = tx.execute(
        "SELECT * FROM regression WHERE fingerprint IN (SELECT value FROM json_each(?)) OR id IN"
        " (SELECT regression FROM presence JOIN regression ON regression.id = regression"
        f" WHERE presence.lane = ? AND state IN ({marks(OPEN_STATES)})) ORDER BY id",
        (json.dumps(sorted(names)), lane, *OPEN_STATES),
    ).fetchall()
    return tuple(_known(tx, lane, one) for one in _regressions(tx, rows))


def _known(tx: Transaction, lane: int, found: Regression) -> Known:
    sighted = tx.execute(
        "SELECT revision FROM sighting WHERE regression = ? AND lane = ?", (found.id, lane)
    )
    tried = tx.execute(
        "SELECT fixed_trial FROM investigation WHERE regression_id = ? AND lane = ?"
        " AND ended_at IS NOT NULL AND fixed_trial IS NOT NULL",
        (found.id, lane),
    )
    return Known(
        id=found.id,
        problem=found.problem,
        state=found.state,
        here=presences.in_lane(tx, found.id, lane),
        sighted=frozenset(one["revision"] for one in sighted),
        tried=frozenset(one["fixed_trial"] for one in tried),
    )


def rename(tx: Transaction, trial: Trial, before: Finding, after: Finding) -> None:
    """The finding that an open regression began with has another name, read again."""
    rows = tx.execute(
        "SELECT regression.id, trial.source FROM regression JOIN presence"
        " ON presence.regression = regression.id AND presence.lane = regression.lane"
        " AND presence.branch = regression.branch JOIN trial ON trial.id = bad_trial"
        f" WHERE fingerprint = ? AND state IN ({marks(OPEN_STATES)})",
        (before.fingerprint, *OPEN_STATES),
    ).fetchall()
    for row in rows:
        if row["source"] == trial.source.key:
            tx.execute(
                "UPDATE regression SET fingerprint = ?, finding = ? WHERE id = ?",
                (after.fingerprint, encode(after), row["id"]),
            )


def timeline(tx: Transaction, number: int) -> tuple[StoredEvent, ...]:
    """What happened to a regression, in order."""
    rows = tx.execute(
        "SELECT regression_event.*, handled_at FROM regression_event"
        " LEFT JOIN thread ON thread.kind = ? AND thread.owner = CAST(regression_id AS TEXT)"
        " LEFT JOIN notice ON notice.thread = thread.id"
        " AND notice.cause = CAST(regression_event.id AS TEXT)"
        " WHERE regression_id = ? ORDER BY regression_event.id",
        (ThreadKind.REGRESSION, number),
    )
    return tuple(
        StoredEvent(
            id=row["id"],
            regression=row["regression_id"],
            kind=RegressionEvent(row["kind"]),
            at=row["at"],
            detail=json.loads(row["detail"]),
            reported_at=row["handled_at"],
        )
        for row in rows
    )


def sightings(tx: Transaction, number: int) -> tuple[tuple[str, str, str], ...]:
    """Where a regression was seen: (tree, tag, variant), in order."""
    rows = tx.execute(
        "SELECT revision.tree, revision.tag, lane.variant FROM sighting"
        " JOIN revision ON revision.id = revision JOIN lane ON lane.id = sighting.lane"
        " WHERE regression = ? ORDER BY revision.id, lane.id",
        (number,),
    )
    return tuple((row["tree"], row["tag"], row["variant"]) for row in rows)


def sighted_in(tx: Transaction, number: int, lane: Lane, tag: str) -> TagRun | None:
    """The newest sighting of a regression in a tag of a lane."""
    row = tx.execute(
        "SELECT sighting.revision, sighting.trial FROM sighting"
        " JOIN revision ON revision.id = sighting.revision JOIN lane ON lane.id = sighting.lane"
        " WHERE regression = ? AND lane.tree = ? AND variant = ? AND tag = ?"
        " ORDER BY sighting.at DESC LIMIT 1",
        (number, lane.tree, lane.variant, tag),
    ).fetchone()
    return None if row is None else lanes.run(tx, row["revision"], row["trial"])


def _regressions(tx: Transaction, rows: Sequence[sqlite3.Row]) -> tuple[Regression, ...]:
    homes = presences.homes(tx, [row["id"] for row in rows])
    return tuple(_regression(row, homes[row["id"]]) for row in rows)


def _regression(row: sqlite3.Row, home: Presence) -> Regression:
    if home.good is None:
        raise ValueError(f"regression {row['id']} was opened without a good tag")
    return Regression(
        id=row["id"],
        lane=home.line.lane,
        facet=Facet(row["facet"]),
        finding=decode(Finding, row["finding"]),
        milestone=Milestone(row["milestone"]),
        good=home.good,
        bad=home.bad,
        state=RegressionState(row["state"]),
        opened_at=row["opened_at"],
    )
