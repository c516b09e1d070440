# SPDX-License-Identifier: GPL-2.0-or-later
"""Apply what a stage found, and wake what depends on it: all inside one transaction.

The transaction checks the attempt, records the facts, advances the trials that waited for them and
queues the stages that asked. What follows from what is decided in domain/trial/route and
domain/verdict/consequence. A kill at any instant loses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.facts import (
    BaselinesFound,
    Built,
    EnvironmentGone,
    Facts,
    Heard,
    Investigated,
    Judged,
    Ordered,
    Planned,
    Reread,
    Retried,
    Sent,
    Watched,
    Written,
)
from kwatch.domain.lab.command import CommandState
from kwatch.domain.lab.job import STEPS, WHOLE, Job, JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome, Settled
from kwatch.domain.trial.steps import BootResult, CheckoutResult, Collection
from kwatch.store import (
    baselines,
    commands,
    conclusions,
    cursors,
    environments,
    inbox,
    lanes,
    mail,
    motion,
    notices,
    queue,
    recipes,
    regressions,
    revisions,
    series,
    steps,
    trials,
)

if TYPE_CHECKING:
    from kwatch.store.database import Transaction

# Hourly retries of a trial that the lab fails at; a host that recovers does not count them.
RETRIES = 24


def record(tx: Transaction, job: Job, facts: Facts, *, now: float) -> None:
    """End ``job`` with ``facts``. Raises LeaseLostError, and changes nothing, if it is stale."""
    queue.finish(tx, job, now=now)
    match facts:
        case Watched():
            _watched(tx, facts, now=now)
        case Heard():
            _heard(tx, facts, now=now)
        case Planned():
            _planned(tx, facts, now=now)
        case CheckoutResult():
            steps.put_checkout(tx, facts, now=now)
            motion.advance_waiting(tx, job.kind, job.key, now=now)
        case Built():
            _built(tx, facts, now=now)
        case BootResult() | EnvironmentGone():
            _booted(tx, job, facts, now=now)
        case Collection():
            steps.put_collection(tx, facts, now=now)
            motion.advance_waiting(tx, job.kind, job.key, now=now)
        case Judged():
            conclusions.judged(tx, facts, now=now)
        case BaselinesFound():
            baselines.put(tx, facts, now=now)
            queue.enqueue(tx, JobKind.JUDGE, str(facts.lane), now=now)
        case Investigated():
            conclusions.investigated(tx, facts, now=now)
        case Written():
            _written(tx, facts, now=now)
        case Sent():
            _sent(tx, facts, now=now)
        case Ordered():
            commands.answer(tx, facts.command, *commands.execute(tx, facts.order, now=now))
        case Retried():
            motion.retry(tx, tries=RETRIES, now=now)
        case Reread():
            _reread(tx, facts, now=now)
        case _:
            assert_never(facts)


def give_up(tx: Transaction, job: Job, *, now: float) -> None:
    """A job is given up: trials that waited for it end as INFRA until they are tried again."""
    if job.kind is JobKind.SEND:
        mail.abandon(tx, int(job.key), now=now)
    if job.kind is JobKind.COMMAND:
        reason = "it could not be carried out; the journal says why"
        commands.answer(tx, int(job.key), CommandState.REFUSED, reason)
    if job.kind not in STEPS:
        return
    for found in trials.waiting(tx, job.kind, job.key):
        tx.execute("UPDATE trial SET tries = tries + 1 WHERE id = ?", (found.id,))
        end = Settled(outcome=Outcome.INFRA, milestone=found.milestone)
        motion.settle(tx, found.id, end, now=now)


def _built(tx: Transaction, facts: Built, *, now: float) -> None:
    result = facts.result
    steps.put_build(tx, result, facts.recipe, now=now)
    environments.note(tx, result.environment_digest, result.environment, now=now)
    # Some wait for a build by any tools, some for one by these.
    for key in {result.key, result.row}:
        motion.advance_waiting(tx, JobKind.BUILD, key, now=now)


def _booted(tx: Transaction, job: Job, result: BootResult | EnvironmentGone, *, now: float) -> None:
    if isinstance(result, EnvironmentGone):
        for found in trials.waiting(tx, JobKind.BOOT, result.key):
            end = Settled(outcome=Outcome.REFUSED, milestone=Milestone.LINKED)
            motion.settle(tx, found.id, end, now=now)
        return
    wanted = steps.inputs(tx, JobKind.BOOT, job.key)
    steps.put_boot(tx, result, wanted.trial.boot if wanted else "", now=now)
    if result.environment_digest:
        environments.note(tx, result.environment_digest, result.environment, now=now)
        motion.is_back(tx, result.environment_digest, now=now)
    # Some wait for a boot in any environment, some for one in this.
    for key in {job.key, result.inputs, result.key}:
        motion.advance_waiting(tx, JobKind.BOOT, key, now=now)


def _watched(tx: Transaction, facts: Watched, *, now: float) -> None:
    cursors.looked(tx, f"tree:{facts.tree}", None, now=now)
    for revision in facts.revisions:
        number = revisions.add(tx, revision)
        queue.enqueue(tx, JobKind.PLAN, str(number), now=now)


def _heard(tx: Transaction, facts: Heard, *, now: float) -> None:
    cursors.looked(tx, f"list:{facts.source}", facts.cursor, now=now)
    inbox.keep(tx, facts.source, facts.mails)
    is_news = False
    for posted in facts.posted:
        is_new = series.put(tx, posted.series, posted.mbox)
        is_news |= is_new and posted.series.accepted_by is not None
    if is_news:
        motion.plan_newest(tx, now=now)
    if facts.more:
        queue.enqueue(tx, JobKind.LISTEN, facts.source, now=now)


def _planned(tx: Transaction, facts: Planned, *, now: float) -> None:
    for plan in facts.plans:
        recipes.put(tx, plan.build, plan.boot)
        lane = lanes.number(tx, plan.lane)
        # The plan is there before the trial settles, so that its lane is judged with it.
        number = trials.put(tx, plan.trial, now=now)
        lanes.plan(tx, lane, facts.revision, number)
        motion.want(tx, plan.trial, JobKind.JUDGE, str(lane), now=now)


def _written(tx: Transaction, facts: Written, *, now: float) -> None:
    for notice in facts.silent:
        notices.handled(tx, notice, now=now)
    for letter in facts.letters:
        number = mail.put_letter(tx, letter, facts.release, now=now)
        notices.handled(tx, letter.notice, now=now)
        if number is not None:
            queue.enqueue(tx, JobKind.SEND, str(number), now=now)


def _sent(tx: Transaction, facts: Sent, *, now: float) -> None:
    if mail.note_deliveries(tx, facts.mail, facts.deliveries, now=now):
        queue.enqueue(tx, JobKind.SEND, str(facts.mail), now=now, after=mail.RETRY_SECONDS)


def _reread(tx: Transaction, facts: Reread, *, now: float) -> None:
    """History as the present reader sees it. An open regression stays with its bug."""
    for result in facts.results:
        before = {found.id: found for found in trials.settled_by(tx, result)}
        if not steps.read_again(tx, result, reader=facts.reader):
            continue
        for found in before.values():
            if found.outcome not in (Outcome.PASS, Outcome.FAIL):
                continue
            motion.advance(tx, found.id, now=now)
            after = trials.load(tx, found.id)
            if found.finding and after.finding:
                regressions.rename(tx, found.trial, found.finding, after.finding)
    if facts.more:
        queue.enqueue(tx, JobKind.REREAD, WHOLE, now=now)
