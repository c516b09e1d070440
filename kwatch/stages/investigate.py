# SPDX-License-Identifier: GPL-2.0-or-later
"""investigate: read all evidence of a regression again, and ask for more or answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Investigated
from kwatch.domain.verdict.investigation import Ask, Evidence, Question, plan
from kwatch.store import history, problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.adapters.git import Git
    from kwatch.domain.lab.job import Job
    from kwatch.domain.recipe.variant import Variant
    from kwatch.domain.trial.observation import Trial
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)


async def run(job: Job, *, git: Git, database: Database) -> Investigated | None:
    """Take the investigation that ``job.key`` names one step further."""
    number = int(job.key)
    investigation = await database.read(problems.investigation, number)
    if investigation.ended_at is not None:
        return None
    regression = await database.read(problems.regression, investigation.regression)
    variant = await database.read(history.variant, regression.variant)
    control = variant.control()
    suspects = await git.suspects(regression.bad.commit, [regression.good.commit])
    question = Question(
        goal=investigation.goal,
        good=regression.good.commit,
        bad=regression.bad.commit,
        variant=variant.digest,
        control=control.digest,
        fingerprint=regression.fingerprint,
        milestone=regression.milestone,
        suspects=suspects,
        fixed=investigation.fixed.commit if investigation.fixed else None,
    )
    evidence = await database.read(_evidence, question)
    # Thousands of suspects take a while to halve: the loop goes on meanwhile.
    result = await asyncio.to_thread(plan, question, evidence)
    if isinstance(result, Ask):
        log.info(
            "regression %d: %s, %d to observe%s", regression.id, result.phase, len(result.trials),
            f", {result.remaining} suspects" if result.remaining else "",
        )  # fmt: skip
    else:
        log.info("regression %d: %s", regression.id, result.verdict)
    return Investigated(
        investigation=number, result=result, variants=_used(result, variant, control)
    )


def _used(result: object, *variants: Variant) -> tuple[Variant, ...]:
    trials: Sequence[Trial] = result.trials if isinstance(result, Ask) else ()
    digests = {trial.variant for trial in trials}
    return tuple(variant for variant in variants if variant.digest in digests)


def _evidence(tx: Transaction, question: Question) -> Mapping[Trial, Evidence]:
    """Every settled observation of the commits in question."""
    commits = {question.good, question.bad, *question.suspects}
    for parents in question.suspects.values():
        commits.update(parents)
    if question.fixed:
        commits.add(question.fixed)
    return {
        observation.trial: Evidence(
            outcome=observation.outcome,
            milestone=observation.milestone,
            finding=observation.finding,
        )
        for observation in history.settled(tx, {question.variant, question.control})
        if observation.outcome is not None and observation.trial.commit in commits
    }
