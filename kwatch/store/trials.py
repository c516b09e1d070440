# SPDX-License-Identifier: GPL-2.0-or-later
"""Trials as they stand: which were asked for, what they wait for, what they showed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.source import Source
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen
from kwatch.domain.trial.steps import environment_of
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.store import cases, findings, steps
from kwatch.store.codec import decode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from kwatch.domain.trial.steps import BootResult, BuildResult
    from kwatch.store.database import Transaction

SELECT = "SELECT trial.*, source.definition FROM trial JOIN source ON source.key = trial.source"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrial:
    """A trial as it stands. ``outcome`` is None until it is settled."""

    id: int
    trial: Trial
    outcome: Outcome | None
    milestone: Milestone
    finding: Finding | None
    checkout_key: str | None
    build_row: str | None
    boot_key: str | None
    tries: int
    waits_kind: JobKind | None
    waits_key: str
    created_at: float
    settled_at: float | None


def put(tx: Transaction, trial: Trial, *, now: float) -> int:
    """The number of a trial, made if it is not there."""
    steps.put_source(tx, trial.source)
    tx.execute(
        "INSERT INTO trial (source, build, boot, until, rebuild, repeat, environment,"
        " boot_environment, host, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (*_columns(trial), now),
    )
    found = find(tx, trial)
    assert found is not None  # noqa: S101 - it was just put there
    return found.id


def find(tx: Transaction, trial: Trial) -> StoredTrial | None:
    """The trial as it stands, if it was ever asked for."""
    row = tx.execute(
        f"{SELECT} WHERE trial.source = ? AND build = ? AND boot = ? AND until = ? AND rebuild = ?"
        " AND repeat = ? AND environment = ? AND boot_environment = ? AND host = ?",
        _columns(trial),
    ).fetchone()
    return None if row is None else stored(tx, row)


def load(tx: Transaction, number: int) -> StoredTrial:
    """The trial of this number."""
    return stored(tx, tx.execute(f"{SELECT} WHERE trial.id = ?", (number,)).fetchone())


def waiting(tx: Transaction, kind: JobKind, key: str) -> tuple[StoredTrial, ...]:
    """The trials that wait for this step."""
    rows = tx.execute(
        f"{SELECT} WHERE waits_kind = ? AND waits_key = ? AND outcome IS NULL", (kind, key)
    ).fetchall()
    return stored_all(tx, rows)


def settled_by(tx: Transaction, result: BuildResult | BootResult) -> tuple[StoredTrial, ...]:
    """The settled trials that this result is a step of."""
    if hasattr(result, "boot_seconds"):
        condition, key = "boot_key = ?", result.key
    else:
        condition, key = "build_row = ?", result.row
    rows = tx.execute(f"{SELECT} WHERE {condition} AND outcome IS NOT NULL", (key,)).fetchall()
    return stored_all(tx, rows)


def failed_by_lab(tx: Transaction, *, tries: int | None) -> tuple[int, ...]:
    """Wanted trials that ended as INFRA, fewer than ``tries`` times (None: any number)."""
    rows = tx.execute(
        "SELECT id FROM trial WHERE outcome = 'infra' AND (? IS NULL OR tries < ?)"
        " AND EXISTS (SELECT 1 FROM want WHERE want.trial = trial.id) ORDER BY id",
        (tries, tries),
    )
    return tuple(row["id"] for row in rows)


def of_commits(tx: Transaction, commits: Iterable[str]) -> tuple[StoredTrial, ...]:
    """Every settled trial of these commits."""
    rows = tx.execute(
        "SELECT trial.*, source.definition FROM json_each(?) AS wanted"
        " CROSS JOIN source ON source.base = wanted.value CROSS JOIN trial"
        " ON trial.source = source.key WHERE outcome IS NOT NULL ORDER BY trial.id",
        (json.dumps(sorted(set(commits))),),
    ).fetchall()
    return stored_all(tx, rows)


def seen(tx: Transaction, found: StoredTrial) -> Seen | None:
    """What a trial showed; None while it is not settled."""
    return seen_all(tx, [found])[0]


def seen_all(tx: Transaction, found: Sequence[StoredTrial]) -> tuple[Seen | None, ...]:
    """The same for many trials, in few statements."""
    builds = findings.besides(tx, JobKind.BUILD, [one.build_row for one in found])
    boots = findings.besides(tx, JobKind.BOOT, [one.boot_key for one in found])
    rows = tx.execute(
        "SELECT boot.key, host, accelerator FROM json_each(?) AS wanted"
        " CROSS JOIN boot ON boot.key = wanted.value",
        (json.dumps([one.boot_key for one in found if one.boot_key]),),
    )
    ran = {row["key"]: (row["host"], row["accelerator"]) for row in rows}
    tested = cases.of_boots(tx, [one.boot_key for one in found if one.boot_key])
    none = frozenset[str](), frozenset[str]()
    return tuple(
        None
        if one.outcome is None
        else Seen(
            outcome=one.outcome,
            milestone=one.milestone,
            finding=one.finding,
            others=(*builds.get(one.build_row or "", ()), *boots.get(one.boot_key or "", ())),
            environment=environment_of(one.build_row or ""),
            boot_environment=environment_of(one.boot_key or ""),
            host=ran.get(one.boot_key or "", ("", ""))[0],
            accelerator=ran.get(one.boot_key or "", ("", ""))[1],
            tries=one.tries,
            cases_run=tested.get(one.boot_key or "", none)[0],
            cases_failed=tested.get(one.boot_key or "", none)[1],
        )
        for one in found
    )


def evidence(tx: Transaction, commits: Iterable[str]) -> Mapping[Trial, Seen]:
    """What every settled trial of these commits showed."""
    found = of_commits(tx, commits)
    shown = seen_all(tx, found)
    return {one.trial: seen for one, seen in zip(found, shown, strict=True) if seen}


def stored(tx: Transaction, row: sqlite3.Row) -> StoredTrial:
    """A trial from a row of :data:`SELECT`."""
    return stored_all(tx, [row])[0]


def stored_all(tx: Transaction, rows: Sequence[sqlite3.Row]) -> tuple[StoredTrial, ...]:
    """Trials from such rows."""
    known = findings.load_all(tx, [row["finding"] for row in rows])
    return tuple(
        StoredTrial(
            id=row["id"],
            trial=trial_of(row),
            outcome=Outcome(row["outcome"]) if row["outcome"] else None,
            milestone=Milestone(row["milestone"]),
            finding=known.get(row["finding"]),
            checkout_key=row["checkout_key"],
            build_row=row["build_row"],
            boot_key=row["boot_key"],
            tries=row["tries"],
            waits_kind=JobKind(row["waits_kind"]) if row["waits_kind"] else None,
            waits_key=row["waits_key"] or "",
            created_at=row["created_at"],
            settled_at=row["settled_at"],
        )
        for row in rows
    )


def trial_of(row: sqlite3.Row) -> Trial:
    """The trial of such a row."""
    return Trial(
        source=decode(Source, row["definition"]),
        build=row["build"],
        boot=row["boot"],
        until=Milestone(row["until"]),
        sample=Sample(
            rebuild=row["rebuild"],
            repeat=row["repeat"],
            environment=row["environment"],
            boot_environment=row["boot_environment"],
            host=row["host"],
        ),
    )


def _columns(trial: Trial) -> tuple[object, ...]:
    sample = trial.sample
    return (
        trial.source.key, trial.build, trial.boot, trial.until, sample.rebuild, sample.repeat,
        sample.environment, sample.boot_environment, sample.host,
    )  # fmt: skip
