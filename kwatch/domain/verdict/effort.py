# SPDX-License-Identifier: GPL-2.0-or-later
"""What the trials of an investigation cost, and how long it will take."""

from __future__ import annotations

import math
from dataclasses import dataclass

VERIFICATION = 3
"""Clean builds of a culprit and, mostly, one parent; the tag itself is the third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Typical seconds of a build and of a boot by the recipes of an investigation."""

    build: float = 900.0
    boot: float = 60.0


def seconds_left(remaining: int, *, slots: int, boots: int, costs: Costs) -> float:
    """Until a search among ``remaining`` suspects is over, its verification included.

    ``slots`` commits are tested at a time, each of them in ``boots`` boots.
    """
    rounds = math.ceil(math.log(max(remaining, 1), slots + 1))
    verification = math.ceil(VERIFICATION / slots)
    return (rounds + verification) * (costs.build + boots * costs.boot)


def about(seconds: float) -> str:
    """A time that is left, as people say it: ``about 40 min``."""
    minutes = max(round(seconds / 60), 1)
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {round(minutes / 60)} h"
