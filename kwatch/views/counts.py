# SPDX-License-Identifier: GPL-2.0-or-later
"""History as numbers: what monitoring asks for, and whether the schema is the one we know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import sqlite_utils

from kwatch.domain.coverage.figures import Totals
from kwatch.domain.lab.job import JobKind, JobState
from kwatch.domain.mail.story import MailState
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.regression import RegressionState
from kwatch.store import cursors, hosts
from kwatch.store.codec import decode
from kwatch.store.cursors import Source
from kwatch.store.hosts import SeenHost
from kwatch.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from kwatch.store.database import Transaction

N = TypeVar("N", RegressionState, MailState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counts of everything that is counted.

    ``coverage`` is the newest of each (tree, variant name); ``pending`` counts the trials
    that are not settled; ``blob_bytes`` are the compressed bytes on disk.
    """

    jobs: Mapping[tuple[JobKind, JobState], int]
    trials: Mapping[Outcome, int]
    pending: int
    regressions: Mapping[RegressionState, int]
    mails: Mapping[MailState, int]
    coverage: Mapping[tuple[str, str], Totals]
    sources: tuple[Source, ...]
    hosts: tuple[SeenHost, ...]
    blob_bytes: int


def figures(tx: Transaction) -> Figures:
    """All counts, of one moment."""
    rows = tx.execute("SELECT name, count FROM tally WHERE what = 'trial'")
    outcomes = Counter({row["name"]: row["count"] for row in rows})
    pending = tx.execute("SELECT count(*) AS n FROM trial WHERE outcome IS NULL").fetchone()
    return Figures(
        jobs=_jobs(tx),
        trials={outcome: outcomes[outcome] for outcome in Outcome},
        pending=pending["n"],
        regressions=_all(RegressionState, tx, "SELECT state AS name, count(*) FROM regression"),
        mails=mail_states(tx),
        coverage=_newest_coverage(tx),
        sources=cursors.sources(tx),
        hosts=hosts.seen(tx),
        blob_bytes=tx.execute("SELECT coalesce(sum(stored), 0) AS n FROM blob").fetchone()["n"],
    )


def _jobs(tx: Transaction) -> Mapping[tuple[JobKind, JobState], int]:
    """Jobs that are alive, and all that ever ended, deleted ones included."""
    rows = tx.execute(
        "SELECT kind, state AS name, count(*) AS count FROM job"
        " WHERE state IN ('queued', 'running') GROUP BY kind, state"
        " UNION ALL SELECT kind, name, count FROM tally WHERE what = 'job'"
    )
    return {(JobKind(row["kind"]), JobState(row["name"])): row["count"] for row in rows}


def mail_states(tx: Transaction) -> Mapping[MailState, int]:
    """How many mails are in each state."""
    return _all(MailState, tx, "SELECT state AS name, count(*) FROM mail")


def schema_is_current(tx: Transaction) -> bool:
    """Whether exactly the migrations of this program were applied."""
    with closing(sqlite_utils.Database(memory=True)) as empty:
        known = {step.name for step in MIGRATIONS.pending(empty)}
    return known == {step.name for step in MIGRATIONS.applied(sqlite_utils.Database(tx))}


def _all(names: type[N], tx: Transaction, statement: str) -> Mapping[N, int]:
    counts = _counts(tx, statement)
    return {name: counts[name] for name in names}


def _counts(tx: Transaction, statement: str) -> Counter[str]:
    return Counter({row[0]: row[1] for row in tx.execute(f"{statement} GROUP BY name")})


def _newest_coverage(tx: Transaction) -> Mapping[tuple[str, str], Totals]:
    """By tree and variant name: the newest of the last 100 trials that has coverage."""
    rows = tx.execute(
        "SELECT lane.tree, lane.variant, (SELECT c.totals FROM"
        " (SELECT id, trial FROM planned WHERE planned.lane = lane.id ORDER BY id DESC LIMIT 100)"
        " AS newest JOIN trial ON trial.id = newest.trial"
        " JOIN collection AS c ON c.key = trial.boot_key"
        " WHERE c.totals IS NOT NULL ORDER BY newest.id DESC LIMIT 1) AS totals FROM lane"
    ).fetchall()
    return {
        (row["tree"], row["variant"]): decode(Totals, row["totals"])
        for row in rows
        if row["totals"]
    }
