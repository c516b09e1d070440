# SPDX-License-Identifier: GPL-2.0-or-later
"""investigate: read all evidence again, and ask for more trials or answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.facts import Investigated
from kwatch.domain.milestone import Milestone
from kwatch.domain.verdict.case import evidence_for
from kwatch.domain.verdict.effort import about
from kwatch.domain.verdict.grade import Grade, doubts_about
from kwatch.domain.verdict.investigation import plan
from kwatch.domain.verdict.lane import epoch_of_run
from kwatch.domain.verdict.question import Answer, Ask, Question
from kwatch.store import costs, investigations, presences, recipes, regressions, trials

if TYPE_CHECKING:
    from kwatch.adapters.git import Git
    from kwatch.domain.lab.job import Job
    from kwatch.store.database import Database, Transaction
    from kwatch.store.investigations import Investigation

log = logging.getLogger(__name__)


async def run(job: Job, *, git: Git, database: Database, slots: int) -> Investigated | None:
    """Take the investigation that ``job.key`` names one step further.

    ``slots`` is how many commits the lab can test for it at a time.
    """
    number = int(job.key)
    investigation = await database.read(investigations.load, number)
    if investigation.ended_at is not None:
        return None
    question = await database.read(question_of, investigation)
    suspects = await git.suspects(question.bad, [question.good])
    question = replace(question, suspects=suspects)
    settled = await database.read(trials.evidence, _commits(question))
    # Thousands of suspects take a while to halve: the loop goes on meanwhile.
    result = await asyncio.to_thread(
        plan,
        question,
        evidence_for(question, settled),
        pending=await database.read(investigations.pending, number),
        slots=slots,
        costs=await database.read(costs.of, question.subject),
    )
    if isinstance(result, Answer) and result.grade is Grade.VERIFIED:
        (culprit,) = result.commits
        arch = (await database.read(recipes.build, question.subject.build)).arch
        result = result.doubted(doubts_about(await git.commit_info(culprit), arch))
    if isinstance(result, Ask):
        log.info(
            "%s: %s, %d trials%s", _subject(investigation), result.phase, len(result.trials),
            f", {result.remaining} suspects, {about(result.seconds_left)}"
            if result.remaining and result.seconds_left
            else "",
        )  # fmt: skip
    else:
        log.info("%s: %s", _subject(investigation), result.verdict)
    return Investigated(investigation=number, result=result)


def question_of(tx: Transaction, investigation: Investigation) -> Question:
    """What an investigation is to find out, without the suspects.

    The question of a regression is made of what is on record now: an earlier tag may have turned
    out bad meanwhile. Whether it is fixed is asked of the line whose tag passes.
    """
    if investigation.question is not None:
        return investigation.question
    assert investigation.regression is not None  # noqa: S101 - by a constraint of the table
    regression = regressions.load(tx, investigation.regression)
    problem, good, bad = regression.problem, regression.good, regression.bad
    lane, fixed = investigation.lane, investigation.fixed
    if fixed is not None and lane is not None:
        bad = presences.load(tx, regression.id, lane, fixed.branch).bad
    environment = bad.seen.environment if bad.seen else ""
    boot_environment = bad.seen.boot_environment if bad.seen else ""
    if problem.until <= Milestone.LINKED:
        boot_environment = ""
    subject = replace(
        bad.trial,
        until=problem.until,
        sample=replace(
            bad.trial.sample, environment=environment, boot_environment=boot_environment
        ),
    ).again()
    return Question(
        goal=investigation.goal,
        problem=problem,
        subject=subject,
        good=good.commit,
        epoch=epoch_of_run(good, until=problem.until),
        suspects={},
        fixed=fixed.commit if fixed else None,
    )


def _subject(investigation: Investigation) -> str:
    if investigation.regression is None:
        return f"question {investigation.id}"
    return f"regression {investigation.regression}"


def _commits(question: Question) -> set[str]:
    """The commits that say anything: suspects, their parents, and the tags."""
    commits = {question.good, question.bad, *question.suspects}
    for parents in question.suspects.values():
        commits.update(parents)
    if question.fixed:
        commits.add(question.fixed)
    return commits
