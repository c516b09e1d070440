# SPDX-License-Identifier: GPL-2.0-or-later
"""The versions of the watched series that came, and which of them are accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.source.series import Series

if TYPE_CHECKING:
    import sqlite3

    from kwatch.store.database import Transaction


def put(tx: Transaction, series: Series, mbox: bytes) -> bool:
    """Keep a series; True if it was not known."""
    return (
        tx.execute(
            "INSERT INTO series (digest, name, title, origin, patches, accepted_by, posted_at,"
            " mbox) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING digest",
            (series.digest, series.name, series.title, series.origin, series.patches,
             series.accepted_by, series.posted_at, mbox),
        ).fetchone()
        is not None
    )  # fmt: skip


def accept(tx: Transaction, digest: str, *, by: str) -> Series | None:
    """Somebody vouches for a series that was held; the series, or None if there is none."""
    tx.execute(
        "UPDATE series SET accepted_by = ? WHERE digest = ? AND accepted_by IS NULL", (by, digest)
    )
    row = tx.execute("SELECT * FROM series WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else _series(row)


def newest_first(tx: Transaction) -> tuple[Series, ...]:
    """Every posting of every watched series, newest first."""
    rows = tx.execute("SELECT * FROM series ORDER BY posted_at DESC, rowid DESC")
    return tuple(_series(row) for row in rows)


def current(tx: Transaction, name: str) -> Series | None:
    """The newest accepted version of a watched series."""
    row = tx.execute(
        "SELECT * FROM series WHERE name = ? AND accepted_by IS NOT NULL"
        " ORDER BY posted_at DESC, rowid DESC LIMIT 1",
        (name,),
    ).fetchone()
    return None if row is None else _series(row)


def mbox(tx: Transaction, digest: str) -> bytes:
    """What ``git am`` gets for a series."""
    row = tx.execute("SELECT mbox FROM series WHERE digest = ?", (digest,)).fetchone()
    found: bytes = row["mbox"]
    return found


def _series(row: sqlite3.Row) -> Series:
    return Series(
        name=row["name"],
        digest=row["digest"],
        title=row["title"],
        origin=row["origin"],
        patches=row["patches"],
        accepted_by=row["accepted_by"],
        posted_at=row["posted_at"],
    )
