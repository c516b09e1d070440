# SPDX-License-Identifier: GPL-2.0-or-later
"""judge: compare the tags of a lane with each other and with the regressions on record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Judged
from kwatch.domain.verdict.judge import Known, NoBaseline, judge
from kwatch.store import baselines, lanes, regressions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.lab.job import Job
    from kwatch.domain.verdict.lane import Lane, TagRun
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)


async def run(job: Job, *, database: Database) -> Judged:
    """Judge the lane that ``job.key`` numbers."""
    number = int(job.key)
    lane, runs, known, tried = await database.read(_evidence, number)
    judgements = judge(runs, known, tried)
    for judgement in judgements:
        if isinstance(judgement, NoBaseline):
            log.info(
                "%s %s fails, and nothing that was tried shows whether that is new",
                lane, judgement.bad.tag,
            )  # fmt: skip
    return Judged(lane=number, judgements=judgements)


def _evidence(
    tx: Transaction, number: int
) -> tuple[Lane, tuple[TagRun, ...], tuple[Known, ...], Mapping[int, tuple[TagRun, ...]]]:
    runs = lanes.runs(tx, number)
    known = regressions.known(tx, number, runs)
    return lanes.load(tx, number), runs, known, baselines.runs(tx, number)
