# SPDX-License-Identifier: GPL-2.0-or-later
"""Values as the pages show them. Everything that comes out is still to be escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kwatch.domain.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kwatch.domain.coverage.figures import Count

TAIL_BYTES = 256 << 10


def tail(octets: bytes) -> str:
    """The end of a console or a log, at most TAIL_BYTES, from the start of a line on."""
    if len(octets) > TAIL_BYTES:
        octets = octets[-TAIL_BYTES:]
        octets = octets[octets.find(b"\n") + 1 :]
    return printable(octets.decode("utf-8", "replace"))


def duration(seconds: float) -> str:
    """About how long, in one unit."""
    for limit, size, unit in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def took(seconds: float) -> str:
    """How long exactly: ``4.2 s``, ``3:07 min``, ``1:02:09 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def utc(at: float) -> str:
    """A moment, to the second."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(at: float) -> str:
    """The same for machines."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def percent(count: Count) -> str:
    """One figure of coverage; nothing to cover is told from nothing covered."""
    return "\N{EN DASH}" if count.percent is None else f"{count.percent:.1f}"


def points(change: float) -> str:
    """A gain or loss in percentage points."""
    return f"{change:+.1f}".replace("-", "\N{MINUS SIGN}")


def short(commit: str) -> str:
    """A commit or a digest as people quote it."""
    return commit[:12]


FILTERS: Mapping[str, Callable[..., str]] = {
    "tail": tail,
    "plain": printable,
    "duration": duration,
    "took": took,
    "utc": utc,
    "iso": iso,
    "percent": percent,
    "points": points,
    "short": short,
}
