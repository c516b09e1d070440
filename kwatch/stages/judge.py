# SPDX-License-Identifier: GPL-2.0-or-later
"""judge: compare the tags of a lane with each other and with the regressions on record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Judged
from kwatch.domain.verdict.judge import Known, NoBaseline, judge
from kwatch.store import lanes, regressions

if TYPE_CHECKING:
    from kwatch.domain.lab.job import Job
    from kwatch.domain.verdict.lane import Lane, TagRun
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)


async def run(job: Job, *, database: Database) -> Judged:
    """Judge the lane that ``job.key`` numbers."""
    number = int(job.key)
    lane, runs, known = await database.read(_evidence, number)
    judgements = judge(runs, known)
    for judgement in judgements:
        if isinstance(judgement, NoBaseline):
            log.info(
                "%s %s fails, but no earlier tag of its branch shows whether that is new",
                lane, judgement.bad.tag,
            )  # fmt: skip
    return Judged(lane=number, judgements=judgements)


def _evidence(tx: Transaction, number: int) -> tuple[Lane, tuple[TagRun, ...], tuple[Known, ...]]:
    runs = lanes.runs(tx, number)
    return lanes.load(tx, number), runs, regressions.known(tx, number, runs)
