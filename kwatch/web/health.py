# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the daemon alive, and does it see what it is to watch? Two answers, kept apart.

Not alive means: restart it. Not ready means: an operator should look, and a restart will not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.store.cursors import Source

# The worker looks at its queue at least every 30 s, whatever its jobs do.
LONGEST_BEAT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """What the running daemon says of itself.

    Times are seconds since the epoch: ``started_at`` of the daemon, ``beat`` when the worker last
    went round. ``periods`` holds the seconds between two looks at each source (``tree:NAME``,
    ``list:NAME``) that is configured.
    """

    started_at: float
    beat: float
    periods: Mapping[str, float]


def is_alive(liveness: Liveness, *, now: float) -> bool:
    """Whether the worker goes round."""
    return now - liveness.beat < LONGEST_BEAT


def source_troubles(
    liveness: Liveness, sources: Sequence[Source], *, now: float
) -> tuple[str, ...]:
    """What is wrong with the configured sources, a sentence each.

    A look is late once two periods have gone by: one to wait, one to look.
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
