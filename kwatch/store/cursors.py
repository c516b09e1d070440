# SPDX-License-Identifier: GPL-2.0-or-later
"""How far each source (``tree:NAME``, ``list:NAME``) was followed, and how the last look went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source as it stands. ``error`` is the newest failure, None after a success."""

    name: str
    value: str | None
    looked_at: float | None
    error: str | None


def looked(tx: Transaction, source: str, value: str | None, *, now: float) -> None:
    """A look succeeded; go on at ``value`` (None leaves it as it is)."""
    tx.execute(
        "INSERT INTO cursor (source, value, looked_at) VALUES (?, ?, ?)"
        " ON CONFLICT (source) DO UPDATE SET value = coalesce(excluded.value, value),"
        " looked_at = excluded.looked_at, error = NULL",
        (source, value, now),
    )


def failed(tx: Transaction, source: str, error: str) -> None:
    """A look failed."""
    tx.execute(
        "INSERT INTO cursor (source, error) VALUES (?, ?)"
        " ON CONFLICT (source) DO UPDATE SET error = excluded.error",
        (source, error),
    )


def value(tx: Transaction, source: str) -> str | None:
    """Where to go on."""
    row = tx.execute("SELECT value FROM cursor WHERE source = ?", (source,)).fetchone()
    return row["value"] if row else None


def sources(tx: Transaction) -> tuple[Source, ...]:
    """Every source that was ever looked at."""
    rows = tx.execute("SELECT * FROM cursor ORDER BY source")
    return tuple(
        Source(
            name=row["source"],
            value=row["value"],
            looked_at=row["looked_at"],
            error=row["error"],
        )
        for row in rows
    )
