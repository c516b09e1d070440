# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tag is tried with: every variant whose series is accepted, in its newest version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.recipe.variant import VariantSpec

from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.source.revision import Revision, Tree
from kwatch.stages import plan
from kwatch.store import history, queue, versions
from tests.integration.stages.jobs import claimed, keep, queued
from tests.unit.domain.trials import SERIES, VARIANT

if TYPE_CHECKING:
    import pytest

    from kwatch.domain.facts import Planned
    from kwatch.domain.source.series import Series
    from kwatch.store.database import Database

COVERAGE = VariantSpec(
    name="coverage",
    arch=VARIANT.arch,
    series="mcdc",
    toolchain=VARIANT.toolchain,
    kconfig=VARIANT.kconfig,
    profile=VARIANT.profile,
)
PLAIN = replace(COVERAGE, name="plain", series=None)
TREES = {"next": Tree(name="next", url="", tags=("next-*",), variants=("coverage", "plain"))}
VARIANTS = {"coverage": COVERAGE, "plain": PLAIN}
COMMIT = "a" * 40


async def seen(database: Database, tree: str = "next") -> str:
    revision = Revision(tree=tree, tag="next-20261116", commit=COMMIT, seen_at=1.0)
    return str(await database.write(history.add_revision, revision))


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
    return [variant.series.digest if variant.series else None for _, variant in facts.trials]


async def test_a_variant_waits_for_its_series_and_the_others_go_on(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    number = await seen(database)
    await database.write(versions.put, version(1, accepted=False), b"mbox")
    job, facts = await planned(database, number)
    ((trial, variant),) = facts.trials
    assert (trial.commit, variant.name, variant.series) == (COMMIT, "plain", None)
    assert trial.variant == variant.digest
    assert "waits: no version of the series mcdc is accepted yet" in caplog.text
    await keep(database, job, facts)
    assert len(await queued(database, JobKind.CHECKOUT)) == 1


async def test_the_newest_accepted_version_is_taken(database: Database) -> None:
    number = await seen(database)
    for one in (version(2), version(1), version(3, accepted=False)):
        await database.write(versions.put, one, b"mbox")
    assert await series_of(database, number) == ["2" * 64, None]
    await database.write(versions.accept, "3" * 64, by="operator")
    await database.write(lambda tx: tx.execute("DELETE FROM job"))
    assert await series_of(database, number) == ["3" * 64, None]


async def test_what_is_planned_twice_is_wanted_once(database: Database) -> None:
    number = await seen(database)
    await database.write(versions.put, version(1), b"mbox")
    for _ in range(2):
        job, facts = await planned(database, number)
        await keep(database, job, facts)
    rows = await database.read(
        lambda tx: tx.execute("SELECT count(*) FROM observation").fetchone()[0]
    )
    assert rows == 2
    checkouts = [job for job in await database.read(queue.alive) if job.kind == JobKind.CHECKOUT]
    assert len(checkouts) == 2


async def test_a_tree_that_is_no_longer_configured(database: Database) -> None:
    job = await claimed(database, JobKind.PLAN, await seen(database, "gone"))
    assert await plan.run(job, trees=TREES, variants=VARIANTS, database=database) is None
