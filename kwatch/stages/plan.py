# SPDX-License-Identifier: GPL-2.0-or-later
"""plan: what a revision is to be tried with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Planned
from kwatch.domain.trial.observation import Trial
from kwatch.store import history, versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.lab.job import Job
    from kwatch.domain.recipe.variant import Variant, VariantSpec
    from kwatch.domain.source.revision import Tree
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)


async def run(
    job: Job,
    *,
    trees: Mapping[str, Tree],
    variants: Mapping[str, VariantSpec],
    database: Database,
) -> Planned | None:
    """Plan the revision that ``job.key`` numbers, with the series as they stand now."""
    revision = await database.read(history.revision, int(job.key))
    tree = trees.get(revision.tree)
    if tree is None:
        return None
    wanted: list[tuple[Trial, Variant]] = []
    for name in tree.variants:
        variant = await database.read(_resolve, variants[name])
        if variant is None:
            log.warning(
                "%s %s waits: no version of the series %s is accepted yet",
                tree.name, revision.tag, variants[name].series,
            )  # fmt: skip
            continue
        wanted.append((Trial(commit=revision.commit, variant=variant.digest), variant))
    return Planned(tree=tree.name, tag=revision.tag, commit=revision.commit, trials=tuple(wanted))


def _resolve(tx: Transaction, spec: VariantSpec) -> Variant | None:
    """The variant with the newest accepted version of its series, or None if there is none."""
    if spec.series is None:
        return spec.with_series(None)
    series = versions.current(tx, spec.series)
    return spec.with_series(series) if series else None
