# SPDX-License-Identifier: GPL-2.0-or-later
"""What builds and boots by a recipe took."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from kwatch.domain.verdict.effort import Costs

if TYPE_CHECKING:
    from kwatch.domain.trial.trial import Trial
    from kwatch.store.database import Transaction

# The newest ones count.
STEPS = 30


def of(tx: Transaction, trial: Trial) -> Costs:
    """The medians of the newest builds and good boots by the recipes of a trial."""
    typical = Costs()
    builds = tx.execute(
        "SELECT took FROM build WHERE recipe = ? ORDER BY at DESC LIMIT ?", (trial.build, STEPS)
    ).fetchall()
    boots = tx.execute(
        "SELECT took FROM boot WHERE recipe = ? AND is_good = 1 ORDER BY at DESC LIMIT ?",
        (trial.boot, STEPS),
    ).fetchall()
    return Costs(
        build=statistics.median(row["took"] for row in builds) if builds else typical.build,
        boot=statistics.median(row["took"] for row in boots) if boots else typical.boot,
    )
