# SPDX-License-Identifier: GPL-2.0-or-later
"""Record what was concluded: judgements of lanes, and answers of investigations."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.lab.job import CACHES, JobKind, baseline_key
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.consequence import EVENTS, LATER_EVENTS
from kwatch.domain.verdict.judge import (
    Earlier,
    Gone,
    Masked,
    NoBaseline,
    Opened,
    Reappeared,
    Sighted,
    Spread,
)
from kwatch.domain.verdict.lane import Line
from kwatch.domain.verdict.question import Answer, Ask, Goal, Phase, Verdict
from kwatch.domain.verdict.regression import RegressionEvent, RegressionState, ended, is_news
from kwatch.store import (
    baselines,
    investigations,
    lanes,
    motion,
    notices,
    presences,
    queue,
    regressions,
    trials,
)

if TYPE_CHECKING:
    from kwatch.domain.facts import Investigated, Judged
    from kwatch.domain.verdict.judge import Judgement
    from kwatch.domain.verdict.lane import TagRun
    from kwatch.domain.verdict.regression import Presence
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
            return investigations.open_investigation(
                tx, number, Goal.CAUSE, lane=lane, fixed=None, now=now
            )
        case Sighted():
            regressions.sight(tx, judgement.regression, lane, judgement.run, now=now)
        case Spread():
            _spread(tx, lane, judgement, now=now)
        case Earlier():
            _earlier(tx, lane, judgement, now=now)
        case Reappeared():
            _reappeared(tx, lane, judgement, now=now)
        case Masked():
            _masked(tx, lane, judgement, now=now)
        case Gone():
            return investigations.open_investigation(
                tx, judgement.regression, Goal.FIX, lane=lane, fixed=judgement.run, now=now
            )
        case NoBaseline():
            _try_baseline(tx, lane, judgement.bad, now=now)
        case _:
            assert_never(judgement)
    return None


def _try_baseline(tx: Transaction, lane: int, bad: TagRun, *, now: float) -> None:
    """Try the next commit that a tag can be compared with, once it is known what these are."""
    if not baselines.is_searched(tx, lane, bad.revision):
        queue.enqueue(tx, JobKind.BASELINE, baseline_key(lane, bad.revision), now=now)
        return
    found = baselines.next_untried(tx, lane, bad.revision)
    if found is not None:
        revision, commit = found
        trial = bad.trial.of(commit).again()
        baselines.tried(tx, lane, bad.revision, revision, trials.put(tx, trial, now=now))
        motion.want(tx, trial, JobKind.JUDGE, str(lane), now=now)


def _spread(tx: Transaction, lane: int, judgement: Spread, *, now: float) -> None:
    number, bad = judgement.regression, judgement.bad
    others = _others(tx, lane, number, bad)
    regressions.sight(tx, number, lane, bad, now=now)
    if presences.put(tx, number, lane, good=judgement.good, bad=bad):
        news = is_news(_line(tx, lane, bad), others)
        _happened(tx, lane, number, RegressionEvent.SPREAD, bad, now=now, news=news)
    # Later tags of the line are sighted next.
    queue.enqueue(tx, JobKind.JUDGE, str(lane), now=now)


def _earlier(tx: Transaction, lane: int, judgement: Earlier, *, now: float) -> None:
    number, bad = judgement.regression, judgement.bad
    before = presences.load(tx, number, lane, bad.branch).bad
    regressions.sight(tx, number, lane, bad, now=now)
    presences.move_first_bad(tx, number, lane, good=judgement.good, bad=bad)
    if bad.revision != before.revision:
        _happened(tx, lane, number, RegressionEvent.EARLIER, bad, now=now)


def _reappeared(tx: Transaction, lane: int, judgement: Reappeared, *, now: float) -> None:
    number, run = judgement.regression, judgement.run
    regressions.sight(tx, number, lane, run, now=now)
    # Of several tags that show it again, the first one counts.
    if presences.resume(tx, number, lane, run):
        news = is_news(_line(tx, lane, run), _others(tx, lane, number, run))
        _happened(tx, lane, number, RegressionEvent.REAPPEARED, run, now=now, news=news)


def _line(tx: Transaction, lane: int, run: TagRun) -> Line:
    return Line(lane=lanes.load(tx, lane), branch=run.branch)


def _others(tx: Transaction, lane: int, number: int, run: TagRun) -> tuple[Presence, ...]:
    """A regression in all lines but that of a tag."""
    line = _line(tx, lane, run)
    return tuple(one for one in presences.of_regression(tx, number) if one.line != line)


def _happened(
    tx: Transaction,
    lane: int,
    number: int,
    event: RegressionEvent,
    run: TagRun,
    *,
    now: float,
    **detail: object,
) -> bool:
    """Let an event happen in a tag of a lane, and have it reported; False if it cannot."""
    place = lanes.load(tx, lane)
    about = {"tag": run.tag, "tree": place.tree, "variant": place.variant, **detail}
    if not regressions.advance(tx, number, event, about, now=now):
        return False
    notices.wake(tx, of_regression(number), now=now)
    return True


def _masked(tx: Transaction, lane: int, judgement: Masked, *, now: float) -> None:
    """Once a tag of a lane."""
    place, tag = lanes.load(tx, lane), judgement.run.tag
    known = {"tag": tag, "tree": place.tree, "variant": place.variant}
    for event in regressions.timeline(tx, judgement.regression):
        if event.kind is RegressionEvent.MASKED and known.items() <= event.detail.items():
            return
    _happened(tx, lane, judgement.regression, RegressionEvent.MASKED, judgement.run, now=now)


def investigated(tx: Transaction, facts: Investigated, *, now: float) -> None:
    """Ask for the trials that an investigation needs, or end it with its answer."""
    investigation = investigations.load(tx, facts.investigation)
    if investigation.ended_at is not None:
        return
    match facts.result:
        case Ask() as ask:
            investigations.note_progress(tx, investigation.id, ask)
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
    if number is None:
        return
    is_suspected = regressions.load(tx, number).state is RegressionState.SUSPECTED
    confirmed = {"blame": blame, "investigation": investigation.id}
    if blame is not None and regressions.advance(
        tx, number, RegressionEvent.CONFIRMED, confirmed, now=now
    ):
        # A tag that passed meanwhile was not compared with what was only suspected then.
        _judge_again(tx, number, now=now)
    if isinstance(facts.result, Answer):
        events = EVENTS if is_suspected else LATER_EVENTS
        event = events.get((investigation.goal, facts.result.verdict))
        _answered(tx, investigation, number, facts.result, event, now=now)
    notices.wake(tx, of_regression(number), now=now)


def _answered(
    tx: Transaction,
    investigation: Investigation,
    number: int,
    answer: Answer,
    event: RegressionEvent | None,
    *,
    now: float,
) -> None:
    lane, fixed = investigation.lane, investigation.fixed
    if lane is not None and fixed is not None:
        if event is RegressionEvent.FIXED:
            _gone(tx, investigation.id, number, lane, fixed, now=now)
        elif answer.verdict is Verdict.NOT_FIXED:
            regressions.sight(tx, number, lane, fixed, now=now)
    elif event is not None:
        regressions.advance(tx, number, event, {"investigation": investigation.id}, now=now)
    _judge_again(tx, number, now=now)


def _gone(
    tx: Transaction, investigation: int, number: int, lane: int, fixed: TagRun, *, now: float
) -> None:
    """A line is free of a regression, which is fixed if it was the last one."""
    others = _others(tx, lane, number, fixed)
    news = is_news(_line(tx, lane, fixed), others)
    if _happened(
        tx, lane, number, ended(others), fixed, now=now, news=news, investigation=investigation
    ):
        presences.end(tx, number, lane, fixed)


def _judge_again(tx: Transaction, number: int, *, now: float) -> None:
    """Judge all lanes that have a regression."""
    found = {presence.line.lane for presence in presences.of_regression(tx, number)}
    for lane in sorted(found, key=str):
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
