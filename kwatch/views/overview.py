# SPDX-License-Identifier: GPL-2.0-or-later
"""History as people read it: lines of pages and of listings. Nothing here writes.

Every function reads what one page needs in few statements; all that a client chooses is bounded by
``limit``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.coverage.figures import Count, Totals
from kwatch.domain.finding import Finding
from kwatch.domain.lab.job import STEPS, JobKind
from kwatch.domain.mail.story import Delivery, DeliveryState, MailState, ReportKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Revision
from kwatch.domain.trial.observation import Outcome, Step, Trial, next_step
from kwatch.domain.verdict.regression import judged_by
from kwatch.store import history
from kwatch.store.codec import decode_optional

if TYPE_CHECKING:
    import sqlite3

    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationLine:
    """An observation with all that a line about it tells.

    ``step`` is what it waits for, and ``is_running`` whether that is being done now. ``host`` is
    where it was booted, or built if it never got that far. ``tags`` are the (tree, tag) that its
    commit carries.
    """

    id: int
    trial: Trial
    variant_name: str
    is_control: bool
    series: str | None
    tags: tuple[tuple[str, str], ...]
    outcome: Outcome | None
    milestone: Milestone
    finding: Finding | None
    step: JobKind | None
    is_running: bool
    checkout_key: str | None
    build_key: str | None
    boot_key: str | None
    host: str | None
    totals: Totals | None
    created_at: float
    settled_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TagLine:
    """A tag of a tree and what was observed of it."""

    revision: Revision
    observations: tuple[ObservationLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MailLine:
    """A mail of the outbox without its text."""

    id: int
    message_id: str
    thread: str
    kind: ReportKind
    subject: str
    state: MailState
    error: str | None
    created_at: float
    sent_at: float | None
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The coverage of one boot below a top-level folder of the source."""

    name: str
    files: int
    totals: Totals


# The partial index job_alive serves only a statement that repeats its condition.
_OBSERVATIONS = """
SELECT o.*, v.name AS variant_name,
    json_extract(v.variant, '$.series.title') AS series,
    json_extract(v.variant, '$.series.digest') IS NULL AS is_control,
    (SELECT json_group_array(json_array(r.tree, r.tag)) FROM revision AS r
        WHERE r.commit_id = o.commit_id) AS tags,
    EXISTS (SELECT 1 FROM job WHERE job.state IN ('queued', 'running') AND job.state = 'running'
        AND job.kind = o.waits_kind AND job.key = o.waits_key) AS is_running,
    coalesce(boot.host, build.host) AS ran_on, collection.totals
FROM observation AS o
JOIN variant AS v ON v.digest = o.variant
LEFT JOIN build ON build.key = o.build_key
LEFT JOIN boot ON boot.key = o.boot_key
LEFT JOIN collection ON collection.key = o.boot_key
"""


def trees(tx: Transaction) -> tuple[str, ...]:
    """Every tree that was ever looked at or has a tag."""
    rows = tx.execute(
        "SELECT tree FROM revision UNION SELECT substr(source, 6) FROM cursor"
        " WHERE source LIKE 'tree:%' ORDER BY 1"
    )
    return tuple(row["tree"] for row in rows)


def newest_tags(tx: Transaction, tree: str, *, limit: int) -> tuple[TagLine, ...]:
    """The newest tags of a tree, newest first, each with the newest plain trial of a variant."""
    return tuple(
        TagLine(revision=revision, observations=_newest_per_variant(tx, revision.commit))
        for revision in history.revisions(tx, tree, limit)
    )


def _newest_per_variant(tx: Transaction, commit: str) -> tuple[ObservationLine, ...]:
    rows = tx.execute(
        f"{_OBSERVATIONS} WHERE o.commit_id = ? AND o.rebuild = 0 AND o.repeat = 0"
        " AND o.host = '' ORDER BY o.id",
        (commit,),
    )
    newest = {(row["variant_name"], row["is_control"]): _line(row) for row in rows}
    return tuple(newest[key] for key in sorted(newest))


def boots(tx: Transaction, start: str, *, limit: int) -> tuple[str, ...]:
    """The keys that begin with ``start`` of boots that are known, or that somebody waits for."""
    rows = tx.execute(
        "SELECT key FROM boot WHERE substr(key, 1, ?) = ? UNION"
        " SELECT waits_key AS key FROM observation WHERE waits_kind = 'boot'"
        " AND substr(waits_key, 1, ?) = ? ORDER BY key LIMIT ?",
        (len(start), start, len(start), start, limit),
    )
    return tuple(row["key"] for row in rows)


def tagged(tx: Transaction, tree: str, tag: str) -> tuple[Revision, ...]:
    """The commits that a tag stood at, newest first; none if it is not known."""
    rows = tx.execute(
        "SELECT * FROM revision WHERE tree = ? AND tag = ? ORDER BY id DESC", (tree, tag)
    )
    return tuple(
        Revision(tree=tree, tag=tag, commit=row["commit_id"], seen_at=row["seen_at"])
        for row in rows
    )


def observations(
    tx: Transaction,
    *,
    commit: str | None = None,
    tree: str | None = None,
    variant: str | None = None,
    outcome: Outcome | None = None,
    boot_key: str | None = None,
    build_key: str | None = None,
    limit: int,
) -> tuple[ObservationLine, ...]:
    """Observations that fit all that is given, newest first. ``variant`` is a name or a digest."""
    rows = tx.execute(
        f"{_OBSERVATIONS} WHERE (:commit IS NULL OR o.commit_id = :commit)"
        " AND (:tree IS NULL OR EXISTS (SELECT 1 FROM revision AS r WHERE r.tree = :tree"
        "     AND r.commit_id = o.commit_id))"
        " AND (:variant IS NULL OR :variant IN (v.name, v.digest))"
        " AND (:outcome IS NULL OR o.outcome = :outcome)"
        " AND (:boot IS NULL OR o.boot_key = :boot)"
        " AND (:build IS NULL OR o.build_key = :build)"
        " ORDER BY o.id DESC LIMIT :limit",
        {"commit": commit, "tree": tree, "variant": variant, "outcome": outcome,
         "boot": boot_key, "build": build_key, "limit": limit},
    )  # fmt: skip
    return tuple(map(_line, rows))


def trials(tx: Transaction, wanted: tuple[Trial, ...]) -> tuple[ObservationLine, ...]:
    """The observations of these trials, as far as there are any, in this order."""
    found = [
        tx.execute(
            f"{_OBSERVATIONS} WHERE o.commit_id = ? AND o.variant = ? AND o.rebuild = ?"
            " AND o.repeat = ? AND o.host = ?",
            (trial.commit, trial.variant, trial.rebuild, trial.repeat, trial.host or ""),
        ).fetchone()
        for trial in wanted
    ]
    return tuple(_line(row) for row in found if row)


def asked_by(tx: Transaction, kind: JobKind, key: str) -> tuple[ObservationLine, ...]:
    """The observations that somebody wants, oldest first."""
    rows = tx.execute(
        f"{_OBSERVATIONS} WHERE o.id IN (SELECT observation_id FROM want"
        " WHERE asker_kind = ? AND asker_key = ?) ORDER BY o.id",
        (kind, key),
    )
    return tuple(map(_line, rows))


def lab_failure(tx: Transaction, number: int) -> str | None:
    """Why an observation ended as INFRA: the error of the job that was given up."""
    observation = history.observation(tx, number)
    variant = history.variant(tx, observation.trial.variant)
    todo = next_step(observation.trial, variant, history.steps(tx, observation, variant))
    if not isinstance(todo, Step):
        return None
    row = tx.execute(
        "SELECT error FROM job WHERE kind = ? AND key = ? AND state = 'dead'"
        " ORDER BY id DESC LIMIT 1",
        (todo.kind, todo.key),
    ).fetchone()
    return f"{todo.kind}: {row['error']}" if row else None


def recorded_at(tx: Transaction, kind: JobKind, key: str) -> float | None:
    """When a build or boot was recorded, or None if there is none with this key."""
    table = {JobKind.BUILD: "build", JobKind.BOOT: "boot"}[kind]
    row = tx.execute(f"SELECT at FROM {table} WHERE key = ?", (key,)).fetchone()
    return None if row is None else float(row["at"])


def folders(tx: Transaction, boot_key: str) -> tuple[Folder, ...]:
    """The coverage of a boot by top-level folder of the kernel source, most lines first."""
    rows = tx.execute(
        "SELECT substr(path, 1, instr(path || '/', '/') - 1) AS name, count(*) AS files,"
        " sum(lines_covered) AS lc, sum(lines_total) AS lt,"
        " sum(functions_covered) AS fc, sum(functions_total) AS ft,"
        " sum(branches_covered) AS bc, sum(branches_total) AS bt,"
        " sum(mcdc_covered) AS mc, sum(mcdc_total) AS mt"
        " FROM coverage WHERE boot_key = ? AND origin = 'source' GROUP BY 1 ORDER BY lt DESC, 1",
        (boot_key,),
    )
    return tuple(
        Folder(
            name=row["name"],
            files=row["files"],
            totals=Totals(
                lines=Count(covered=row["lc"], total=row["lt"]),
                functions=Count(covered=row["fc"], total=row["ft"]),
                branches=Count(covered=row["bc"], total=row["bt"]),
                mcdc=Count(covered=row["mc"], total=row["mt"]),
            ),
        )
        for row in rows
    )


def mails(
    tx: Transaction,
    *,
    thread: str | None = None,
    state: MailState | None = None,
    number: int | None = None,
    limit: int,
) -> tuple[MailLine, ...]:
    """Mails that fit all that is given, newest first."""
    rows = tx.execute(
        "SELECT id, message_id, thread, kind, subject, state, error, created_at, sent_at FROM mail"
        " WHERE (:thread IS NULL OR thread = :thread) AND (:state IS NULL OR state = :state)"
        " AND (:number IS NULL OR id = :number) ORDER BY id DESC LIMIT :limit",
        {"thread": thread, "state": state, "number": number, "limit": limit},
    ).fetchall()
    return tuple(
        MailLine(
            id=row["id"],
            message_id=row["message_id"],
            thread=row["thread"],
            kind=ReportKind(row["kind"]),
            subject=row["subject"],
            state=MailState(row["state"]),
            error=row["error"],
            created_at=row["created_at"],
            sent_at=row["sent_at"],
            deliveries=_deliveries(tx, row["id"]),
        )
        for row in rows
    )


def mail_text(tx: Transaction, number: int) -> bytes | None:
    """The whole mail as it goes out."""
    row = tx.execute("SELECT message FROM mail WHERE id = ?", (number,)).fetchone()
    return None if row is None else bytes(row["message"])


def regression_exists(tx: Transaction, number: int) -> bool:
    """Whether there is a regression of this number."""
    return bool(tx.execute("SELECT 1 FROM regression WHERE id = ?", (number,)).fetchone())


def subject_of_job(tx: Transaction, kind: JobKind, key: str) -> str:
    """What a job is about, in words: its key is a hash or a number."""
    if kind in STEPS:
        return _subject_of_step(tx, kind, key)
    if kind is JobKind.JUDGE:
        tree, digest = judged_by(key)
        row = tx.execute("SELECT name FROM variant WHERE digest = ?", (digest,)).fetchone()
        return f"{tree} {row['name']}" if row else tree
    statement = _SUBJECTS.get(kind)
    row = tx.execute(statement, (key,)).fetchone() if statement else None
    return str(row["subject"]) if row else key


_SUBJECTS = {
    JobKind.PLAN: "SELECT tree || ' ' || tag AS subject FROM revision WHERE id = ?",
    JobKind.INVESTIGATE: "SELECT 'regression ' || regression_id || ', ' || goal || ': ' || phase"
    " AS subject FROM investigation WHERE id = ?",
    JobKind.REPORT: "SELECT 'regression ' || id AS subject FROM regression WHERE id = ?",
    JobKind.SEND: "SELECT subject FROM mail WHERE id = ?",
    JobKind.COMMAND: "SELECT verb || ' from ' || sender AS subject FROM command WHERE id = ?",
}


def _subject_of_step(tx: Transaction, kind: JobKind, key: str) -> str:
    rows = tx.execute(
        f"{_OBSERVATIONS} WHERE o.waits_kind = ? AND o.waits_key = ? AND o.outcome IS NULL"
        " ORDER BY o.id LIMIT 100",
        (kind, key),
    ).fetchall()
    if not rows:
        return key[:12]
    line = _line(rows[0])
    commit = line.tags[0][1] if line.tags else line.trial.commit[:12]
    control = " without the series" if line.is_control else ""
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{commit} {line.variant_name}{control}{more}"


def _deliveries(tx: Transaction, number: int) -> tuple[Delivery, ...]:
    rows = tx.execute(
        "SELECT address, state, answer FROM recipient WHERE mail_id = ? ORDER BY address", (number,)
    )
    return tuple(
        Delivery(
            address=row["address"], state=DeliveryState(row["state"]), answer=row["answer"] or ""
        )
        for row in rows
    )


def _line(row: sqlite3.Row) -> ObservationLine:
    return ObservationLine(
        id=row["id"],
        trial=Trial(
            commit=row["commit_id"],
            variant=row["variant"],
            rebuild=row["rebuild"],
            repeat=row["repeat"],
            host=row["host"] or None,
        ),
        variant_name=row["variant_name"],
        is_control=bool(row["is_control"]),
        series=row["series"],
        tags=tuple((tree, tag) for tree, tag in json.loads(row["tags"])),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        milestone=Milestone(row["milestone"]),
        finding=decode_optional(Finding, row["finding"]),
        step=JobKind(row["waits_kind"]) if row["waits_kind"] else None,
        is_running=bool(row["is_running"]),
        checkout_key=row["checkout_key"],
        build_key=row["build_key"],
        boot_key=row["boot_key"],
        host=row["ran_on"],
        totals=decode_optional(Totals, row["totals"]),
        created_at=row["created_at"],
        settled_at=row["settled_at"],
    )
