# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of each host, as it was last seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.host import Health, HostState

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHost:
    """A host, its state, and when that was (seconds since the epoch)."""

    name: str
    state: HostState
    checked_at: float


def note(tx: Transaction, name: str, state: HostState, *, now: float) -> None:
    """A host was looked at."""
    tx.execute(
        "INSERT INTO host (name, state, reason, checked_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET state = excluded.state, reason = excluded.reason,"
        " checked_at = excluded.checked_at",
        (name, state.health.value, state.reason, now),
    )


def seen(tx: Transaction) -> tuple[SeenHost, ...]:
    """Every host that was ever looked at."""
    rows = tx.execute("SELECT * FROM host ORDER BY name")
    return tuple(
        SeenHost(
            name=row["name"],
            state=HostState(health=Health(row["state"]), reason=row["reason"] or ""),
            checked_at=row["checked_at"],
        )
        for row in rows
    )
