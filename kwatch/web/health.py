# SPDX-License-Identifier: GPL-2.0-or-later
"""Liveness and readiness of the daemon.

Not alive: restart the daemon. Not ready: the operator must act, a restart does not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.store.cursors import Source

# The worker polls its queue at least every 30 s, whatever its jobs do.
LONGEST_BEAT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """Times of the running daemon, in seconds since the epoch.

    ``beat`` is the last round of the worker's loop. ``periods`` is the configured polling period in
    seconds of each source (``tree:NAME``, ``list:NAME``).
    """

    started_at: float
    beat: float
    periods: Mapping[str, float]


def is_alive(liveness: Liveness, *, now: float) -> bool:
    """Whether the worker's loop runs."""
    return now - liveness.beat < LONGEST_BEAT


def source_troubles(
    liveness: Liveness, sources: Sequence[Source], *, now: float
) -> tuple[str, ...]:
    """What is wrong with the configured sources, one sentence each.

    A look is late after two periods: one between looks, one for the look itself.
    """
    known = {source.name: source for source in sources}
    found = []
    for name, period in liveness.periods.items():
        source = known.get(name)
        if source and source.error:
            found.append(f"{name}: {source.error}")
        elif source is None or source.looked_at is None:
            found.append(f"{name} has never been looked at")
        elif now - source.looked_at > 2 * period:
            age = now - source.looked_at
            found.append(f"{name} was looked at {age:.0f} s ago, its period is {period:.0f} s")
    return tuple(found)
