# SPDX-License-Identifier: GPL-2.0-or-later
"""The versions of the watched series that came, and which of them are accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.source.series import Series

if TYPE_CHECKING:
    import sqlite3

    from kwatch.store.database import Transaction


def put(tx: Transaction, series: Series, mbox: bytes) -> bool:
    """Keep a series; True if it was not known, or not accepted and is now.

    In the latter case the mails of the accepted posting replace those of the held one.
    """
    return (
        tx.execute(
            "INSERT INTO series (digest, name, title, origin, patches, accepted_by, posted_at,"
            " mbox) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET"
            " name = excluded.name, title = excluded.title, origin = excluded.origin,"
            " patches = excluded.patches, accepted_by = excluded.accepted_by,"
            " posted_at = excluded.posted_at, mbox = excluded.mbox"
            " WHERE accepted_by IS NULL AND excluded.accepted_by IS NOT NULL RETURNING digest",
            (series.digest, series.name, series.title, series.origin, series.patches,
             series.accepted_by, series.posted_at, mbox),
        ).fetchone()
        is not None
    )  # fmt: skip


def use(tx: Transaction, series: Series, mbox: bytes) -> bool:
    """Make an accepted series the current one of its name; True if it was not.

    A known series, used before another one, becomes the newest again.
    """
    before = current(tx, series.name)
    if before is not None and before.digest == series.digest:
        return False
    put(tx, series, mbox)
    # The clock may have been set back since the other one came.
    tx.execute(
        "UPDATE series SET posted_at = max(?, (SELECT coalesce(max(posted_at), 0) + 0.001"
        " FROM series WHERE name = ? AND digest != ?)) WHERE digest = ?",
        (series.posted_at, series.name, series.digest, series.digest),
    )
    return True


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


def accepted(tx: Transaction) -> dict[str, bool]:
    """The digest of every known series, and whether it is accepted."""
    rows = tx.execute("SELECT digest, accepted_by IS NOT NULL AS accepted FROM series")
    return {row["digest"]: bool(row["accepted"]) for row in rows}


def current(tx: Transaction, name: str) -> Series | None:
    """The newest accepted version of a watched series."""
    row = tx.execute(
        "SELECT * FROM series WHERE name = ? AND accepted_by IS NOT NULL"
        " ORDER BY posted_at DESC, rowid DESC LIMIT 1",
        (name,),
    ).fetchone()
    return None if row is None else _series(row)


def load(tx: Transaction, digest: str) -> Series | None:
    """The series with this digest."""
    row = tx.execute("SELECT * FROM series WHERE digest = ?", (digest,)).fetchone()
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
