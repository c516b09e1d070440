# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings of steps: a row each, in the order in which the log has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding
from kwatch.store.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.store.database import Transaction

TRIAL = "trial"
"""The kind under which a finding stands that belongs to a trial and to no step of it."""


def put(
    tx: Transaction, kind: str, key: str, cause: Finding | None, others: Sequence[Finding] = ()
) -> None:
    """Keep the findings of a step, in place of any that are there; ``cause`` is what failed it."""
    tx.execute(
        "UPDATE trial SET finding = NULL WHERE finding IN"
        " (SELECT id FROM finding WHERE step_kind = ? AND step_key = ?)",
        (kind, key),
    )
    tx.execute("DELETE FROM finding WHERE step_kind = ? AND step_key = ?", (kind, key))
    listed = [*([(True, cause)] if cause else []), *((False, one) for one in others)]
    tx.executemany(
        "INSERT INTO finding (step_kind, step_key, position, is_cause, fingerprint, kind, severity,"
        " title, function, file, line, finding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (kind, key, position, is_cause, one.fingerprint, one.kind, one.severity, one.title,
             one.function, one.file, one.line, encode(one))
            for position, (is_cause, one) in enumerate(listed)
        ],
    )  # fmt: skip


def of_step(tx: Transaction, kind: str, key: str) -> tuple[Finding | None, tuple[Finding, ...]]:
    """What failed a step, and everything else that its log reports."""
    rows = tx.execute(
        "SELECT is_cause, finding FROM finding WHERE step_kind = ? AND step_key = ?"
        " ORDER BY position",
        (kind, key),
    ).fetchall()
    cause = next((decode(Finding, row["finding"]) for row in rows if row["is_cause"]), None)
    others = tuple(decode(Finding, row["finding"]) for row in rows if not row["is_cause"])
    return cause, others


def besides(
    tx: Transaction, kind: str, keys: Sequence[str | None]
) -> Mapping[str, tuple[Finding, ...]]:
    """What the logs of many steps report besides what failed them, by key."""
    rows = tx.execute(
        "SELECT step_key, finding FROM json_each(?) AS wanted CROSS JOIN finding"
        " ON step_kind = ? AND step_key = wanted.value WHERE NOT is_cause"
        " ORDER BY step_key, position",
        (json.dumps(sorted({key for key in keys if key})), kind),
    )
    found: dict[str, tuple[Finding, ...]] = {}
    for row in rows:
        one = decode(Finding, row["finding"])
        found[row["step_key"]] = (*found.get(row["step_key"], ()), one)
    return found


def load_all(tx: Transaction, numbers: Sequence[int | None]) -> Mapping[int, Finding]:
    """The findings of these numbers."""
    rows = tx.execute(
        "SELECT finding.id, finding FROM json_each(?) AS wanted CROSS JOIN finding"
        " ON finding.id = wanted.value",
        (json.dumps([number for number in numbers if number is not None]),),
    )
    return {row["id"]: decode(Finding, row["finding"]) for row in rows}


def number_of(tx: Transaction, kind: str, key: str) -> int | None:
    """The number of what failed a step."""
    row = tx.execute(
        "SELECT id FROM finding WHERE step_kind = ? AND step_key = ? AND is_cause", (kind, key)
    ).fetchone()
    return None if row is None else int(row["id"])
