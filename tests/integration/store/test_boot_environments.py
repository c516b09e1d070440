# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots in several environments: which is whose result, and what was refused for want of one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.trial import Sample
from kwatch.store import lanes, motion, trials
from kwatch.store.database import transaction
from tests.integration.store.world import World, put_recipes
from tests.unit.domain import trials as samples
from tests.unit.domain.trials import HANG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kwatch.domain.lab.job import Job
    from kwatch.store.trials import StoredTrial

FIRST = samples.trial("c000")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.add_commit()
    put_recipes(world)
    with transaction(world.connection):
        assert lanes.number(world.connection, samples.LANE) == 1
    yield world
    world.connection.close()


def want(world: World, boot_environment: str = "") -> int:
    """Somebody wants a trial to be booted there."""
    trial = replace(FIRST, sample=Sample(boot_environment=boot_environment))
    with transaction(world.connection):
        return motion.want(world.connection, trial, JobKind.JUDGE, "1", now=world.now)


def next_boot(world: World) -> Job:
    """The next job that is a boot, with all that comes before."""
    while job := world.claim([JobKind.CHECKOUT, JobKind.BUILD, JobKind.BOOT]):
        if job.kind is JobKind.BOOT:
            return job
        world.record(job, world.work(job))
    raise AssertionError("nothing is booted")


def boot(world: World) -> None:
    """Boot what is wanted next, and collect its coverage."""
    job = next_boot(world)
    world.record(job, world.work(job))
    collect(world)


def collect(world: World) -> None:
    while job := world.claim([JobKind.COLLECT]):
        world.record(job, world.work(job))


def found(world: World, number: int) -> StoredTrial:
    return trials.load(world.connection, number)


def test_a_trial_that_asks_for_nothing_takes_what_is_there(world: World) -> None:
    one = want(world, "h1")
    boot(world)
    world.hosts = [2, 2]
    other, asking = want(world), want(world, "h2")
    assert found(world, other).boot_key == found(world, one).boot_key
    assert found(world, asking).outcome is None
    boot(world)
    seen = trials.seen(world.connection, found(world, asking))
    assert seen is not None
    assert seen.boot_environment == "h2"
    # What it took it keeps.
    assert found(world, other).boot_key == found(world, one).boot_key


def test_a_boot_answers_whoever_wants_its_environment_or_any(world: World) -> None:
    numbers = [want(world), want(world, "h1")]
    boot(world)
    assert [found(world, number).outcome for number in numbers] == [Outcome.PASS] * 2
    assert len({found(world, number).boot_key for number in numbers}) == 1
    left = world.claim([JobKind.BOOT])
    # Nobody wants the other job any more.
    assert left is None or world.work(left) is None


def test_of_two_boots_that_are_the_same_the_first_counts(world: World) -> None:
    """Both were under way; the second one would change what trials have settled by."""
    numbers = [want(world), want(world, "h1")]
    first, second = next_boot(world), next_boot(world)
    results = [world.work(job) for job in (first, second)]
    world.record(first, results[0])
    world.record(second, replace(results[1], finding=HANG, milestone=Milestone.LINKED))  # type: ignore[type-var]
    collect(world)
    assert [found(world, number).outcome for number in numbers] == [Outcome.PASS] * 2
    (row,) = world.rows("SELECT is_good FROM boot")
    assert row["is_good"]
    assert not world.rows("SELECT 1 FROM finding WHERE step_kind = 'boot'")


def test_an_environment_that_is_back_opens_what_was_refused(world: World) -> None:
    world.hosts = [2, 2]
    number = want(world, "h1")
    boot(world)
    assert (found(world, number).outcome, found(world, number).tries) == (Outcome.REFUSED, 0)
    world.hosts = [2, 1]
    other = replace(FIRST, sample=Sample(repeat=1, boot_environment="h1"))
    with transaction(world.connection):
        motion.want(world.connection, other, JobKind.JUDGE, "1", now=world.now)
    boot(world)
    assert found(world, number).outcome is None
    boot(world)
    assert found(world, number).outcome is Outcome.PASS
