# SPDX-License-Identifier: GPL-2.0-or-later
"""Tags of the watched trees, and the commits that they stood at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.source.revision import Revision

if TYPE_CHECKING:
    import sqlite3

    from kwatch.store.database import Transaction


def known_tags(tx: Transaction, tree: str) -> dict[str, str]:
    """Each tag of a tree and the commit it was last seen at."""
    rows = tx.execute(
        "SELECT tag, commit_id FROM revision WHERE tree = ? AND is_baseline = 0"
        " ORDER BY seen_at, id",
        (tree,),
    )
    return {row["tag"]: row["commit_id"] for row in rows}


def load(tx: Transaction, number: int) -> Revision:
    """The revision of this number."""
    return _revision(tx.execute("SELECT * FROM revision WHERE id = ?", (number,)).fetchone())


def newest(tx: Transaction) -> tuple[tuple[int, Revision], ...]:
    """The revision of each tree that was seen last, with its number."""
    rows = tx.execute(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY tree ORDER BY seen_at DESC,"
        " id DESC) AS place FROM revision WHERE is_baseline = 0) WHERE place = 1 ORDER BY id"
    )
    return tuple((row["id"], _revision(row)) for row in rows)


def newest_first(tx: Transaction, tree: str | None = None, limit: int = 50) -> tuple[Revision, ...]:
    """The newest revisions, newest first."""
    rows = tx.execute(
        "SELECT * FROM revision WHERE is_baseline = 0 AND (? IS NULL OR tree = ?)"
        " ORDER BY id DESC LIMIT ?",
        (tree, tree, limit),
    )
    return tuple(_revision(row) for row in rows)


def find(tx: Transaction, tree: str, tag: str) -> int | None:
    """The number of a tag at the commit it was last seen at, or None."""
    row = tx.execute(
        "SELECT id FROM revision WHERE tree = ? AND tag = ? ORDER BY seen_at DESC, id DESC LIMIT 1",
        (tree, tag),
    ).fetchone()
    return None if row is None else int(row["id"])


def add(tx: Transaction, revision: Revision) -> int:
    """Add a revision; its number. One that is known was moved back to: it is the newest again.

    A baseline that is a watched tag stays one.
    """
    row = tx.execute(
        "INSERT INTO revision (tree, tag, commit_id, seen_at, is_baseline) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET"
        " seen_at = iif(excluded.is_baseline, seen_at, excluded.seen_at),"
        " is_baseline = min(is_baseline, excluded.is_baseline) RETURNING id",
        (
            revision.tree, revision.tag, revision.commit, revision.seen_at, revision.is_baseline,
        ),
    ).fetchone()  # fmt: skip
    return int(row["id"])


def _revision(row: sqlite3.Row) -> Revision:
    return Revision(
        tree=row["tree"],
        tag=row["tag"],
        commit=row["commit_id"],
        seen_at=row["seen_at"],
        is_baseline=bool(row["is_baseline"]),
    )
