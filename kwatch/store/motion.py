# SPDX-License-Identifier: GPL-2.0-or-later
"""Move trials on: queue the next step, settle them, wake what asked for them, try them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.lab.job import JobKind, Party, Purpose
from kwatch.domain.trial.route import Outcome, Settled, Step, next_step
from kwatch.store import findings, lanes, queue, revisions, steps, trials

if TYPE_CHECKING:
    from kwatch.domain.trial.trial import Trial
    from kwatch.store.database import Transaction
    from kwatch.store.trials import StoredTrial


def want(tx: Transaction, trial: Trial, asker_kind: JobKind, asker_key: str, *, now: float) -> int:
    """Somebody wants ``trial``, and is woken once it is settled; the number of the trial."""
    number = trials.put(tx, trial, now=now)
    tx.execute(
        "INSERT INTO want (trial, asker_kind, asker_key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (number, asker_kind, asker_key),
    )
    if trials.load(tx, number).outcome is None:
        advance(tx, number, now=now)
    else:
        queue.enqueue(tx, asker_kind, asker_key, now=now)
    return number


def advance(tx: Transaction, number: int, *, now: float) -> None:
    """Queue the next step of a trial, or settle it."""
    found = trials.load(tx, number)
    known = steps.of_trial(tx, found.trial, build_row=found.build_row, boot_key=found.boot_key)
    todo = next_step(found.trial, known)
    tx.execute(
        "UPDATE trial SET checkout_key = ?, build_row = ?, boot_key = ? WHERE id = ?",
        (
            known.checkout.key if known.checkout else None,
            known.build.row if known.build else None,
            known.boot.key if known.boot else None,
            number,
        ),
    )
    match todo:
        case Step():
            tx.execute(
                "UPDATE trial SET outcome = NULL, waits_kind = ?, waits_key = ? WHERE id = ?",
                (todo.kind, todo.key, number),
            )
            steps.describe(tx, todo.kind, todo.key, found.trial)
            queue.enqueue(tx, todo.kind, todo.key, now=now, party=_party(tx, number))
        case Settled():
            settle(tx, number, todo, now=now)
        case _:
            assert_never(todo)


def advance_waiting(tx: Transaction, kind: JobKind, key: str, *, now: float) -> None:
    """A step is done: move on the trials that waited for it."""
    for found in trials.waiting(tx, kind, key):
        advance(tx, found.id, now=now)


def settle(tx: Transaction, number: int, end: Settled, *, now: float) -> None:
    """End a trial and wake what asked for it."""
    tx.execute(
        "UPDATE trial SET outcome = ?, milestone = ?, finding = ?, waits_kind = NULL,"
        " waits_key = NULL, settled_at = coalesce(settled_at, ?) WHERE id = ?",
        (end.outcome, end.milestone, _finding(tx, number, end), now, number),
    )
    askers = tx.execute(
        "SELECT asker_kind, asker_key FROM want WHERE trial = ?", (number,)
    ).fetchall()
    for asker in askers:
        queue.enqueue(tx, JobKind(asker["asker_kind"]), asker["asker_key"], now=now)


def _finding(tx: Transaction, number: int, end: Settled) -> int | None:
    """The row of what failed a trial: that of its last step, or one of its own."""
    if end.finding is None:
        return None
    found = trials.load(tx, number)
    for kind, key in (
        (JobKind.CHECKOUT, found.checkout_key),
        (JobKind.BUILD, found.build_row),
        (JobKind.BOOT, found.boot_key),
        (JobKind.COLLECT, found.boot_key),
    ):
        if key and findings.of_step(tx, kind, key)[0] == end.finding:
            return findings.number_of(tx, kind, key)
    findings.put(tx, findings.TRIAL, str(number), end.finding)
    return findings.number_of(tx, findings.TRIAL, str(number))


def _party(tx: Transaction, trial: int) -> Party:
    """On whose behalf a step is done: that of a tag where a lane wants it, else of a search."""
    rows = tx.execute(
        "SELECT asker_kind, lane.tree FROM want LEFT JOIN investigation"
        " ON asker_kind = 'investigate' AND investigation.id = CAST(asker_key AS INTEGER)"
        " LEFT JOIN regression ON regression.id = investigation.regression_id"
        " LEFT JOIN lane ON lane.id = CASE asker_kind WHEN 'judge' THEN CAST(asker_key AS INTEGER)"
        " ELSE regression.lane END WHERE trial = ?",
        (trial,),
    ).fetchall()
    tags = [row["tree"] for row in rows if row["asker_kind"] == JobKind.JUDGE]
    if tags:
        return Party(tree=min(tags), purpose=Purpose.TAG)
    searches = [row["tree"] for row in rows if row["tree"] is not None]
    return Party(tree=min(searches, default=""), purpose=Purpose.SEARCH)


def retry(tx: Transaction, *, tries: int | None, now: float) -> int:
    """Try again what the lab failed at, fewer than ``tries`` times (None: any); how many trials."""
    failed = trials.failed_by_lab(tx, tries=tries)
    for number in failed:
        reopen(tx, number, now=now)
    return len(failed)


def reopen(tx: Transaction, number: int, *, now: float) -> None:
    """A trial that the lab failed at is not settled any more."""
    tx.execute(
        "UPDATE trial SET outcome = NULL, settled_at = NULL WHERE id = ? AND outcome IN (?, ?)",
        (number, Outcome.INFRA, Outcome.REFUSED),
    )
    advance(tx, number, now=now)


def is_back(tx: Transaction, boot_environment: str, *, now: float) -> None:
    """A host has this boot environment: trials that were refused for want of it were not tried."""
    rows = tx.execute(
        "SELECT id, EXISTS (SELECT 1 FROM want WHERE want.trial = trial.id) AS is_wanted"
        " FROM trial WHERE outcome = 'refused' AND boot_environment = ?",
        (boot_environment,),
    ).fetchall()
    for row in rows:
        if row["is_wanted"]:
            reopen(tx, row["id"], now=now)
        else:
            tx.execute(
                "UPDATE trial SET outcome = NULL, settled_at = NULL WHERE id = ?", (row["id"],)
            )


def retest(tx: Transaction, lane: int, revision: int, number: int, *, now: float) -> None:
    """Test a tag of a lane again: once more where the lab failed, else one more sample."""
    found = trials.load(tx, number)
    if found.outcome in (Outcome.INFRA, Outcome.REFUSED):
        reopen(tx, number, now=now)
    elif found.waits_kind is not None:
        queue.demand(tx, found.waits_kind, found.waits_key, now=now)
    else:
        again = _next_sample(tx, found)
        lanes.plan(tx, lane, revision, trials.put(tx, again, now=now))
        want(tx, again, JobKind.JUDGE, str(lane), now=now)


def _next_sample(tx: Transaction, found: StoredTrial) -> Trial:
    """Another boot of what was booted, else another build: the first that was not made before.

    An investigation may have taken the next ones already.
    """
    again = found.trial
    while True:
        sample = again.sample
        if found.boot_key is None:
            again = again.again(rebuild=sample.rebuild + 1)
        else:
            again = again.again(rebuild=sample.rebuild, repeat=sample.repeat + 1)
        known = steps.of_trial(tx, again)
        is_made = known.build if found.boot_key is None else known.boot
        if is_made is None and trials.find(tx, again) is None:
            return again


def plan_newest(tx: Transaction, *, now: float) -> None:
    """A series was accepted: the newest revision of each tree is planned with it."""
    for number, _ in revisions.newest(tx):
        queue.enqueue(tx, JobKind.PLAN, str(number), now=now)
