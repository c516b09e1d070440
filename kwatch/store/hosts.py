# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of each host, as it was last seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kwatch.domain.lab.host import Health, HostFacts, HostState
from kwatch.store.codec import decode, decode_optional, encode

if TYPE_CHECKING:
    from kwatch.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """When it was proven (seconds since the epoch), and how many seconds what took."""

    at: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHost:
    """A host, its state, and when that was (seconds since the epoch).

    ``proven`` are the accelerators of which it was proven that guests end there as they should.
    """

    name: str
    state: HostState
    checked_at: float
    facts: HostFacts | None = None
    proven: Mapping[str, Proof] = field(default_factory=dict)


def note(tx: Transaction, name: str, state: HostState, *, now: float) -> None:
    """A host was looked at."""
    tx.execute(
        "INSERT INTO host (name, state, reason, checked_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET state = excluded.state, reason = excluded.reason,"
        " checked_at = excluded.checked_at",
        (name, state.health.value, state.reason, now),
    )


def tell(tx: Transaction, name: str, facts: HostFacts) -> bool:
    """Keep what is known of a host; False for one that was never looked at."""
    row = tx.execute(
        "UPDATE host SET facts = ? WHERE name = ? RETURNING name", (encode(facts), name)
    ).fetchone()
    return row is not None


def prove(
    tx: Transaction, name: str, accelerator: str, seconds: Mapping[str, float], *, now: float
) -> None:
    """All that guests must do under an accelerator was seen on a host, in so many seconds."""
    proof = encode(Proof(at=now, seconds=seconds))
    tx.execute(
        "INSERT INTO host (name, state, checked_at, proven)"
        " VALUES (?, ?, ?, json_object(?, json(?)))"
        " ON CONFLICT (name) DO UPDATE"
        " SET proven = json_patch(coalesce(proven, '{}'), excluded.proven)",
        (name, Health.OK.value, now, accelerator, proof),
    )


def seen(tx: Transaction) -> tuple[SeenHost, ...]:
    """Every host that was ever looked at."""
    rows = tx.execute("SELECT * FROM host ORDER BY name")
    return tuple(
        SeenHost(
            name=row["name"],
            state=HostState(health=Health(row["state"]), reason=row["reason"] or ""),
            checked_at=row["checked_at"],
            facts=decode_optional(HostFacts, row["facts"]),
            proven={
                accelerator: decode(Proof, json.dumps(proof))
                for accelerator, proof in json.loads(row["proven"] or "{}").items()
            },
        )
        for row in rows
    )
