# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts into history, and who is woken by them: all inside one transaction.

The transaction checks the attempt, records what the stage found, advances the observations that
waited for it and queues whoever asked. A kill at any instant loses nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.facts import (
    Answered,
    CommandState,
    Facts,
    Heard,
    Investigated,
    Judged,
    Planned,
    Reread,
    Sent,
    Watched,
    Written,
)
from kwatch.domain.lab.job import STEPS, WHOLE, Job, JobKind
from kwatch.domain.trial.observation import (
    BootResult,
    BuildResult,
    CheckoutResult,
    Collection,
    Outcome,
    Settled,
    Step,
    Trial,
    next_step,
)
from kwatch.domain.verdict.investigation import Answer, Ask, Goal, Verdict
from kwatch.domain.verdict.regression import (
    Better,
    NoBaseline,
    Regression,
    RegressionEvent,
    RegressionState,
    Worse,
    judge_key,
)
from kwatch.store import cursors, history, inbox, mail, problems, queue, versions
from kwatch.store.codec import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.store.database import Transaction


def record(tx: Transaction, job: Job, facts: Facts, *, now: float) -> None:
    """End ``job`` with ``facts``. Raises LeaseLostError, and changes nothing, if it is stale."""
    queue.finish(tx, job, now=now)
    match facts:
        case Watched():
            _watched(tx, facts, now=now)
        case Heard():
            _heard(tx, facts, now=now)
        case Planned():
            for trial, variant in facts.trials:
                history.put_variant(tx, variant)
                want(tx, trial, JobKind.JUDGE, judge_key(facts.tree, trial.variant), now=now)
        case CheckoutResult():
            history.put_checkout(tx, facts, now=now)
            _advance_waiting(tx, job, now=now)
        case BuildResult():
            history.put_build(tx, facts, now=now)
            _note_environment(tx, facts.environment, now=now)
            _advance_waiting(tx, job, now=now)
        case BootResult():
            history.put_boot(tx, facts, now=now)
            _advance_waiting(tx, job, now=now)
        case Collection():
            history.put_collection(tx, facts, now=now)
            _advance_waiting(tx, job, now=now)
        case Judged():
            _judged(tx, facts, now=now)
        case Investigated():
            _investigated(tx, facts, now=now)
        case Written():
            _written(tx, facts, now=now)
        case Sent():
            _sent(tx, facts, now=now)
        case Answered():
            tx.execute(
                "UPDATE command SET state = ?, answer = ? WHERE id = ?",
                (facts.state, facts.answer, facts.command),
            )
        case Reread():
            _reread(tx, facts, now=now)
        case _:
            assert_never(facts)


def give_up(tx: Transaction, job: Job, *, now: float) -> None:
    """A job is given up: what waited for it ends as INFRA, which says nothing of a kernel."""
    if job.kind is JobKind.SEND:
        mail.abandon(tx, int(job.key), now=now)
    if job.kind is JobKind.COMMAND:
        tx.execute(
            "UPDATE command SET state = ?, answer = ? WHERE id = ?",
            (CommandState.REFUSED, "it could not be carried out; the journal says why", job.key),
        )
    if job.kind not in STEPS:
        return
    for observation in history.waiting(tx, job.kind, job.key):
        _settle(
            tx,
            observation.id,
            Settled(outcome=Outcome.INFRA, milestone=observation.milestone),
            now=now,
        )


def want(tx: Transaction, trial: Trial, asker_kind: JobKind, asker_key: str, *, now: float) -> None:
    """Somebody wants ``trial`` observed, and is woken once it is settled."""
    number = history.observe(tx, trial, now=now)
    tx.execute(
        "INSERT INTO want (observation_id, asker_kind, asker_key) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (number, asker_kind, asker_key),
    )
    if history.observation(tx, number).outcome is None:
        advance(tx, number, now=now)
    else:
        queue.enqueue(tx, asker_kind, asker_key, now=now)


def advance(tx: Transaction, number: int, *, now: float) -> None:
    """Queue the next step of an observation, or settle it."""
    observation = history.observation(tx, number)
    variant = history.variant(tx, observation.trial.variant)
    steps = history.steps(tx, observation, variant)
    todo = next_step(observation.trial, variant, steps)
    tx.execute(
        "UPDATE observation SET checkout_key = ?, build_key = ?, boot_key = ? WHERE id = ?",
        (
            steps.checkout.key if steps.checkout else None,
            steps.build.key if steps.build else None,
            steps.boot.key if steps.boot else None,
            number,
        ),
    )
    match todo:
        case Step():
            tx.execute(
                "UPDATE observation SET waits_kind = ?, waits_key = ? WHERE id = ?",
                (todo.kind, todo.key, number),
            )
            queue.enqueue(tx, todo.kind, todo.key, now=now)
        case Settled():
            _settle(tx, number, todo, now=now)
        case _:
            assert_never(todo)


def _settle(tx: Transaction, number: int, end: Settled, *, now: float) -> None:
    tx.execute(
        "UPDATE observation SET outcome = ?, milestone = ?, fingerprint = ?, finding = ?,"
        " waits_kind = NULL, waits_key = NULL, settled_at = coalesce(settled_at, ?) WHERE id = ?",
        (
            end.outcome,
            end.milestone,
            end.finding.fingerprint if end.finding else None,
            encode(end.finding) if end.finding else None,
            now,
            number,
        ),
    )
    askers = tx.execute(
        "SELECT asker_kind, asker_key FROM want WHERE observation_id = ?", (number,)
    ).fetchall()
    for asker in askers:
        queue.enqueue(tx, JobKind(asker["asker_kind"]), asker["asker_key"], now=now)


def _advance_waiting(tx: Transaction, job: Job, *, now: float) -> None:
    for observation in history.waiting(tx, job.kind, job.key):
        advance(tx, observation.id, now=now)


def _watched(tx: Transaction, facts: Watched, *, now: float) -> None:
    cursors.looked(tx, f"tree:{facts.tree}", None, now=now)
    for revision in facts.revisions:
        number = history.add_revision(tx, revision)
        if number is not None:
            queue.enqueue(tx, JobKind.PLAN, str(number), now=now)


def _heard(tx: Transaction, facts: Heard, *, now: float) -> None:
    cursors.looked(tx, f"list:{facts.source}", facts.cursor, now=now)
    inbox.keep(tx, facts.source, facts.mails)
    is_news = False
    for posted in facts.posted:
        is_new = versions.put(tx, posted.series, posted.mbox)
        is_news |= is_new and posted.series.accepted_by is not None
    if is_news:
        plan_newest(tx, now=now)
    if facts.more:
        queue.enqueue(tx, JobKind.LISTEN, facts.source, now=now)


def plan_newest(tx: Transaction, *, now: float) -> None:
    """A series was accepted: the newest revision of each tree is planned with it."""
    for number, _ in history.newest_revisions(tx):
        queue.enqueue(tx, JobKind.PLAN, str(number), now=now)


def _note_environment(tx: Transaction, description: str, *, now: float) -> None:
    digest = hashlib.sha256(description.encode()).hexdigest()[:16]
    tx.execute(
        "INSERT INTO environment (id, description, seen_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (digest, description, now),
    )


def _judged(tx: Transaction, facts: Judged, *, now: float) -> None:
    for judgement in facts.judgements:
        match judgement:
            case Worse():
                if judgement.bad.finding is None:
                    continue
                number = problems.open_regression(
                    tx,
                    Regression(
                        id=0,
                        tree=facts.tree,
                        variant=facts.variant,
                        variant_name=facts.variant_name,
                        finding=judgement.bad.finding,
                        milestone=judgement.bad.milestone,
                        good=judgement.good,
                        bad=judgement.bad,
                        state=RegressionState.SUSPECTED,
                        opened_at=now,
                    ),
                    now=now,
                )
                opened = problems.open_investigation(tx, number, Goal.CAUSE, fixed=None, now=now)
            case Better():
                opened = problems.open_investigation(
                    tx, judgement.regression, Goal.FIX, fixed=judgement.fixed, now=now
                )
            case NoBaseline():
                continue
            case _:
                assert_never(judgement)
        if opened is not None:
            queue.enqueue(tx, JobKind.INVESTIGATE, str(opened), now=now)


# What an answer makes of its regression. A fix that is not confirmed, for what reason ever, changes
# nothing: the next tag that passes asks again.
_CONSEQUENCES: Mapping[tuple[Goal, Verdict], RegressionEvent] = {
    (Goal.CAUSE, Verdict.FOUND): RegressionEvent.BISECT,
    (Goal.CAUSE, Verdict.AMBIGUOUS): RegressionEvent.INCONCLUSIVE,
    (Goal.CAUSE, Verdict.CONTRADICTED): RegressionEvent.INCONCLUSIVE,
    (Goal.CAUSE, Verdict.NOT_REPRODUCED): RegressionEvent.RETRACT,
    (Goal.CAUSE, Verdict.BASELINE_FAILS): RegressionEvent.RETRACT,
    (Goal.CAUSE, Verdict.NO_EVIDENCE): RegressionEvent.RETRACT,
    (Goal.FIX, Verdict.FIXED): RegressionEvent.FIX,
}


def _investigated(tx: Transaction, facts: Investigated, *, now: float) -> None:
    investigation = problems.investigation(tx, facts.investigation)
    if investigation.ended_at is not None:
        return
    for variant in facts.variants:
        history.put_variant(tx, variant)
    match facts.result:
        case Ask() as ask:
            problems.note_progress(tx, investigation.id, ask.phase, ask.remaining)
            blame = ask.confirmed
            _want_only(tx, str(investigation.id), ask.trials, now=now)
        case Answer() as answer:
            blame = answer.blame
            problems.close_investigation(tx, investigation.id, answer, now=now)
        case _:
            assert_never(facts.result)
    number = investigation.regression
    if blame is not None and problems.advance(
        tx,
        number,
        RegressionEvent.CONFIRM,
        {"blame": blame, "investigation": investigation.id},
        now=now,
    ):
        # A tag that passed meanwhile was not held against what was only suspected then.
        regression = problems.regression(tx, number)
        queue.enqueue(tx, JobKind.JUDGE, judge_key(regression.tree, regression.variant), now=now)
    if isinstance(facts.result, Answer):
        event = _CONSEQUENCES.get((investigation.goal, facts.result.verdict))
        if event is not None:
            problems.advance(tx, number, event, {"investigation": investigation.id}, now=now)
    queue.enqueue(tx, JobKind.REPORT, str(number), now=now)


def _want_only(tx: Transaction, asker: str, trials: tuple[Trial, ...], *, now: float) -> None:
    """Want these trials and, of those that are not settled, no others."""
    asked = {history.observe(tx, trial, now=now) for trial in trials}
    pending = tx.execute(
        "SELECT id FROM want JOIN observation ON id = observation_id"
        " WHERE asker_kind = ? AND asker_key = ? AND outcome IS NULL",
        (JobKind.INVESTIGATE, asker),
    ).fetchall()
    for row in pending:
        if row["id"] not in asked:
            tx.execute(
                "DELETE FROM want WHERE observation_id = ? AND asker_kind = ? AND asker_key = ?",
                (row["id"], JobKind.INVESTIGATE, asker),
            )
    for trial in trials:
        want(tx, trial, JobKind.INVESTIGATE, asker, now=now)


def _written(tx: Transaction, facts: Written, *, now: float) -> None:
    for event in facts.silent_events:
        problems.mark_reported(tx, event, now=now)
    for letter in facts.letters:
        number = mail.put_letter(tx, letter, facts.release, now=now)
        problems.mark_reported(tx, letter.event, now=now)
        if number is not None:
            queue.enqueue(tx, JobKind.SEND, str(number), now=now)


def _sent(tx: Transaction, facts: Sent, *, now: float) -> None:
    if mail.note_deliveries(tx, facts.mail, facts.deliveries, now=now):
        queue.enqueue(tx, JobKind.SEND, str(facts.mail), now=now, after=mail.RETRY_SECONDS)


def _reread(tx: Transaction, facts: Reread, *, now: float) -> None:
    """History as the present reader sees it. An open regression stays with its bug."""
    for result in facts.results:
        if not history.read_again(tx, result, reader=facts.reader):
            continue
        for observation in history.settled_by(tx, result):
            if observation.outcome is Outcome.INFRA:
                continue
            advance(tx, observation.id, now=now)
            after = history.observation(tx, observation.id)
            if observation.finding and after.finding:
                problems.rename(tx, observation.trial, observation.finding, after.finding)
    if facts.more:
        queue.enqueue(tx, JobKind.REREAD, WHOLE, now=now)
