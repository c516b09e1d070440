# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tag is tried with: every variant whose series is accepted, in its newest version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Revision, Tree
from kwatch.domain.trial.trial import Sample
from kwatch.domain.verdict.lane import Lane
from kwatch.stages import plan
from kwatch.store import lanes, queue, recipes, revisions, series
from tests.integration.stages.jobs import claimed, keep, queued
from tests.unit.domain.trials import BOOT, BUILD, CONTROL, SERIES, VARIANT

if TYPE_CHECKING:
    import pytest

    from kwatch.domain.facts import Planned
    from kwatch.domain.source.series import Series
    from kwatch.store.database import Database

COVERAGE = replace(VARIANT, name="coverage")
PLAIN = replace(CONTROL, name="plain")
TREES = {"next": Tree(name="next", url="", tags=("next-*",), variants=("coverage", "plain"))}
VARIANTS = {"coverage": COVERAGE, "plain": PLAIN}
COMMIT = "a" * 40


async def seen(database: Database, tree: str = "next") -> str:
    revision = Revision(tree=tree, tag="next-20261116", commit=COMMIT, seen_at=1.0)
    return str(await database.write(revisions.add, revision))


async def planned(database: Database, number: str) -> tuple[Job, Planned]:
    job = await claimed(database, JobKind.PLAN, number)
    facts = await plan.run(job, trees=TREES, variants=VARIANTS, database=database)
    assert facts is not None
    return job, facts


def version(number: int, *, accepted: bool = True) -> Series:
    return replace(
        SERIES,
        digest=f"{number}" * 64,
        posted_at=1000.0 * number,
        accepted_by="operator@example.org" if accepted else None,
    )


async def series_of(database: Database, number: str) -> list[str | None]:
    _, facts = await planned(database, number)
    return [one.trial.source.series for one in facts.plans]


async def test_a_variant_waits_for_its_series_and_the_others_go_on(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    number = await seen(database)
    await database.write(series.put, version(1, accepted=False), b"mbox")
    job, facts = await planned(database, number)
    (found,) = facts.plans
    assert facts.revision == int(number)
    assert found.lane == Lane(tree="next", variant="plain")
    assert (found.trial.source.base, found.trial.source.changes) == (COMMIT, ())
    assert (found.trial.build, found.trial.boot) == (BUILD.digest, BOOT.digest)
    assert (found.trial.until, found.trial.sample) == (Milestone.COLLECTED, Sample())
    assert "not tried in coverage, no version of the series mcdc is accepted yet" in caplog.text
    await keep(database, job, facts)
    assert await queued(database, JobKind.CHECKOUT) == [found.trial.source.key]
    # The recipes are kept with it.
    assert await database.read(recipes.build, BUILD.digest) == BUILD
    assert await database.read(recipes.boot, BOOT.digest) == BOOT


async def test_the_newest_accepted_version_is_taken(database: Database) -> None:
    number = await seen(database)
    for one in (version(2), version(1), version(3, accepted=False)):
        await database.write(series.put, one, b"mbox")
    assert await series_of(database, number) == ["2" * 64, None]
    await database.write(series.accept, "3" * 64, by="operator")
    await database.write(lambda tx: tx.execute("DELETE FROM job"))
    assert await series_of(database, number) == ["3" * 64, None]


async def test_what_is_planned_twice_is_wanted_once(database: Database) -> None:
    number = await seen(database)
    await database.write(series.put, version(1), b"mbox")
    for _ in range(2):
        job, facts = await planned(database, number)
        await keep(database, job, facts)
    rows = await database.read(lambda tx: tx.execute("SELECT count(*) FROM trial").fetchone()[0])
    assert rows == 2
    assert len(await database.read(lanes.planned, int(number))) == 2
    checkouts = [job for job in await database.read(queue.alive) if job.kind == JobKind.CHECKOUT]
    assert len(checkouts) == 2


async def test_the_trial_with_the_newest_version_is_the_one_that_counts(
    database: Database,
) -> None:
    """The tag stays one row of its lane; what it gave before is kept as evidence."""
    number = await seen(database)
    for one in (version(1), version(2)):
        await database.write(series.put, one, b"mbox")
        job, facts = await planned(database, number)
        await keep(database, job, facts)
    lane = await database.write(lanes.number, Lane(tree="next", variant="coverage"))
    (run,) = await database.read(lanes.runs, lane)
    assert run.trial.source.series == "2" * 64
    rows = await database.read(lambda tx: tx.execute("SELECT count(*) FROM trial").fetchone()[0])
    assert rows == 3


async def test_a_tree_that_is_no_longer_configured(database: Database) -> None:
    job = await claimed(database, JobKind.PLAN, await seen(database, "gone"))
    assert await plan.run(job, trees=TREES, variants=VARIANTS, database=database) is None
