# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.integration.store.bench_lab import Lab, Trouble, Truth

from kwatch.domain.facts import Reread
from kwatch.domain.lab.job import GIVE_UP_AFTER, WHOLE, Job, JobKind
from kwatch.domain.mail.story import DeliveryState
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.investigation import Goal, Verdict
from kwatch.domain.verdict.regression import RegressionState
from kwatch.store import history, mail, problems, queue, record
from kwatch.store.database import transaction
from tests.unit.domain import trials
from tests.unit.domain.trials import VARIANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HANG = Truth(trouble=Trouble.HANG)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab.create(tmp_path)
    yield lab
    lab.connection.close()


def settle(lab: Lab, is_broken: Callable[[Job], bool] = lambda _: False) -> None:
    """Work until nothing is left; the lab itself fails at the jobs that ``is_broken`` names."""
    while job := lab.claim():
        if is_broken(job):
            lab.fail(job)
        else:
            lab.record(job, lab.work(job))
        lab.check()


def test_the_life_of_a_regression(lab: Lab) -> None:
    for truths in ([Truth()], [Truth(), HANG, HANG], [HANG], [Truth()]):
        lab.grow(truths)
        settle(lab)
    (regression,) = problems.regressions(lab.connection)
    assert regression.state is RegressionState.FIXED
    timeline = problems.timeline(lab.connection, regression.id)
    assert [event.kind for event in timeline] == ["opened", "confirm", "bisect", "fix"]
    mails = mail.thread(lab.connection, f"regression:{regression.id}")
    assert [one.kind for one in mails] == ["new", "bisected", "fixed"]
    assert {one.state for one in mails} == {"sent"}


def test_equal_work_is_done_once_for_all_who_want_it(lab: Lab) -> None:
    lab.grow([Truth()])
    settle(lab)
    lab.grow([HANG])
    settle(lab)
    for table in ("checkout", "build", "boot"):
        keys = [row["key"] for row in lab.rows("SELECT key, kind FROM job") if row["kind"] == table]
        assert len(keys) == len(set(keys))
    # The tag, its repeat and the good tag's repeat share their builds.
    assert len(lab.rows("SELECT key FROM build")) < len(lab.rows("SELECT key FROM boot"))


def test_a_host_that_is_gone_for_the_night_is_no_evidence(lab: Lab) -> None:
    lab.grow([Truth()])
    settle(lab)
    lab.grow([HANG])
    settle(lab, lambda job: job.kind is JobKind.BOOT)
    newest = history.find_observation(
        lab.connection, Trial(commit=lab.commits[-1], variant=VARIANT.digest)
    )
    assert newest is not None
    assert newest.outcome is Outcome.INFRA
    assert lab.failures == GIVE_UP_AFTER[JobKind.BOOT]
    assert problems.regressions(lab.connection) == ()


def test_a_regression_that_cannot_be_repeated_for_want_of_a_host_is_withdrawn(lab: Lab) -> None:
    lab.grow([Truth()])
    settle(lab)
    lab.grow([HANG])
    settle(lab, lambda job: job.kind is JobKind.BOOT and bool(problems.regressions(lab.connection)))
    (regression,) = problems.regressions(lab.connection)
    assert regression.state is RegressionState.INVALID
    assert mail.outbox(lab.connection) == ()


def test_a_fix_that_cannot_be_repeated_leaves_the_regression_open(lab: Lab) -> None:
    for truths in ([Truth()], [HANG]):
        lab.grow(truths)
        settle(lab)
    lab.grow([Truth()])

    def is_fix(job: Job) -> bool:
        goals = {one.goal for one in problems.open_investigations(lab.connection)}
        return job.kind is JobKind.BOOT and Goal.FIX in goals

    settle(lab, is_fix)
    (regression,) = problems.regressions(lab.connection)
    assert regression.state is RegressionState.BISECTED
    answer = problems.investigations(lab.connection, regression.id)[-1].answer
    assert answer is not None
    assert answer.verdict is Verdict.NO_EVIDENCE
    lab.grow([Truth()])
    settle(lab)
    assert problems.regression(lab.connection, regression.id).state is RegressionState.FIXED


def test_a_trial_that_is_settled_already_wakes_whoever_asks_for_it(lab: Lab) -> None:
    lab.grow([Truth()])
    settle(lab)
    trial = Trial(commit=lab.commits[0], variant=VARIANT.digest)
    with transaction(lab.connection):
        record.want(lab.connection, trial, JobKind.INVESTIGATE, "7", now=lab.now)
    assert [(job.kind, job.key) for job in queue.alive(lab.connection)] == [("investigate", "7")]


def test_an_event_has_one_mail_whatever_its_identity(lab: Lab) -> None:
    for truths in ([Truth()], [HANG]):
        lab.grow(truths)
        settle(lab)
    with transaction(lab.connection):
        lab.connection.execute("UPDATE regression_event SET reported_at = NULL")
        queue.enqueue(lab.connection, JobKind.REPORT, "1", now=lab.now)
    before = mail.outbox(lab.connection)
    settle(lab)
    assert mail.outbox(lab.connection) == before


def test_a_mail_that_no_server_takes_ends_as_failed(lab: Lab) -> None:
    for truths in ([Truth()], [HANG]):
        lab.grow(truths)
        settle(lab, lambda job: job.kind is JobKind.SEND)
    mails = mail.outbox(lab.connection)
    assert len(mails) == 2
    assert {one.state for one in mails} == {"failed"}


def test_recipients_that_are_put_off_are_tried_again_alone(lab: Lab) -> None:
    for truths in ([Truth()], [HANG]):
        lab.grow(truths)
    while job := lab.claim():
        lab.record(job, lab.work(job, delivery=DeliveryState.DEFERRED))
        if job.kind is JobKind.SEND:
            break
    (waiting,) = (one for one in mail.outbox(lab.connection) if one.state == "ready")
    before = lab.now
    settle(lab)
    assert lab.now >= before + mail.RETRY_SECONDS
    sent = next(one for one in mail.outbox(lab.connection) if one.id == waiting.id)
    assert (sent.state, sent.waiting, sent.message_id) == ("sent", (), waiting.message_id)


def test_a_build_that_is_made_again_forgets_the_blobs_it_had(lab: Lab) -> None:
    with transaction(lab.connection):
        for artifacts in ({"image": "a", "map": "b"}, {"image": "c"}):
            history.put_build(lab.connection, trials.build("k", artifacts=artifacts), now=1.0)
        lab.connection.execute("INSERT INTO blob VALUES ('c', 1, 1, 0, 0)")
    made = history.build(lab.connection, "k")
    assert made is not None
    assert made.available, "it would be built again and again"


def test_a_log_that_is_gone_does_not_cost_a_build(lab: Lab) -> None:
    with transaction(lab.connection):
        history.put_build(
            lab.connection, trials.build("k", artifacts={"image": "a", "log": "b"}), now=1.0
        )
        lab.connection.execute("INSERT INTO blob VALUES ('a', 1, 1, 0, 0)")
    made = history.build(lab.connection, "k")
    assert made is not None
    assert made.available


def test_what_nobody_wants_any_more_is_dropped(lab: Lab) -> None:
    lab.grow([Truth()])
    job = lab.claim()
    assert job is not None
    lab.record(job, lab.work(job))
    with transaction(lab.connection):
        lab.connection.execute("DELETE FROM want")
    settle(lab)
    assert [row["state"] for row in lab.rows("SELECT state FROM job WHERE kind = 'checkout'")] == [
        "dropped"
    ]
    with transaction(lab.connection):
        # Wanted again, it goes on where it stood.
        queue.enqueue(lab.connection, JobKind.PLAN, "1", now=lab.now)
    settle(lab)
    assert [row["outcome"] for row in lab.rows("SELECT outcome FROM observation")] == ["pass"]


def test_a_better_reader_does_not_make_an_old_bug_new(lab: Lab) -> None:
    for truths in ([Truth()], [Truth(), HANG, HANG]):
        lab.grow(truths)
        settle(lab)
    (before,) = problems.regressions(lab.connection)
    better = replace(trials.HANG, title="silent hang in a function that has a name")
    kept = [history.boot(lab.connection, row["key"]) for row in lab.rows("SELECT key FROM boot")]
    hung = tuple(replace(boot, finding=better) for boot in kept if boot and boot.finding)
    assert hung
    with transaction(lab.connection):
        queue.enqueue(lab.connection, JobKind.REREAD, WHOLE, now=lab.now)
    job = lab.claim([JobKind.REREAD])
    assert job is not None
    lab.record(job, Reread(results=hung, reader=99, more=False))
    settle(lab)
    (after,) = problems.regressions(lab.connection)
    assert (after.fingerprint, after.state) == (better.fingerprint, before.state)
    assert after.bad.finding == better
    newest = history.tag_results(lab.connection, "linux-next", VARIANT.digest)[-1]
    assert newest.finding == better
    mails = mail.thread(lab.connection, f"regression:{before.id}")
    assert [one.kind for one in mails] == ["new", "bisected"]
    assert {row["reader"] for row in lab.rows("SELECT reader FROM boot WHERE key IN"
            " (SELECT boot_key FROM observation WHERE outcome = 'fail')")} == {99}  # fmt: skip
