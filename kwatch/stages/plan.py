# SPDX-License-Identifier: GPL-2.0-or-later
"""plan: how a revision is tried, in each variant of its tree."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Plan, Planned
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.lane import Lane
from kwatch.store import revisions, series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.lab.job import Job
    from kwatch.domain.source.revision import Tree
    from kwatch.domain.trial.variant import Variant
    from kwatch.store.database import Database

log = logging.getLogger(__name__)


async def run(
    job: Job,
    *,
    trees: Mapping[str, Tree],
    variants: Mapping[str, Variant],
    database: Database,
) -> Planned | None:
    """Plan the revision that ``job.key`` numbers, with the series as they stand now."""
    revision = await database.read(revisions.load, int(job.key))
    tree = trees.get(revision.tree)
    if tree is None:
        return None
    plans = []
    for name in tree.variants:
        variant = variants[name]
        current = None
        if variant.series is not None:
            current = await database.read(series.current, variant.series)
            if current is None:
                log.warning(
                    "%s %s: not tried in %s, no version of the series %s is accepted yet",
                    tree.name, revision.tag, name, variant.series,
                )  # fmt: skip
                continue
        trial = Trial(
            source=with_series(revision.commit, current.digest if current else None),
            build=variant.build.digest,
            boot=variant.boot.recipe.digest,
        )
        plans.append(
            Plan(
                lane=Lane(tree=tree.name, variant=name),
                trial=trial,
                build=variant.build,
                boot=variant.boot.recipe,
            )
        )
    return Planned(revision=int(job.key), plans=tuple(plans))
