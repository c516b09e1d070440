# SPDX-License-Identifier: GPL-2.0-or-later
"""What the history needs no more, and what must stay.

Rows are deleted in bounded transactions. Results of builds, boots and trials are never deleted.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.lab.job import JobKind
from kwatch.domain.verdict.regression import OPEN_STATES
from kwatch.store.database import connect
from kwatch.store.queue import marks

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kwatch.store.database import Transaction

DAY = 86400.0
JOB_SECONDS = 14 * DAY
MAIL_SECONDS = 90 * DAY
REVISION_SECONDS = 60 * DAY
# Rows that one transaction deletes: others write in between.
BATCH = 2000

# Blobs that cannot be made again.
EVIDENCE = ("console", "profile", "log", "config")

# The trials that an open regression rests on: the ends of its lines, its sightings, and each step
# of its investigations.
_OF_OPEN_REGRESSIONS = f"""
WITH known AS (
    SELECT id FROM regression WHERE state IN ({marks(OPEN_STATES)}))
SELECT trial.id, source.base, build_row, boot_key
FROM trial JOIN source ON source.key = trial.source
WHERE trial.id IN (
    SELECT good_trial FROM presence JOIN known ON known.id = regression
    UNION SELECT bad_trial FROM presence JOIN known ON known.id = regression
    UNION SELECT trial FROM sighting JOIN known ON known.id = regression
    UNION SELECT trial FROM investigation_step JOIN investigation AS i ON i.id = investigation
        JOIN known ON known.id = i.regression_id)
"""

# The newest revision of each tree, and the newest good one of each lane.
_BASELINES = """
SELECT id FROM (SELECT max(id) AS id FROM revision WHERE is_baseline = 0 GROUP BY tree)
UNION
SELECT max(planned.revision) FROM planned JOIN trial ON trial.id = planned.trial
WHERE outcome = 'pass' GROUP BY planned.lane
"""


def old_jobs(tx: Transaction, *, now: float) -> int:
    """Delete a batch of jobs that ended two weeks ago; how many.

    The last failure of each key stays, because it says why a trial ended as INFRA. So does
    the newest job, because its id must not be given again.
    """
    return tx.execute(
        """
        DELETE FROM job WHERE id IN (
            SELECT id FROM job AS old
            WHERE ended_at < ? AND id < (SELECT max(id) FROM job) AND NOT (state = 'dead' AND id = (
                SELECT max(id) FROM job AS other
                WHERE other.state = 'dead' AND other.kind = old.kind AND other.key = old.key))
            ORDER BY id LIMIT ?)
        """,
        (now - JOB_SECONDS, BATCH),
    ).rowcount


def old_mails(tx: Transaction, *, now: float) -> int:
    """Delete a batch of patch mails that came 90 days ago and begin no series; how many."""
    return tx.execute(
        "DELETE FROM posting_mail WHERE message_id IN (SELECT message_id FROM posting_mail"
        " WHERE received_at < ? AND message_id NOT IN (SELECT origin FROM series) LIMIT ?)",
        (now - MAIL_SECONDS, BATCH),
    ).rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What must stay reachable in git.

    ``commits`` are pinned; ``tags`` are (tree, tag) of those that are revisions. ``checkouts`` is
    the commit each checkout was made of, by its key. ``under_way`` are the keys of jobs of each
    kind that are queued or running, whose refs may not be in the history yet.
    """

    commits: frozenset[str]
    tags: frozenset[tuple[str, str]]
    checkouts: dict[str, str]
    under_way: dict[JobKind, frozenset[str]]


def needed(tx: Transaction, *, now: float) -> Needed:
    """The commits of the last 60 days, baselines, open regressions and unfinished trials."""
    rows = tx.execute(
        f"""
        SELECT commit_id FROM revision WHERE seen_at >= ? OR id IN ({_BASELINES})
        UNION SELECT base FROM trial JOIN source ON source.key = trial.source
            WHERE outcome IS NULL OR outcome = 'infra'
        UNION SELECT base FROM want JOIN trial ON trial.id = want.trial
            JOIN source ON source.key = trial.source WHERE asker_kind = ?
        UNION SELECT base FROM ({_OF_OPEN_REGRESSIONS})
        UNION SELECT json_extract(change.value, '$.commit') FROM trial
            JOIN source ON source.key = trial.source,
            json_each(source.definition, '$.changes') AS change
            WHERE outcome IS NULL AND json_extract(change.value, '$.commit') IS NOT NULL
        """,
        (now - REVISION_SECONDS, JobKind.INVESTIGATE, *OPEN_STATES),
    )
    commits = frozenset(row["commit_id"] for row in rows)
    revisions = tx.execute("SELECT tree, tag, commit_id FROM revision")
    checkouts = tx.execute("SELECT key, base FROM source")
    return Needed(
        commits=commits,
        tags=frozenset((r["tree"], r["tag"]) for r in revisions if r["commit_id"] in commits),
        checkouts={row["key"]: row["base"] for row in checkouts},
        under_way={
            kind: frozenset(
                row["key"]
                for row in tx.execute(
                    "SELECT key FROM job WHERE state IN ('queued', 'running') AND kind = ?", (kind,)
                )
            )
            for kind in (JobKind.WATCH, JobKind.CHECKOUT)
        },
    )


def protected(tx: Transaction) -> frozenset[str]:
    """Digests of blobs that the budget must not take: evidence of open regressions.

    Consoles, logs, profiles and configurations of their good and bad tags and of each step of
    their investigations. Kernels are none of them: they can be built again.
    """
    rows = tx.execute(
        f"""
        SELECT digest FROM ({_OF_OPEN_REGRESSIONS}) AS o JOIN blob_ref
            ON owner_kind = 'build' AND owner_key = o.build_row
            OR owner_kind = 'boot' AND owner_key = o.boot_key
        WHERE blob_ref.name IN ({marks(EVIDENCE)})
        """,
        (*OPEN_STATES, *EVIDENCE),
    )
    return frozenset(row["digest"] for row in rows)


def unneeded(refs: Collection[str], wanted: Needed) -> tuple[str, ...]:
    """The refs of tags and commits, of ``refs``, that nothing needs; those of checkouts apart.

    Read ``refs`` before ``wanted``: what was fetched in between is then in neither.
    """
    return tuple(ref for ref in refs if not _is_needed(ref, wanted))


def _is_needed(ref: str, wanted: Needed) -> bool:
    match ref.removeprefix("refs/kwatch/").split("/", 1):
        case ["keep", commit]:
            return commit in wanted.commits or bool(wanted.under_way[JobKind.WATCH])
        case ["seed" | "have" | "head" | "checkout" | "probe" | "base", *_]:
            return True
        case [tree, tag]:
            return (tree, tag) in wanted.tags or tree in wanted.under_way[JobKind.WATCH]
        case _:
            return True


def compact(path: Path) -> None:
    """Refresh the statistics of the query planner and empty the WAL, beside the daemon's writer."""
    with contextlib.closing(connect(path, read_only=False)) as connection:
        connection.execute("PRAGMA analysis_limit = 1000")
        connection.execute("PRAGMA optimize")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
