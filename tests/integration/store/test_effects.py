# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.facts import Ordered, Reread, Retried
from kwatch.domain.lab.command import Command, CommandState, Retest, Verb
from kwatch.domain.lab.job import GIVE_UP_AFTER, WHOLE, Job, JobKind
from kwatch.domain.mail.story import DeliveryState
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.case import GIVE_UP
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.question import Goal, Verdict
from kwatch.domain.verdict.regression import RegressionEvent, RegressionState
from kwatch.stages.investigate import question_of
from kwatch.store import (
    commands,
    investigations,
    lanes,
    mail,
    motion,
    queue,
    regressions,
    revisions,
    steps,
    trials,
)
from kwatch.store.database import transaction
from kwatch.store.effects import RETRIES
from tests.integration.store.world import TREE, Bug, Kind, World, put_recipes
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kwatch.domain.verdict.regression import Regression
    from kwatch.store.trials import StoredTrial

HANG = Bug(name="a", kind=Kind.HANG, since=2, until=5)


@pytest.fixture
def world() -> Iterator[World]:
    world = World(bugs=[HANG])
    yield world
    world.connection.close()


def settle(world: World, is_broken: Callable[[Job], bool] = lambda _: False) -> None:
    """Work until nothing is left; the lab itself fails at the jobs that ``is_broken`` names."""
    while job := world.claim():
        if is_broken(job):
            world.fail(job)
        else:
            world.record(job, world.work(job))
        world.check()


def grow(world: World, commits: int, is_broken: Callable[[Job], bool] = lambda _: False) -> None:
    """Some commits and a tag on the last of them, with all that comes of it."""
    for _ in range(commits):
        world.add_commit()
    world.tag(f"next-{len(world.tags) + 1}")
    settle(world, is_broken)


def is_boot(job: Job) -> bool:
    return job.kind is JobKind.BOOT


def the_regression(world: World) -> Regression:
    (regression,) = regressions.newest_first(world.connection)
    return regression


def newest(world: World, variant: str = "cov") -> StoredTrial:
    """The trial by which the newest tag counts in a lane."""
    ((number, _),) = revisions.newest(world.connection)
    ((_, trial),) = lanes.planned(world.connection, number, variant)
    return trials.load(world.connection, trial)


def kinds(world: World, number: int) -> list[RegressionEvent]:
    return [event.kind for event in regressions.timeline(world.connection, number)]


def order_a_retest(world: World, variant: str | None = None) -> str:
    """``kwatch retest`` of the newest tag; the answer."""
    tag = list(world.tags)[-1]
    with transaction(world.connection):
        number = commands.give(
            world.connection,
            Command(sender="operator", verb=Verb.RETEST, argument=f"{TREE} {tag}"),
            now=world.now,
        )
    job = world.claim([JobKind.COMMAND])
    assert job is not None
    order = Retest(tree=TREE, tag=tag, variant=variant)
    world.record(job, Ordered(command=number, order=order))
    given = commands.load(world.connection, number)
    assert given.state is CommandState.DONE
    assert given.answer is not None
    return given.answer


def test_the_life_of_a_regression(world: World) -> None:
    for commits in (1, 3, 1, 1):
        grow(world, commits)
    regression = the_regression(world)
    assert regression.state is RegressionState.FIXED
    assert kinds(world, regression.id) == [
        "opened", "spread", "confirmed", "bisected", "gone", "fixed"
    ]  # fmt: skip
    mails = mail.thread(world.connection, of_regression(regression.id))
    assert [one.kind for one in mails] == ["new", "bisected", "fixed"]
    assert {one.state for one in mails} == {"sent"}


def test_a_bug_that_comes_back_goes_on_in_its_thread(world: World) -> None:
    for commits in (1, 3, 2):
        grow(world, commits)
    world.bugs.append(replace(HANG, since=6, until=8))
    grow(world, 1)
    regression = the_regression(world)
    assert regression.state is RegressionState.CONFIRMED
    assert kinds(world, regression.id)[-1] is RegressionEvent.REAPPEARED
    grow(world, 1)
    grow(world, 1)
    regression = the_regression(world)
    assert regression.state is RegressionState.FIXED
    mails = mail.thread(world.connection, of_regression(regression.id))
    assert [one.kind for one in mails] == ["new", "bisected", "fixed", "reappeared", "fixed"]


def test_one_bug_in_all_lanes_and_trees_is_one_regression(world: World) -> None:
    """One bisection and one thread, wherever it is seen."""
    for commits, tree in ((1, TREE), (0, "mainline"), (3, TREE), (0, "mainline")):
        for _ in range(commits):
            world.add_commit()
        world.tag(f"{tree}-{len(world.tags) + 1}", tree=tree)
        settle(world)
    regression = the_regression(world)
    places = {
        (tree, variant)
        for tree, _, variant in regressions.sightings(world.connection, regression.id)
    }
    assert places == {
        (tree, variant) for tree in (TREE, "mainline") for variant in ("cov", "plain")
    }
    found = investigations.of_regression(world.connection, regression.id)
    assert [one.goal for one in found] == [Goal.CAUSE]
    kinds_of_mail = [
        one.kind for one in mail.thread(world.connection, of_regression(regression.id))
    ]
    assert kinds_of_mail == ["new", "bisected", "spread"]


def test_equal_work_is_done_once_for_all_who_want_it(world: World) -> None:
    grow(world, 1)
    grow(world, 2)
    for table in ("checkout", "build", "boot"):
        keys = [
            row["key"] for row in world.rows("SELECT key, kind FROM job") if row["kind"] == table
        ]
        assert len(keys) == len(set(keys))
    # The tag, its repeat and the good tag's repeat share their builds.
    assert len(world.rows("SELECT row FROM build")) < len(world.rows("SELECT key FROM boot"))


def test_a_host_that_is_gone_for_the_night_is_no_evidence(world: World) -> None:
    grow(world, 1)
    attempts = 0

    def count(job: Job) -> bool:
        nonlocal attempts
        attempts += is_boot(job)
        return is_boot(job)

    grow(world, 2, count)
    assert newest(world).outcome is Outcome.INFRA
    # One boot of each lane.
    assert attempts == 2 * GIVE_UP_AFTER[JobKind.BOOT]
    assert regressions.newest_first(world.connection) == ()
    # In the morning the host is back, and the night is not lost.
    assert world.recover() == 2
    settle(world)
    assert newest(world).outcome is Outcome.FAIL
    assert the_regression(world).state is RegressionState.CONFIRMED


def test_what_the_lab_fails_at_is_tried_again_by_the_hour_and_not_for_ever(world: World) -> None:
    world.add_commit()
    world.tag("next-1")

    def an_hour() -> int:
        with transaction(world.connection):
            queue.enqueue(world.connection, JobKind.RETRY, WHOLE, now=world.now)
        tries = 0
        while job := world.claim():
            if job.kind is JobKind.RETRY:
                world.record(job, Retried())
            elif is_boot(job):
                tries += 1
                world.fail(replace(job, failures=GIVE_UP_AFTER[JobKind.BOOT]))
            else:
                world.record(job, world.work(job))
            world.check()
        return tries

    assert [an_hour() for _ in range(RETRIES + 2)] == [2] * RETRIES + [0, 0]
    assert newest(world).tries == RETRIES
    # A host that recovers does not count them.
    assert world.recover() == 2
    settle(world)
    assert newest(world).outcome is Outcome.PASS


def test_a_trial_that_nobody_wants_any_more_is_not_tried_again(world: World) -> None:
    grow(world, 1, is_boot)
    with transaction(world.connection):
        world.connection.execute("DELETE FROM want")
    assert world.recover() == 0


def test_a_regression_that_cannot_be_repeated_for_want_of_a_host_waits_and_is_withdrawn(
    world: World,
) -> None:
    grow(world, 1)

    def is_repeat(job: Job) -> bool:
        return is_boot(job) and bool(regressions.newest_first(world.connection))

    grow(world, 2, is_repeat)
    for tries in range(1, GIVE_UP):
        assert the_regression(world).state is RegressionState.SUSPECTED, tries
        assert world.recover() > 0
        settle(world, is_repeat)
    assert the_regression(world).state is RegressionState.INVALID
    assert mail.outbox(world.connection) == ()


def test_a_regression_that_could_not_be_repeated_at_first_goes_on(world: World) -> None:
    grow(world, 1)
    grow(world, 2, lambda job: is_boot(job) and bool(regressions.newest_first(world.connection)))
    assert the_regression(world).state is RegressionState.SUSPECTED
    world.recover()
    settle(world)
    regression = the_regression(world)
    assert kinds(world, regression.id) == ["opened", "spread", "confirmed", "bisected"]


def test_a_fix_that_cannot_be_repeated_leaves_the_regression_open(world: World) -> None:
    grow(world, 1)
    grow(world, 3)

    def is_fix(job: Job) -> bool:
        return is_boot(job) and bool(
            world.rows("SELECT 1 FROM investigation WHERE goal = 'fix' AND ended_at IS NULL")
        )

    grow(world, 2, is_fix)
    for _ in range(1, GIVE_UP):
        world.recover()
        settle(world, is_fix)
    regression = the_regression(world)
    assert regression.state is RegressionState.CONFIRMED
    answer = investigations.of_regression(world.connection, regression.id)[-1].answer
    assert answer is not None
    assert answer.verdict is Verdict.NO_EVIDENCE
    grow(world, 1)
    assert the_regression(world).state is RegressionState.FIXED


def test_a_trial_that_is_settled_already_wakes_whoever_asks_for_it(world: World) -> None:
    grow(world, 1)
    trial = newest(world).trial
    with transaction(world.connection):
        motion.want(world.connection, trial, JobKind.INVESTIGATE, "7", now=world.now)
    assert [(job.kind, job.key) for job in queue.alive(world.connection)] == [("investigate", "7")]


def test_an_event_has_one_mail_whatever_its_identity(world: World) -> None:
    grow(world, 1)
    grow(world, 2)
    with transaction(world.connection):
        world.connection.execute("UPDATE notice SET handled_at = NULL")
        queue.enqueue(world.connection, JobKind.REPORT, "1", now=world.now)
    before = mail.outbox(world.connection)
    assert before
    settle(world)
    assert mail.outbox(world.connection) == before


def test_a_mail_that_no_server_takes_ends_as_failed(world: World) -> None:
    for commits in (1, 2):
        grow(world, commits, lambda job: job.kind is JobKind.SEND)
    mails = mail.outbox(world.connection)
    assert len(mails) == 2
    assert {one.state for one in mails} == {"failed"}


def test_recipients_that_are_put_off_are_tried_again_alone(world: World) -> None:
    world.add_commit()
    world.tag("next-1")
    for _ in range(2):
        world.add_commit()
    world.tag("next-2")
    while job := world.claim():
        world.record(job, world.work(job, delivery=DeliveryState.DEFERRED))
        if job.kind is JobKind.SEND:
            break
    (waiting,) = (one for one in mail.outbox(world.connection) if one.state == "ready")
    before = world.now
    settle(world)
    assert world.now >= before + mail.RETRY_SECONDS
    sent = next(one for one in mail.outbox(world.connection) if one.id == waiting.id)
    assert (sent.state, sent.waiting, sent.message_id) == ("sent", (), waiting.message_id)


def kept_build(world: World, *builds: dict[str, str], blobs: tuple[str, ...]) -> bool:
    """Whether the build that was made with these artifacts, one after the other, can be booted."""
    made = [samples.build("k", artifacts=artifacts) for artifacts in builds]
    with transaction(world.connection):
        for one in made:
            steps.put_build(world.connection, one, "recipe", now=1.0)
        world.connection.executemany(
            "INSERT INTO blob VALUES (?, 1, 1, 0, 0)", [(digest,) for digest in blobs]
        )
    found = steps.build(world.connection, made[-1].row)
    assert found is not None
    return found.available


def test_a_build_that_is_made_again_forgets_the_blobs_it_had(world: World) -> None:
    is_there = kept_build(world, {"image": "a", "map": "b"}, {"image": "c"}, blobs=("c",))
    assert is_there, "it would be built again and again"


def test_a_log_that_is_gone_does_not_cost_a_build(world: World) -> None:
    assert kept_build(world, {"image": "a", "log": "b"}, blobs=("a",))


def test_what_nobody_wants_any_more_is_dropped(world: World) -> None:
    world.add_commit()
    world.tag("next-1")
    job = world.claim()
    assert job is not None
    world.record(job, world.work(job))
    with transaction(world.connection):
        world.connection.execute("DELETE FROM want")
    settle(world)
    states = [row["state"] for row in world.rows("SELECT state FROM job WHERE kind = 'checkout'")]
    assert set(states) == {"dropped"}
    with transaction(world.connection):
        # Wanted again, it goes on where it stood.
        queue.enqueue(world.connection, JobKind.PLAN, "1", now=world.now)
    settle(world)
    assert {row["outcome"] for row in world.rows("SELECT outcome FROM trial")} == {"pass"}


def test_a_better_reader_does_not_make_an_old_bug_new(world: World) -> None:
    grow(world, 1)
    grow(world, 3)
    before = the_regression(world)
    better = replace(HANG.finding, title="silent hang in a function that has a name")
    kept = [steps.boot(world.connection, row["key"]) for row in world.rows("SELECT key FROM boot")]
    hung = tuple(replace(boot, finding=better) for boot in kept if boot and boot.finding)
    assert hung
    with transaction(world.connection):
        queue.enqueue(world.connection, JobKind.REREAD, WHOLE, now=world.now)
    job = world.claim([JobKind.REREAD])
    assert job is not None
    world.record(job, Reread(results=hung, reader=99, more=False))
    settle(world)
    after = the_regression(world)
    assert (after.fingerprint, after.state) == (better.fingerprint, before.state)
    assert after.bad.seen is not None
    assert after.bad.seen.finding == better
    assert newest(world).finding == better
    mails = mail.thread(world.connection, of_regression(before.id))
    assert [one.kind for one in mails] == ["new", "bisected"]
    assert {row["reader"] for row in world.rows("SELECT reader FROM boot WHERE key IN"
            " (SELECT boot_key FROM trial WHERE outcome = 'fail')")} == {99}  # fmt: skip


def test_a_retest_of_what_the_lab_failed_at_is_another_try(world: World) -> None:
    grow(world, 1, is_boot)
    before = newest(world)
    assert before.outcome is Outcome.INFRA
    assert "2 trials" in order_a_retest(world)
    world.check()
    settle(world)
    after = newest(world)
    assert (after.id, after.outcome) == (before.id, Outcome.PASS)


def test_a_retest_of_a_result_is_one_more_sample_that_counts(world: World) -> None:
    world.bugs.append(Bug(name="b", kind=Kind.COMPILE, since=1, axis=Blame.SERIES))
    grow(world, 1)
    before = newest(world, "plain")
    assert ": 1 trial" in order_a_retest(world, "plain")
    world.check()
    settle(world)
    after = newest(world, "plain")
    assert after.trial == before.trial.again(repeat=1)
    assert (before.outcome, after.outcome) == (Outcome.PASS, Outcome.PASS)
    # A build that fails is made again from nothing.
    grow(world, 1)
    before = newest(world)
    assert before.outcome is Outcome.FAIL
    order_a_retest(world, "cov")
    settle(world)
    after = newest(world)
    # The investigation may have taken the next one.
    assert after.trial == before.trial.again(rebuild=after.trial.sample.rebuild)
    assert after.trial.sample.rebuild > before.trial.sample.rebuild
    lane = lanes.number(world.connection, Lane(tree=TREE, variant="cov"))
    assert [run.number for run in lanes.runs(world.connection, lane)][-1] == newest(world).id


def test_a_retest_of_what_is_waiting_does_not_wait(world: World) -> None:
    world.add_commit()
    world.tag("next-1")
    while (job := world.claim()) and not is_boot(job):
        world.record(job, world.work(job))
    assert job is not None
    world.fail(replace(job, failures=3))
    due = queue.next_due(world.connection, [JobKind.BOOT])
    order_a_retest(world)
    assert due is not None
    claimed = []
    while found := queue.claim(world.connection, [JobKind.BOOT], now=world.now):
        claimed.append(found.key)
    assert job.key in claimed


def test_a_step_that_a_search_waits_for_is_taken_over_by_a_tag(world: World) -> None:
    put_recipes(world)
    trial = samples.trial("c000", series=None)
    with transaction(world.connection):
        motion.want(world.connection, trial, JobKind.INVESTIGATE, "7", now=0.0)
    assert [row["purpose"] for row in world.rows("SELECT purpose FROM job")] == ["search"]
    world.add_commit()
    world.tag("next-1")
    job = world.claim([JobKind.PLAN])
    assert job is not None
    world.record(job, world.work(job))
    rows = world.rows("SELECT DISTINCT tree, purpose FROM job WHERE kind = 'checkout'")
    assert [tuple(row) for row in rows] == [(TREE, "tag")]


def test_a_question_is_answered_without_a_regression(world: World) -> None:
    grow(world, 1)
    grow(world, 3)
    regression = the_regression(world)
    cause = investigations.of_regression(world.connection, regression.id)[0]
    question = question_of(world.connection, cause)
    with transaction(world.connection):
        number = investigations.open_question(world.connection, question, now=world.now)
    mails = mail.outbox(world.connection)
    settle(world)
    found = investigations.load(world.connection, number)
    assert found.regression is None
    assert found.answer is not None
    assert cause.answer is not None
    assert (found.answer.verdict, found.answer.commits) == (
        cause.answer.verdict, cause.answer.commits
    )  # fmt: skip
    assert regressions.newest_first(world.connection) == (regression,)
    assert mail.outbox(world.connection) == mails
