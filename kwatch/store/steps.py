# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps of trials: what each is to do, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding
from kwatch.domain.lab.job import JobKind
from kwatch.domain.log.scan import READER_VERSION
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.source import Source
from kwatch.domain.trial.case_results import CaseResults
from kwatch.domain.trial.steps import (
    BootResult,
    BuildResult,
    CheckoutResult,
    Collected,
    Collection,
    Steps,
    inputs_of,
    keys_of,
)
from kwatch.domain.trial.trial import Trial
from kwatch.store import cases, coverage, findings
from kwatch.store.codec import decode, decode_optional, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """What a step is to do: the trial that it was queued for first.

    Every other trial that needs the step has the same inputs, or its key were another.
    """

    kind: JobKind
    key: str
    trial: Trial


def describe(tx: Transaction, kind: JobKind, key: str, trial: Trial) -> None:
    """Keep what a step is to do, before its job is queued."""
    tx.execute(
        "INSERT INTO step (kind, key, source, trial) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (kind, key, trial.source.key, encode(trial)),
    )


def inputs(tx: Transaction, kind: JobKind, key: str) -> StepInputs | None:
    """What the step with this key is to do; None if nobody ever needed it."""
    row = tx.execute("SELECT trial FROM step WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return (
        None if row is None else StepInputs(kind=kind, key=key, trial=decode(Trial, row["trial"]))
    )


def is_wanted(tx: Transaction, kind: JobKind, key: str) -> bool:
    """Whether a trial that somebody wants waits for this step."""
    row = tx.execute(
        "SELECT 1 FROM trial WHERE waits_kind = ? AND waits_key = ? AND outcome IS NULL"
        " AND EXISTS (SELECT 1 FROM want WHERE want.trial = trial.id) LIMIT 1",
        (kind, key),
    ).fetchone()
    return row is not None


def wanted(tx: Transaction, kind: JobKind, key: str) -> Trial | None:
    """What a step is to do, if somebody still wants it."""
    found = inputs(tx, kind, key) if is_wanted(tx, kind, key) else None
    return found.trial if found else None


def of_trial(
    tx: Transaction, trial: Trial, *, build_row: str | None = None, boot_key: str | None = None
) -> Steps:
    """The results of a trial so far.

    ``build_row`` and ``boot_key`` are the build and the boot that it had, once they are known.
    """
    found = Steps(checkout=checkout(tx, trial.source.key))
    if trial.until <= Milestone.CHECKOUT:
        return found
    key = keys_of(trial, found).get(JobKind.BUILD)
    found = replace(found, build=build(tx, build_row) if build_row else find_build(tx, key))
    if trial.until <= Milestone.LINKED:
        return found
    wanted = keys_of(trial, found).get(JobKind.BOOT)
    # A build that was made again may have given another image.
    is_same = boot_key and wanted and inputs_of(boot_key) == inputs_of(wanted)
    found = replace(found, boot=boot(tx, boot_key) if is_same else find_boot(tx, wanted))
    return replace(found, collection=collected(tx, keys_of(trial, found).get(JobKind.COLLECT)))


def source(tx: Transaction, key: str) -> Source:
    """The source with this key."""
    row = tx.execute("SELECT definition FROM source WHERE key = ?", (key,)).fetchone()
    return decode(Source, row["definition"])


def put_source(tx: Transaction, found: Source) -> None:
    """Keep a source under its key."""
    tx.execute(
        "INSERT INTO source (key, base, series, definition) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (found.key, found.base, found.series, encode(found)),
    )


def checkout(tx: Transaction, key: str | None) -> CheckoutResult | None:
    """The checkout with this key, if it was made."""
    row = tx.execute("SELECT result FROM checkout WHERE key = ?", (key,)).fetchone()
    if row is None or key is None:
        return None
    cause, _ = findings.of_step(tx, JobKind.CHECKOUT, key)
    return replace(decode(CheckoutResult, row["result"]), finding=cause)


def find_build(tx: Transaction, key: str | None) -> BuildResult | None:
    """The build of these inputs: in the environment that the key names, or else the newest."""
    row = tx.execute(
        "SELECT row FROM build WHERE row = ? OR key = ? ORDER BY row = ? DESC, at DESC LIMIT 1",
        (key, key, key),
    ).fetchone()
    return None if row is None else build(tx, row["row"])


def build(tx: Transaction, row_key: str | None) -> BuildResult | None:
    """The build of this row, if it was made."""
    row = tx.execute(
        "SELECT result, NOT EXISTS (SELECT 1 FROM blob_ref LEFT JOIN blob USING (digest)"
        " WHERE owner_kind = 'build' AND owner_key = build.row"
        " AND name IN ('image', 'vmlinux') AND blob.digest IS NULL)"
        " AS available FROM build WHERE row = ?",
        (row_key,),
    ).fetchone()
    if row is None or row_key is None:
        return None
    cause, others = findings.of_step(tx, JobKind.BUILD, row_key)
    return replace(
        decode(BuildResult, row["result"]),
        finding=cause,
        others=others,
        available=bool(row["available"]),
    )


def find_boot(tx: Transaction, key: str | None) -> BootResult | None:
    """The boot of these inputs: in the environment that the key names, or else the newest."""
    row = tx.execute(
        "SELECT key FROM boot WHERE key = ? OR inputs = ? ORDER BY key = ? DESC, at DESC LIMIT 1",
        (key, key, key),
    ).fetchone()
    return None if row is None else boot(tx, row["key"])


def boot(tx: Transaction, key: str | None) -> BootResult | None:
    """The boot with this key, if it was made."""
    row = tx.execute("SELECT result FROM boot WHERE key = ?", (key,)).fetchone()
    if row is None or key is None:
        return None
    cause, others = findings.of_step(tx, JobKind.BOOT, key)
    return replace(decode(BootResult, row["result"]), finding=cause, others=others)


def collected(tx: Transaction, key: str | None) -> Collected | None:
    """Whether coverage of a boot was collected; its figures are not read."""
    row = tx.execute("SELECT finding FROM collection WHERE key = ?", (key,)).fetchone()
    return row and Collected(finding=decode_optional(Finding, row["finding"]))


def collection(tx: Transaction, key: str) -> Collection | None:
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
        (result.key, encode(replace(result, finding=None)), now),
    )
    findings.put(tx, JobKind.CHECKOUT, result.key, result.finding)


def put_build(tx: Transaction, result: BuildResult, recipe: str, *, now: float) -> None:
    """Keep a build and claim its blobs. A build made again replaces itself."""
    tx.execute(
        "INSERT INTO build (row, key, environment, recipe, host, milestone, took, result, at,"
        " reader) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (row) DO UPDATE SET"
        " host = excluded.host, milestone = excluded.milestone, took = excluded.took,"
        " result = excluded.result, at = excluded.at, reader = excluded.reader",
        (result.row, result.key, result.environment_digest, recipe, result.host, result.milestone,
         result.took, encode(_bare(result)), now, READER_VERSION),
    )  # fmt: skip
    findings.put(tx, JobKind.BUILD, result.row, result.finding, result.others)
    put_artifacts(tx, JobKind.BUILD, result.row, result.artifacts)


def put_boot(tx: Transaction, result: BootResult, recipe: str, *, now: float) -> None:
    """Keep a boot and claim its blobs.

    Two jobs may make the same one, where one was asked for any environment and one for that which
    the other had: the first result counts, as trials have settled by it.
    """
    done = tx.execute(
        "INSERT INTO boot (key, inputs, environment, build, recipe, host, accelerator, milestone,"
        " is_good, took, result, cases_failed, at, reader)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '[]', ?, ?) ON CONFLICT DO NOTHING",
        (result.key, result.inputs, result.environment_digest, result.build, recipe, result.host,
         result.accelerator, result.milestone, result.finding is None, result.took,
         encode(_bare(result)), now, READER_VERSION),
    )  # fmt: skip
    if not done.rowcount:
        return
    findings.put(tx, JobKind.BOOT, result.key, result.finding, result.others)
    cases.put(tx, result.key, result.cases)
    put_artifacts(tx, JobKind.BOOT, result.key, result.artifacts)


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
    findings.put(tx, JobKind.COLLECT, result.key, result.finding)
    if result.coverage:
        coverage.save(tx, result.key, result.coverage)


def put_artifacts(tx: Transaction, kind: JobKind, key: str, artifacts: Mapping[str, str]) -> None:
    """Claim blobs for their owner, so that the disk budget knows what it takes from whom.

    Blobs of an earlier result that this one has not are released.
    """
    tx.execute("DELETE FROM blob_ref WHERE owner_kind = ? AND owner_key = ?", (kind, key))
    tx.executemany(
        "INSERT OR REPLACE INTO blob_ref (owner_kind, owner_key, name, digest) VALUES (?, ?, ?, ?)",
        [(kind, key, name, digest) for name, digest in artifacts.items()],
    )


def unread(tx: Transaction, reader: int, limit: int) -> tuple[BuildResult | BootResult, ...]:
    """The newest builds and boots whose logs an older reader than ``reader`` has read."""
    rows = tx.execute(
        "SELECT 'build' AS kind, row AS key, at FROM build WHERE reader < ?"
        " UNION ALL SELECT 'boot', key, at FROM boot WHERE reader < ?"
        " ORDER BY at DESC LIMIT ?",
        (reader, reader, limit),
    ).fetchall()
    found = (
        build(tx, row["key"]) if row["kind"] == "build" else boot(tx, row["key"]) for row in rows
    )
    return tuple(one for one in found if one)


def read_again(tx: Transaction, result: BuildResult | BootResult, *, reader: int) -> bool:
    """Keep what a newer reader found; whether it differs from before."""
    before: BuildResult | BootResult | None
    if isinstance(result, BuildResult):
        kind, key, before = JobKind.BUILD, result.row, build(tx, result.row)
        tx.execute("UPDATE build SET reader = ? WHERE row = ?", (reader, key))
    else:
        kind, key, before = JobKind.BOOT, result.key, boot(tx, result.key)
        if result.cases.ran:
            cases.put(tx, key, result.cases)
        tx.execute(
            "UPDATE boot SET reader = ?, is_good = ? WHERE key = ?",
            (reader, result.finding is None, key),
        )
    if before and (before.finding, before.others) == (result.finding, result.others):
        return False
    findings.put(tx, kind, key, result.finding, result.others)
    return True


def _bare(result: BuildResult | BootResult) -> BuildResult | BootResult:
    """A result without its findings and test cases, which have rows of their own."""
    bare = replace(result, finding=None, others=())
    return replace(bare, cases=CaseResults()) if isinstance(bare, BootResult) else bare
