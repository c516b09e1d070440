# SPDX-License-Identifier: GPL-2.0-or-later
"""judge: hold the newest result of a tree against the last comparable good one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Judged
from kwatch.domain.verdict.regression import NoBaseline, judge, judged_by
from kwatch.store import history, problems

if TYPE_CHECKING:
    from kwatch.domain.lab.job import Job
    from kwatch.store.database import Database

log = logging.getLogger(__name__)


async def run(job: Job, *, database: Database) -> Judged:
    """Judge the tree and variant that ``job.key`` names."""
    tree, digest = judged_by(job.key)
    variant = await database.read(history.variant, digest)
    results = await database.read(history.tag_results, tree, digest)
    known = await database.read(problems.open_regressions, tree, digest)
    judgements = judge(results, known)
    for judgement in judgements:
        if isinstance(judgement, NoBaseline):
            log.info("%s %s fails, but there is no baseline", tree, judgement.bad.tag)
    return Judged(tree=tree, variant=digest, variant_name=variant.name, judgements=judgements)
