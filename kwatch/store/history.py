# SPDX-License-Identifier: GPL-2.0-or-later
"""What was tried and what it gave: revisions, observations and their steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding
from kwatch.domain.lab.job import JobKind
from kwatch.domain.log.scan import READER_VERSION
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.variant import Variant
from kwatch.domain.source.revision import Revision
from kwatch.domain.trial.observation import (
    BootResult,
    BuildResult,
    CheckoutResult,
    Collection,
    Outcome,
    Steps,
    Trial,
    keys_of,
)
from kwatch.domain.verdict.regression import TagResult
from kwatch.store import coverage
from kwatch.store.codec import decode, decode_optional, encode
from kwatch.store.queue import marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObservation:
    """An observation as it stands. ``outcome`` is None until it is settled."""

    id: int
    trial: Trial
    outcome: Outcome | None
    milestone: Milestone
    finding: Finding | None
    checkout_key: str | None
    build_key: str | None
    boot_key: str | None


# Revisions


def known_tags(tx: Transaction, tree: str) -> dict[str, str]:
    """Each tag of a tree and the commit it was last seen at."""
    rows = tx.execute(
        "SELECT tag, commit_id FROM revision WHERE tree = ? ORDER BY seen_at, id", (tree,)
    )
    return {row["tag"]: row["commit_id"] for row in rows}


def revision(tx: Transaction, number: int) -> Revision:
    """The revision of a plan job."""
    return _revision(tx.execute("SELECT * FROM revision WHERE id = ?", (number,)).fetchone())


def newest_revisions(tx: Transaction) -> tuple[tuple[int, Revision], ...]:
    """The newest revision of each tree, with its number."""
    rows = tx.execute(
        "SELECT * FROM revision WHERE id IN (SELECT max(id) FROM revision GROUP BY tree)"
    )
    return tuple((row["id"], _revision(row)) for row in rows)


def revisions(tx: Transaction, tree: str | None = None, limit: int = 50) -> tuple[Revision, ...]:
    """The newest revisions, newest first."""
    rows = tx.execute(
        "SELECT * FROM revision WHERE ? IS NULL OR tree = ? ORDER BY id DESC LIMIT ?",
        (tree, tree, limit),
    )
    return tuple(_revision(row) for row in rows)


def add_revision(tx: Transaction, revision: Revision) -> int | None:
    """Add a revision; its number, or None if it is known: then the tag moved back to it."""
    row = tx.execute(
        "INSERT INTO revision (tree, tag, commit_id, seen_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (revision.tree, revision.tag, revision.commit, revision.seen_at),
    ).fetchone()
    if row is not None:
        return int(row["id"])
    tx.execute(
        "UPDATE revision SET seen_at = ? WHERE tree = ? AND tag = ? AND commit_id = ?",
        (revision.seen_at, revision.tree, revision.tag, revision.commit),
    )
    return None


def _revision(row: sqlite3.Row) -> Revision:
    return Revision(
        tree=row["tree"], tag=row["tag"], commit=row["commit_id"], seen_at=row["seen_at"]
    )


def tag_results(tx: Transaction, tree: str, variant: str) -> tuple[TagResult, ...]:
    """What every settled tag of a tree gave in a variant (a digest), in the order they came."""
    rows = tx.execute(
        "SELECT r.tag, o.* FROM revision AS r JOIN observation AS o ON o.commit_id = r.commit_id"
        " WHERE r.tree = ? AND o.variant = ? AND o.rebuild = 0 AND o.repeat = 0 AND o.host = ''"
        " AND o.outcome IS NOT NULL ORDER BY r.id",
        (tree, variant),
    )
    return tuple(
        TagResult(
            tag=row["tag"],
            commit=row["commit_id"],
            outcome=Outcome(row["outcome"]),
            milestone=Milestone(row["milestone"]),
            finding=decode_optional(Finding, row["finding"]),
        )
        for row in rows
    )


# Variants


def put_variant(tx: Transaction, variant: Variant) -> None:
    """Keep a variant's definition under its digest."""
    tx.execute(
        "INSERT INTO variant (digest, name, variant) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (variant.digest, variant.name, encode(variant)),
    )


def variant(tx: Transaction, digest: str) -> Variant:
    """The variant with this digest."""
    row = tx.execute("SELECT variant FROM variant WHERE digest = ?", (digest,)).fetchone()
    return decode(Variant, row["variant"])


# Steps


def checkout(tx: Transaction, key: str | None) -> CheckoutResult | None:
    """The checkout with this key, if it was made."""
    row = tx.execute("SELECT result FROM checkout WHERE key = ?", (key,)).fetchone()
    return None if row is None else decode(CheckoutResult, row["result"])


def build(tx: Transaction, key: str | None) -> BuildResult | None:
    """The build with this key, if it was made."""
    row = tx.execute(
        "SELECT result, NOT EXISTS (SELECT 1 FROM blob_ref LEFT JOIN blob USING (digest)"
        " WHERE owner_kind = 'build' AND owner_key = build.key"
        " AND name IN ('image', 'vmlinux') AND blob.digest IS NULL)"
        " AS available FROM build WHERE key = ?",
        (key,),
    ).fetchone()
    if row is None:
        return None
    result = decode(BuildResult, row["result"])
    if row["available"]:
        return result
    return replace(result, available=False)


def boot(tx: Transaction, key: str | None) -> BootResult | None:
    """The boot with this key, if it was made."""
    row = tx.execute("SELECT result FROM boot WHERE key = ?", (key,)).fetchone()
    return None if row is None else decode(BootResult, row["result"])


def collection(tx: Transaction, key: str | None) -> Collection | None:
    """The coverage of a boot, if it was collected."""
    row = tx.execute("SELECT * FROM collection WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    return Collection(
        key=row["key"],
        finding=decode_optional(Finding, row["finding"]),
        coverage=coverage.load(tx, row["key"]),
        took=row["took"],
    )


def put_checkout(tx: Transaction, result: CheckoutResult, *, now: float) -> None:
    """Keep a checkout."""
    tx.execute(
        "INSERT OR REPLACE INTO checkout (key, result, at) VALUES (?, ?, ?)",
        (result.key, encode(result), now),
    )


def put_build(tx: Transaction, result: BuildResult, *, now: float) -> None:
    """Keep a build and claim its blobs. A build made again replaces itself."""
    tx.execute(
        "INSERT INTO build (key, host, milestone, took, result, at, reader)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET host = excluded.host,"
        " milestone = excluded.milestone, took = excluded.took, result = excluded.result,"
        " at = excluded.at, reader = excluded.reader",
        (result.key, result.host, result.milestone, result.took, encode(result), now,
         READER_VERSION),
    )  # fmt: skip
    put_artifacts(tx, JobKind.BUILD, result.key, result.artifacts)


def put_boot(tx: Transaction, result: BootResult, *, now: float) -> None:
    """Keep a boot and claim its blobs."""
    tx.execute(
        "INSERT INTO boot (key, build_key, host, milestone, took, result, at, reader)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET host = excluded.host,"
        " milestone = excluded.milestone, took = excluded.took, result = excluded.result,"
        " at = excluded.at, reader = excluded.reader",
        (result.key, result.build_key, result.host, result.milestone, result.took,
         encode(result), now, READER_VERSION),
    )  # fmt: skip
    put_artifacts(tx, JobKind.BOOT, result.key, result.artifacts)


def unread(tx: Transaction, reader: int, limit: int) -> tuple[BuildResult | BootResult, ...]:
    """The newest builds and boots whose logs an older reader than ``reader`` has read."""
    rows = tx.execute(
        "SELECT 'build' AS kind, result, at FROM build WHERE reader < ?"
        " UNION ALL SELECT 'boot', result, at FROM boot WHERE reader < ?"
        " ORDER BY at DESC LIMIT ?",
        (reader, reader, limit),
    )
    return tuple(
        decode(BuildResult, row["result"])
        if row["kind"] == "build"
        else decode(BootResult, row["result"])
        for row in rows
    )


def read_again(tx: Transaction, result: BuildResult | BootResult, *, reader: int) -> bool:
    """Keep what a newer reader found; whether it is something else than before."""
    table = "build" if isinstance(result, BuildResult) else "boot"
    row = tx.execute(f"SELECT result FROM {table} WHERE key = ?", (result.key,)).fetchone()
    before = decode(type(result), row["result"])
    tx.execute(
        f"UPDATE {table} SET result = ?, reader = ? WHERE key = ?",
        (encode(replace(before, finding=result.finding)), reader, result.key),
    )
    return before.finding != result.finding


def settled_by(tx: Transaction, result: BuildResult | BootResult) -> tuple[StoredObservation, ...]:
    """The settled observations that this result is a step of."""
    column = "build_key" if isinstance(result, BuildResult) else "boot_key"
    rows = tx.execute(
        f"SELECT * FROM observation WHERE {column} = ? AND outcome IS NOT NULL", (result.key,)
    )
    return tuple(map(_observation, rows))


def put_collection(tx: Transaction, result: Collection, *, now: float) -> None:
    """Keep the coverage of a boot."""
    tx.execute(
        "INSERT OR REPLACE INTO collection (key, finding, totals, took, at) VALUES (?, ?, ?, ?, ?)",
        (
            result.key,
            encode(result.finding) if result.finding else None,
            encode(result.coverage.totals) if result.coverage else None,
            result.took,
            now,
        ),
    )
    if result.coverage:
        coverage.save(tx, result.key, result.coverage)


def put_artifacts(tx: Transaction, kind: JobKind, key: str, artifacts: Mapping[str, str]) -> None:
    """Say whose blobs these are, so that the disk budget knows what it takes from whom.

    What a result made before had and this one has not is forgotten.
    """
    tx.execute("DELETE FROM blob_ref WHERE owner_kind = ? AND owner_key = ?", (kind, key))
    tx.executemany(
        "INSERT OR REPLACE INTO blob_ref (owner_kind, owner_key, name, digest) VALUES (?, ?, ?, ?)",
        [(kind, key, name, digest) for name, digest in artifacts.items()],
    )


# Observations


def observe(tx: Transaction, trial: Trial, *, now: float) -> int:
    """The number of the observation of ``trial``, made if it is not there."""
    values = (trial.commit, trial.variant, trial.rebuild, trial.repeat, trial.host or "")
    tx.execute(
        "INSERT INTO observation (commit_id, variant, rebuild, repeat, host, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (*values, now),
    )
    row = tx.execute(
        "SELECT id FROM observation WHERE commit_id = ? AND variant = ? AND rebuild = ?"
        " AND repeat = ? AND host = ?",
        values,
    ).fetchone()
    return int(row["id"])


def observation(tx: Transaction, number: int) -> StoredObservation:
    """One observation."""
    row = tx.execute("SELECT * FROM observation WHERE id = ?", (number,)).fetchone()
    return _observation(row)


def find_observation(tx: Transaction, trial: Trial) -> StoredObservation | None:
    """The observation of ``trial``, if there is one."""
    row = tx.execute(
        "SELECT * FROM observation WHERE commit_id = ? AND variant = ? AND rebuild = ?"
        " AND repeat = ? AND host = ?",
        (trial.commit, trial.variant, trial.rebuild, trial.repeat, trial.host or ""),
    ).fetchone()
    return None if row is None else _observation(row)


def settled(tx: Transaction, variants: Iterable[str]) -> tuple[StoredObservation, ...]:
    """Every settled observation in one of the variants (digests)."""
    wanted_variants = list(variants)
    rows = tx.execute(
        f"SELECT * FROM observation WHERE outcome IS NOT NULL"
        f" AND variant IN ({marks(wanted_variants)}) ORDER BY id",
        wanted_variants,
    )
    return tuple(map(_observation, rows))


def waiting(tx: Transaction, kind: JobKind, key: str) -> tuple[StoredObservation, ...]:
    """The observations that wait for this step."""
    rows = tx.execute(
        "SELECT * FROM observation WHERE waits_kind = ? AND waits_key = ? AND outcome IS NULL",
        (kind, key),
    )
    return tuple(_observation(row) for row in rows)


def wanted(tx: Transaction, kind: JobKind, key: str) -> StoredObservation | None:
    """One observation that waits for this step and that somebody still wants, or None."""
    row = tx.execute(
        "SELECT * FROM observation AS o WHERE waits_kind = ? AND waits_key = ?"
        " AND outcome IS NULL AND EXISTS (SELECT 1 FROM want WHERE observation_id = o.id) LIMIT 1",
        (kind, key),
    ).fetchone()
    return None if row is None else _observation(row)


def steps(tx: Transaction, observation: StoredObservation, definition: Variant) -> Steps:
    """All that is known of an observation's steps."""
    keys = keys_of(observation.trial, definition, Steps())
    found = Steps(checkout=checkout(tx, keys.get(JobKind.CHECKOUT)))
    keys = keys_of(observation.trial, definition, found)
    return Steps(
        checkout=found.checkout,
        build=build(tx, keys.get(JobKind.BUILD)),
        boot=boot(tx, keys.get(JobKind.BOOT)),
        collection=collection(tx, keys.get(JobKind.COLLECT)),
    )


def _observation(row: sqlite3.Row) -> StoredObservation:
    return StoredObservation(
        id=row["id"],
        trial=Trial(
            commit=row["commit_id"],
            variant=row["variant"],
            rebuild=row["rebuild"],
            repeat=row["repeat"],
            host=row["host"] or None,
        ),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        milestone=Milestone(row["milestone"]),
        finding=decode_optional(Finding, row["finding"]),
        checkout_key=row["checkout_key"],
        build_key=row["build_key"],
        boot_key=row["boot_key"],
    )
