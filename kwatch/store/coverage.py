# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage in the history: four counts per file of a boot, and its totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Totals
from kwatch.store.codec import decode

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


def save(tx: Transaction, boot_key: str, coverage: Coverage) -> None:
    """Keep the files of a boot's coverage, in place of any that are there."""
    tx.execute("DELETE FROM coverage WHERE boot_key = ?", (boot_key,))
    tx.executemany(
        "INSERT INTO coverage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                boot_key, file.origin, file.path,
                file.lines.covered, file.lines.total,
                file.functions.covered, file.functions.total,
                file.branches.covered, file.branches.total,
                file.mcdc.covered, file.mcdc.total,
            )
            for file in coverage.files
        ],
    )  # fmt: skip


def totals(tx: Transaction, boot_key: str) -> Totals | None:
    """The four figures of a boot, or None if none were collected."""
    row = tx.execute("SELECT totals FROM collection WHERE key = ?", (boot_key,)).fetchone()
    return decode(Totals, row["totals"]) if row and row["totals"] else None


def load(tx: Transaction, boot_key: str) -> Coverage | None:
    """The whole coverage of a boot."""
    found = totals(tx, boot_key)
    if found is None:
        return None
    rows = tx.execute(
        "SELECT * FROM coverage WHERE boot_key = ? ORDER BY origin, path", (boot_key,)
    )
    return Coverage(
        files=tuple(
            FileCoverage(
                path=row["path"],
                origin=Origin(row["origin"]),
                lines=Count(covered=row["lines_covered"], total=row["lines_total"]),
                functions=Count(covered=row["functions_covered"], total=row["functions_total"]),
                branches=Count(covered=row["branches_covered"], total=row["branches_total"]),
                mcdc=Count(covered=row["mcdc_covered"], total=row["mcdc_total"]),
            )
            for row in rows
        ),
        totals=found,
    )
