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
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Revision
from kwatch.domain.trial.route import Outcome, Step, next_step
from kwatch.domain.trial.trial import Trial
from kwatch.store import revisions, steps, trials
from kwatch.store.codec import decode_optional

if TYPE_CHECKING:
    import sqlite3

    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLine:
    """A trial with all that a line about it shows.

    ``variant_name`` is that of the lane that it was planned for, or of the investigation that asked
    for it. ``step`` is what it waits for, and ``is_running`` whether that is being done now.
    ``host`` is where it was booted, or built if it never got that far. ``tags`` are the (tree, tag)
    that its commit carries.
    """

    id: int
    trial: Trial
    variant_name: str
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

    @property
    def is_control(self) -> bool:
        """Whether no series of ours is applied."""
        return self.trial.is_control


@dataclass(frozen=True, slots=True, kw_only=True)
class TagLine:
    """A tag of a tree and its trials, one for each variant."""

    revision: Revision
    trials: tuple[TrialLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceLine:
    """A branch of a lane that has or had a regression, by its tags.

    ``good`` is the last one before, if there was one, ``bad`` the first one with it, and ``gone``
    the one that is free of it again.
    """

    tree: str
    variant: str
    good: str | None
    bad: str
    gone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineLine:
    """What a tag without an earlier good one is compared with; ``outcome`` is None until then."""

    variant: str
    name: str
    commit: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The coverage of one boot below a top-level folder of the source."""

    name: str
    files: int
    totals: Totals


# The partial index job_alive serves only a statement that repeats its condition.
_COLUMNS = """
trial.*, source.definition, series.title AS series_title,
(SELECT json_group_array(json_array(r.tree, r.tag)) FROM revision AS r
    WHERE r.commit_id = source.base) AS tags,
EXISTS (SELECT 1 FROM job WHERE job.state IN ('queued', 'running') AND job.state = 'running'
    AND job.kind = trial.waits_kind AND job.key = trial.waits_key) AS is_running,
coalesce(boot.host, build.host) AS ran_on, collection.totals, finding.finding AS found
"""
_JOINS = """
LEFT JOIN series ON series.digest = source.series
LEFT JOIN build ON build.row = trial.build_row
LEFT JOIN boot ON boot.key = trial.boot_key
LEFT JOIN collection ON collection.key = trial.boot_key
LEFT JOIN finding ON finding.id = trial.finding
"""
# By the lane that a trial was planned for, or that of the investigation that asked for it.
_VARIANT = """
coalesce(
    (SELECT lane.variant FROM planned JOIN lane ON lane.id = planned.lane
        WHERE planned.trial = trial.id ORDER BY planned.id DESC LIMIT 1),
    (SELECT lane.variant FROM investigation_step AS asked
        JOIN investigation ON investigation.id = asked.investigation
        JOIN regression ON regression.id = investigation.regression_id
        JOIN lane ON lane.id = regression.lane WHERE asked.trial = trial.id LIMIT 1),
    '') AS variant_name
"""
_TRIALS = (
    f"SELECT {_VARIANT}, {_COLUMNS} FROM trial JOIN source ON source.key = trial.source {_JOINS}"
)
_HAS_TAG = "EXISTS (SELECT 1 FROM revision AS r WHERE r.tree = :tree AND r.commit_id = source.base)"
_IS_PLANNED = (
    "EXISTS (SELECT 1 FROM planned JOIN lane ON lane.id = planned.lane"
    " WHERE planned.trial = trial.id AND lane.variant = :variant)"
)


def trees(tx: Transaction) -> tuple[str, ...]:
    """Every tree that was ever polled or has a tag."""
    # From one tree to the next in the index: there are a hundred tags to each.
    rows = tx.execute(
        "WITH RECURSIVE tagged(tree) AS (SELECT min(tree) FROM revision UNION ALL"
        " SELECT (SELECT min(tree) FROM revision WHERE tree > tagged.tree) FROM tagged"
        " WHERE tree IS NOT NULL)"
        " SELECT tree FROM tagged WHERE tree IS NOT NULL UNION SELECT substr(source, 6)"
        " FROM cursor WHERE source LIKE 'tree:%' ORDER BY 1"
    )
    return tuple(row["tree"] for row in rows)


def newest_tags(tx: Transaction, tree: str, *, limit: int) -> tuple[TagLine, ...]:
    """The newest tags of a tree, newest first, each with its trial in each lane."""
    newest = revisions.newest_first(tx, tree, limit)
    rows = tx.execute(
        f"SELECT revision.tag, revision.commit_id, lane.variant AS variant_name, {_COLUMNS}"
        " FROM revision JOIN planned ON planned.revision = revision.id"
        " JOIN lane ON lane.id = planned.lane JOIN trial ON trial.id = planned.trial"
        f" JOIN source ON source.key = trial.source {_JOINS}"
        " WHERE revision.id IN (SELECT id FROM revision WHERE tree = ? ORDER BY id DESC LIMIT ?)"
        " ORDER BY planned.id",
        (tree, limit),
    ).fetchall()
    lines = {(row["tag"], row["commit_id"], row["variant_name"]): _line(row) for row in rows}
    return tuple(
        TagLine(
            revision=one,
            trials=tuple(lines[key] for key in sorted(lines) if key[:2] == (one.tag, one.commit)),
        )
        for one in newest
    )


def boots(tx: Transaction, start: str, *, limit: int) -> tuple[str, ...]:
    """The keys that begin with ``start`` of boots that are known, or that a trial waits for."""
    rows = tx.execute(
        "SELECT key FROM boot WHERE key >= ? AND key < ? UNION"
        " SELECT waits_key AS key FROM trial WHERE waits_kind = 'boot' AND outcome IS NULL"
        " AND waits_key >= ? AND waits_key < ? ORDER BY key LIMIT ?",
        (start, start + "\x7f", start, start + "\x7f", limit),
    )
    return tuple(row["key"] for row in rows)


def tagged(tx: Transaction, tree: str, tag: str) -> tuple[Revision, ...]:
    """The commits that a tag stood at, newest first; none if it is not known."""
    rows = tx.execute(
        "SELECT * FROM revision WHERE tree = ? AND tag = ? ORDER BY seen_at DESC, id DESC",
        (tree, tag),
    )
    return tuple(
        Revision(tree=tree, tag=tag, commit=row["commit_id"], seen_at=row["seen_at"])
        for row in rows
    )


def trial_lines(
    tx: Transaction,
    *,
    commit: str | None = None,
    tree: str | None = None,
    variant: str | None = None,
    outcome: Outcome | None = None,
    boot_key: str | None = None,
    build_key: str | None = None,
    limit: int,
) -> tuple[TrialLine, ...]:
    """Trials that fit all that is given, newest first. ``variant`` is the name of one."""
    given: dict[str, object] = {"limit": limit}
    conditions = []
    for name, value, condition in (
        ("commit", commit, "source.base = :commit"),
        ("outcome", outcome, "trial.outcome = :outcome"),
        ("boot", boot_key, "trial.boot_key = :boot"),
        ("build", build_key, "trial.build_row = :build"),
        ("tree", tree, _HAS_TAG),
        ("variant", variant, _IS_PLANNED),
    ):
        if value is not None:
            given[name] = value
            conditions.append(condition)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = tx.execute(f"{_TRIALS}{where} ORDER BY trial.id DESC LIMIT :limit", given).fetchall()
    return tuple(_line(row) for row in rows)


def numbered(tx: Transaction, wanted: tuple[int, ...]) -> tuple[TrialLine, ...]:
    """The trials of these numbers, in this order."""
    rows = tx.execute(
        f"{_TRIALS} WHERE trial.id IN (SELECT value FROM json_each(?))", (json.dumps(wanted),)
    ).fetchall()
    lines = {line.id: line for line in map(_line, rows)}
    return tuple(lines[number] for number in wanted if number in lines)


def proof(tx: Transaction, wanted: tuple[Trial, ...]) -> tuple[TrialLine, ...]:
    """The lines of these trials, as far as there are any, in this order."""
    found = (trials.find(tx, trial) for trial in wanted)
    return numbered(tx, tuple(one.id for one in found if one))


def wanted_by(tx: Transaction, kind: JobKind, key: str) -> tuple[TrialLine, ...]:
    """The trials that somebody wants, oldest first."""
    rows = tx.execute(
        "SELECT trial FROM want WHERE asker_kind = ? AND asker_key = ? ORDER BY trial", (kind, key)
    ).fetchall()
    return numbered(tx, tuple(row["trial"] for row in rows))


def infra_failure(tx: Transaction, number: int) -> str | None:
    """Why a trial ended as INFRA: the error of the job that was given up."""
    found = trials.load(tx, number)
    known = steps.of_trial(tx, found.trial, build_row=found.build_row, boot_key=found.boot_key)
    todo = next_step(found.trial, known)
    if not isinstance(todo, Step):
        return None
    row = tx.execute(
        "SELECT error FROM job WHERE kind = ? AND key = ? AND state = 'dead'"
        " ORDER BY id DESC LIMIT 1",
        (todo.kind, todo.key),
    ).fetchone()
    return f"{todo.kind}: {row['error']}" if row else None


def recorded_at(tx: Transaction, kind: JobKind, key: str) -> float | None:
    """When a build (its row) or boot was recorded, or None if there is none with this key."""
    statement = {
        JobKind.BUILD: "SELECT at FROM build WHERE row = ?",
        JobKind.BOOT: "SELECT at FROM boot WHERE key = ?",
    }[kind]
    row = tx.execute(statement, (key,)).fetchone()
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


def present_in(tx: Transaction, regression: int) -> tuple[PresenceLine, ...]:
    """The lines that have or had a regression, in the order of their lanes."""
    rows = tx.execute(
        "SELECT lane.tree, variant, good.tag AS good, bad.tag AS bad, gone.tag AS gone"
        " FROM presence JOIN lane ON lane.id = presence.lane"
        " LEFT JOIN revision AS good ON good.id = good_revision"
        " JOIN revision AS bad ON bad.id = bad_revision"
        " LEFT JOIN revision AS gone ON gone.id = gone_revision"
        " WHERE regression = ? ORDER BY lane.id, branch",
        (regression,),
    )
    return tuple(PresenceLine(**row) for row in rows)


def baselines(tx: Transaction, revision: Revision) -> tuple[BaselineLine, ...]:
    """What a tag is compared with in each lane, in the order in which it is tried."""
    rows = tx.execute(
        'SELECT variant, base.tag AS name, base.commit_id AS "commit", outcome'
        " FROM revision AS failing JOIN baseline_search AS search ON search.failing = failing.id"
        " JOIN baseline ON baseline.search = search.id"
        " JOIN revision AS base ON base.id = baseline.revision"
        " JOIN lane ON lane.id = search.lane LEFT JOIN trial ON trial.id = baseline.trial"
        " WHERE failing.tree = ? AND failing.tag = ? AND failing.commit_id = ?"
        " ORDER BY search.lane, place",
        (revision.tree, revision.tag, revision.commit),
    )
    return tuple(
        BaselineLine(
            variant=row["variant"],
            name=row["name"],
            commit=row["commit"],
            outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        )
        for row in rows
    )


def subject_of_job(tx: Transaction, kind: JobKind, key: str) -> str:
    """What a job is about, in words: its key is a hash or a number."""
    if kind in STEPS:
        return _subject_of_step(tx, kind, key)
    statement = _SUBJECTS.get(kind)
    row = tx.execute(statement, (key,)).fetchone() if statement else None
    return str(row["subject"]) if row else key


_SUBJECTS = {
    JobKind.PLAN: "SELECT tree || ' ' || tag AS subject FROM revision WHERE id = ?",
    JobKind.JUDGE: "SELECT tree || ' ' || variant AS subject FROM lane WHERE id = ?",
    JobKind.BASELINE: "SELECT tree || ' ' || tag AS subject FROM revision"
    " WHERE id = substr(?1, instr(?1, '/') + 1)",
    JobKind.INVESTIGATE: "SELECT coalesce('regression ' || regression_id, 'question ' || id)"
    " || ', ' || goal || ': ' || phase"
    " AS subject FROM investigation WHERE id = ?",
    JobKind.REPORT: "SELECT kind || ' ' || owner AS subject FROM thread WHERE id = ?",
    JobKind.SEND: "SELECT subject FROM mail WHERE id = ?",
    JobKind.COMMAND: "SELECT verb || ' from ' || sender AS subject FROM command WHERE id = ?",
}


def _subject_of_step(tx: Transaction, kind: JobKind, key: str) -> str:
    rows = tx.execute(
        f"{_TRIALS} WHERE trial.waits_kind = ? AND trial.waits_key = ? AND trial.outcome IS NULL"
        " ORDER BY trial.id LIMIT 100",
        (kind, key),
    ).fetchall()
    if not rows:
        return key[:12]
    line = _line(rows[0])
    commit = line.tags[0][1] if line.tags else line.trial.commit[:12]
    control = " without the series" if line.is_control else ""
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{commit} {line.variant_name}{control}{more}"


def _line(row: sqlite3.Row) -> TrialLine:
    return TrialLine(
        id=row["id"],
        trial=trials.trial_of(row),
        variant_name=row["variant_name"],
        series=row["series_title"],
        tags=tuple((tree, tag) for tree, tag in json.loads(row["tags"])),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        milestone=Milestone(row["milestone"]),
        finding=decode_optional(Finding, row["found"]),
        step=JobKind(row["waits_kind"]) if row["waits_kind"] else None,
        is_running=bool(row["is_running"]),
        checkout_key=row["checkout_key"],
        build_key=row["build_row"],
        boot_key=row["boot_key"],
        host=row["ran_on"],
        totals=decode_optional(Totals, row["totals"]),
        created_at=row["created_at"],
        settled_at=row["settled_at"],
    )
