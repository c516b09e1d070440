# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools that builds were made with, and what kernels were booted in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


def note(tx: Transaction, digest: str, description: str, *, now: float) -> None:
    """A build or boot was made in this environment; a digest tells which of the two."""
    tx.execute(
        "INSERT INTO environment (id, description, seen_at) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        (digest, description, now),
    )
