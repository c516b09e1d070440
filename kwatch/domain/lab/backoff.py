# SPDX-License-Identifier: GPL-2.0-or-later
"""Delays before a retry."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A float overflows at 2 ** 1024.
_MOST = 512.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """An exponential back-off: ``first`` seconds, then ``factor`` times as long, up to ``longest``.

    ``jitter`` spreads each delay by that part of it to both sides.
    """

    first: float
    longest: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay(self, failures: int, *, chance: float = 0.5) -> float:
        """Seconds to wait after that many failures in a row, at least 1.

        ``chance`` is a random number in [0, 1).
        """
        exponent = min(max(failures, 1) - 1.0, _MOST)
        capped = min(self.first * math.pow(self.factor, exponent), self.longest)
        return capped * (1.0 + self.jitter * (2.0 * chance - 1.0))
