# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters of the templates. The results are not escaped yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kwatch.domain.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kwatch.domain.coverage.figures import Count

TAIL_BYTES = 256 << 10


def tail(octets: bytes) -> str:
    """The end of a console or log, at most TAIL_BYTES, from the start of a line."""
    if len(octets) > TAIL_BYTES:
        octets = octets[-TAIL_BYTES:]
        octets = octets[octets.find(b"\n") + 1 :]
    return printable(octets.decode("utf-8", "replace"))


def duration(seconds: float) -> str:
    """A duration, rounded to one unit."""
    for limit, size, unit in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def took(seconds: float) -> str:
    """An exact duration: ``4.2 s``, ``3:07 min``, ``1:02:09 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def utc(at: float) -> str:
    """A time in UTC, to the second."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(at: float) -> str:
    """A time in ISO 8601."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def percent(count: Count) -> str:
    """A percentage of coverage; a dash if there is nothing to cover."""
    return "\N{EN DASH}" if count.percent is None else f"{count.percent:.1f}"


def points(change: float) -> str:
    """A difference in percentage points."""
    return f"{change:+.1f}".replace("-", "\N{MINUS SIGN}")


def short(commit: str) -> str:
    """The first 12 characters of a commit or digest."""
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
