# SPDX-License-Identifier: GPL-2.0-or-later
"""Record what was concluded: judgements of lanes, and answers of investigations."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.lab.job import CACHES, JobKind
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.consequence import EVENTS
from kwatch.domain.verdict.judge import (
    Earlier,
    Gone,
    Masked,
    NoBaseline,
    Opened,
    Reappeared,
    Sighted,
)
from kwatch.domain.verdict.question import Answer, Ask, Goal, Phase, Verdict
from kwatch.domain.verdict.regression import RegressionEvent
from kwatch.store import investigations, lanes, motion, queue, regressions, trials

if TYPE_CHECKING:
    from kwatch.domain.facts import Investigated, Judged
    from kwatch.domain.verdict.judge import Judgement
    from kwatch.domain.verdict.lane import Lane, TagRun
    from kwatch.store.database import Transaction
    from kwatch.store.investigations import Investigation


def judged(tx: Transaction, facts: Judged, *, now: float) -> None:
    """Record the judgements of a lane, and start the investigations that they call for."""
    for judgement in facts.judgements:
        opened = _judgement(tx, facts.lane, judgement, now=now)
        if opened is not None:
            queue.enqueue(tx, JobKind.INVESTIGATE, str(opened), now=now)


def _judgement(tx: Transaction, lane: int, judgement: Judgement, *, now: float) -> int | None:
    """Record a judgement; the number of the investigation that it opens, if it does."""
    match judgement:
        case Opened():
            number = regressions.open_regression(tx, lane, judgement, now=now)
            # Later tags that have it as well are sighted next.
            queue.enqueue(tx, JobKind.JUDGE, str(lane), now=now)
            return investigations.open_investigation(tx, number, Goal.CAUSE, fixed=None, now=now)
        case Sighted():
            regressions.sight(tx, judgement.regression, lane, judgement.run, now=now)
        case Earlier():
            regressions.sight(tx, judgement.regression, lane, judgement.bad, now=now)
            regressions.move_first_bad(tx, judgement.regression, judgement.good, judgement.bad)
            _happened(tx, judgement.regression, RegressionEvent.EARLIER, judgement.bad, now=now)
        case Reappeared():
            regressions.sight(tx, judgement.regression, lane, judgement.run, now=now)
            _happened(tx, judgement.regression, RegressionEvent.REAPPEARED, judgement.run, now=now)
        case Masked():
            _masked(tx, judgement, now=now)
        case Gone():
            return investigations.open_investigation(
                tx, judgement.regression, Goal.FIX, fixed=judgement.run, now=now
            )
        case NoBaseline():
            pass
        case _:
            assert_never(judgement)
    return None


def _happened(
    tx: Transaction, number: int, event: RegressionEvent, run: TagRun, *, now: float
) -> None:
    if regressions.advance(tx, number, event, {"tag": run.tag}, now=now):
        queue.enqueue(tx, JobKind.REPORT, str(number), now=now)


def _masked(tx: Transaction, judgement: Masked, *, now: float) -> None:
    """Once a tag."""
    for event in regressions.timeline(tx, judgement.regression):
        is_same = event.detail.get("tag") == judgement.run.tag
        if event.kind is RegressionEvent.MASKED and is_same:
            return
    _happened(tx, judgement.regression, RegressionEvent.MASKED, judgement.run, now=now)


def investigated(tx: Transaction, facts: Investigated, *, now: float) -> None:
    """Ask for the trials that an investigation needs, or end it with its answer."""
    investigation = investigations.load(tx, facts.investigation)
    if investigation.ended_at is not None:
        return
    match facts.result:
        case Ask() as ask:
            investigations.note_progress(tx, investigation.id, ask.phase, ask.remaining)
            blame = ask.confirmed
            _want_only(tx, investigation, ask, now=now)
        case Answer() as answer:
            blame = answer.blame
            investigations.close(tx, investigation.id, answer, now=now)
            if investigation.phase is Phase.VERIFY:
                queue.enqueue(tx, JobKind.TIDY, CACHES, now=now)
        case _:
            assert_never(facts.result)
    number = investigation.regression
    if blame is not None and regressions.advance(
        tx,
        number,
        RegressionEvent.CONFIRMED,
        {"blame": blame, "investigation": investigation.id},
        now=now,
    ):
        # A tag that passed meanwhile was not compared with what was only suspected then.
        _judge_home(tx, number, now=now)
    if isinstance(facts.result, Answer):
        _answered(tx, investigation, facts.result, now=now)
    queue.enqueue(tx, JobKind.REPORT, str(number), now=now)


def _answered(tx: Transaction, investigation: Investigation, answer: Answer, *, now: float) -> None:
    number = investigation.regression
    event = EVENTS.get((investigation.goal, answer.verdict))
    if event is not None:
        regressions.advance(tx, number, event, {"investigation": investigation.id}, now=now)
    if answer.verdict is Verdict.NOT_FIXED and investigation.fixed:
        home = lanes.number(tx, regressions.load(tx, number).lane)
        regressions.sight(tx, number, home, investigation.fixed, now=now)
    _judge_home(tx, number, now=now)


def _judge_home(tx: Transaction, number: int, *, now: float) -> None:
    lane: Lane = regressions.load(tx, number).lane
    queue.enqueue(tx, JobKind.JUDGE, str(lanes.number(tx, lane)), now=now)


def _want_only(tx: Transaction, investigation: Investigation, ask: Ask, *, now: float) -> None:
    """Want these trials and, of those that are not settled, no others."""
    asker = str(investigation.id)
    asked = {trials.put(tx, trial, now=now) for trial in ask.trials}
    pending = tx.execute(
        "SELECT trial FROM want JOIN trial ON trial.id = want.trial"
        " WHERE asker_kind = ? AND asker_key = ? AND outcome IS NULL",
        (JobKind.INVESTIGATE, asker),
    ).fetchall()
    for row in pending:
        if row["trial"] not in asked:
            tx.execute(
                "DELETE FROM want WHERE trial = ? AND asker_kind = ? AND asker_key = ?",
                (row["trial"], JobKind.INVESTIGATE, asker),
            )
    for trial in ask.trials:
        number = trials.put(tx, trial, now=now)
        investigations.note_step(tx, investigation.id, number, ask.phase, now=now)
        if trials.load(tx, number).outcome is Outcome.INFRA:
            # It is wanted, and tried again when the lab has recovered: no wake-up before that.
            tx.execute(
                "INSERT INTO want (trial, asker_kind, asker_key) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (number, JobKind.INVESTIGATE, asker),
            )
            continue
        motion.want(tx, trial, JobKind.INVESTIGATE, asker, now=now)
