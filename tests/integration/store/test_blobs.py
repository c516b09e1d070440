# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import zstandard

from kwatch.domain.lab.job import JobKind
from kwatch.domain.source.revision import Revision
from kwatch.domain.verdict.judge import Opened
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Goal, Phase
from kwatch.domain.verdict.regression import RegressionEvent
from kwatch.errors import DiskFullError, InfraError
from kwatch.store import investigations, lanes, recipes, regressions, revisions, steps
from kwatch.store import trials as trial_store
from kwatch.store.blobs import CHUNK, KEEP_SECONDS, Blobs
from kwatch.store.database import Database, connect
from tests.unit.domain import trials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from kwatch.store.database import Transaction

KIB = 1024


@dataclass(slots=True, kw_only=True)
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "kwatch.db")
    yield database
    await database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path, database: Database, clock: Clock) -> Blobs:
    return Blobs(tmp_path / "blobs", database=database, budget=10 * KIB, clock=clock)


def noise(number: int, size: int = KIB) -> bytes:
    """Bytes that cannot be compressed."""
    return random.Random(number).randbytes(size)  # noqa: S311 - a test wants to be repeatable


async def known(database: Database) -> set[str]:
    rows = await database.read(lambda tx: tx.execute("SELECT digest FROM blob").fetchall())
    return {row["digest"] for row in rows}


def files(blobs: Blobs) -> set[str]:
    return {path.name.removesuffix(".zst") for path in blobs.directory.glob("*/*")}


@pytest.mark.parametrize("content", [b"", b"x", b"line\n" * 100_000, noise(1, 3 * CHUNK + 1)])
async def test_what_is_kept_comes_back(blobs: Blobs, tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    digest = await blobs.put(source)
    assert digest == hashlib.sha256(content).hexdigest()
    assert await blobs.put(content) == digest
    assert await blobs.read(digest) == content
    await blobs.copy(digest, target)
    assert target.read_bytes() == content
    assert files(blobs) == {digest}


async def test_a_blob_that_is_larger_than_the_reader_can_hold_is_refused(blobs: Blobs) -> None:
    digest = await blobs.put(b"0" * CHUNK)
    with pytest.raises(InfraError, match="larger than 100 bytes"):
        await blobs.read(digest, limit=100)
    assert len(await blobs.read(digest, limit=CHUNK)) == CHUNK


async def test_images_go_before_logs_and_the_oldest_first(
    blobs: Blobs, database: Database, clock: Clock
) -> None:
    digests = {}
    for number, name in enumerate(["log", "image", "console", "vmlinux", "nobody's"]):
        digests[name] = await blobs.put(noise(number, 2 * KIB - 64))
        clock.now += 1
    await database.write(
        steps.put_artifacts,
        JobKind.BUILD,
        "k",
        {name: digests[name] for name in ("log", "image", "vmlinux")},
    )
    await database.write(steps.put_artifacts, JobKind.BOOT, "k", {"console": digests["console"]})
    # Reading is using: the image was read after the vmlinux.
    await blobs.read(digests["image"])
    order = []
    for number in range(10, 15):
        clock.now += KEEP_SECONDS + 1
        before = await known(database)
        await blobs.put(noise(number, 2 * KIB - 64))
        gone = before - await known(database)
        order += [name for name, digest in digests.items() if digest in gone]
        assert files(blobs) == await known(database)
    assert order[:3] == ["vmlinux", "nobody's", "image"]
    # From here on the new ones, which belong to nobody, go before the logs.
    assert not {"log", "console"}.intersection(order)


async def test_nothing_that_was_used_within_the_hour_is_taken(
    blobs: Blobs, database: Database, clock: Clock
) -> None:
    first = await blobs.put(noise(1, 8 * KIB))
    clock.now += KEEP_SECONDS - 1
    second = await blobs.put(noise(2, 8 * KIB))
    assert await known(database) == {first, second}
    clock.now += 2
    third = await blobs.put(noise(3, 8 * KIB))
    assert await known(database) == {second, third}
    assert files(blobs) == {second, third}


async def test_a_build_knows_when_its_image_is_gone(
    blobs: Blobs, database: Database, clock: Clock
) -> None:
    artifacts = {"image": await blobs.put(noise(1)), "log": await blobs.put(noise(2))}
    result = trials.build("k", artifacts=artifacts)
    await database.write(steps.put_build, result, "recipe", now=clock.now)

    async def is_available() -> bool:
        found = await database.read(steps.build, result.row)
        assert found is not None
        return found.available

    assert await is_available()
    clock.now += KEEP_SECONDS + 1
    await blobs.put(noise(3, 9 * KIB - 256))
    assert not await is_available()
    assert artifacts["log"] in await known(database)
    assert await blobs.put(noise(1)) == artifacts["image"]
    assert await is_available()


def an_open_regression(tx: Transaction, blobs: dict[str, dict[str, str]]) -> int:
    """A regression; ``blobs`` are those of its tags, of a sighting, and of a bisection step."""
    recipes.put(tx, trials.BUILD, trials.BOOT)
    lane = lanes.number(tx, Lane(tree="next", variant="x86_64"))
    runs = {}
    for number, name in enumerate(("good", "bad", "sighting", "step")):
        found = trial_store.put(tx, trials.trial(name), now=0.0)
        kept = blobs[name]
        built = trials.build(
            name, artifacts={key: kept[key] for key in ("image", "log", "config") if key in kept}
        )
        booted = trials.boot(f"boot {name}", built.row, artifacts={"console": kept["console"]})
        steps.put_build(tx, built, "recipe", now=0.0)
        steps.put_boot(tx, booted, "recipe", now=0.0)
        tx.execute(
            "UPDATE trial SET build_row = ?, boot_key = ?, outcome = 'fail' WHERE id = ?",
            (built.row, booted.key, found),
        )
        revision = Revision(tree="next", tag=f"next-{number}", commit=name, seen_at=0.0)
        runs[name] = lanes.run(tx, revisions.add(tx, revision), found)
    opened = Opened(facet=Facet.FAILURE, finding=trials.HANG, good=runs["good"], bad=runs["bad"])
    regression = regressions.open_regression(tx, lane, opened, now=0.0)
    regressions.sight(tx, regression, lane, runs["sighting"], now=0.0)
    search = investigations.open_investigation(
        tx, regression, Goal.CAUSE, lane=lane, fixed=None, now=0.0
    )
    assert search is not None
    investigations.note_step(tx, search, runs["step"].number, Phase.BISECT, now=0.0)
    return regression


async def test_evidence_of_open_regressions_survives_the_budget(
    blobs: Blobs, database: Database, clock: Clock
) -> None:
    kept: dict[str, dict[str, str]] = {}
    for number, name in enumerate(("good", "bad", "sighting", "step")):
        kept[name] = {
            what: await blobs.put(noise(10 * number + place, 600))
            for place, what in enumerate(("image", "log", "config", "console"))
        }
    regression = await database.write(an_open_regression, kept)
    evidence = {digest for one in kept.values() for what, digest in one.items() if what != "image"}
    images = {one["image"] for one in kept.values()}
    for number in range(100, 102):
        clock.now += KEEP_SECONDS + 1
        await blobs.put(noise(number, 10 * KIB))
    assert evidence <= await known(database)
    # A kernel can be built again.
    assert not images & await known(database)
    for event in (RegressionEvent.CONFIRMED, RegressionEvent.FIXED):
        await database.write(regressions.advance, regression, event, {}, now=clock.now)
    for number in range(200, 202):
        clock.now += KEEP_SECONDS + 1
        await blobs.put(noise(number, 10 * KIB))
    assert not evidence & await known(database)


def written_before(blobs: Blobs, content: bytes) -> str:
    """Store a blob as kwatch did before the seekable format: one frame, no table."""
    digest = hashlib.sha256(content).hexdigest()
    path = blobs.path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.ZstdCompressor(level=3).compress(content))
    return digest


CONTENTS = (b"", b"x", b"line\n" * 700_000, noise(1, CHUNK), noise(2, 3 * CHUNK + 1))


@pytest.mark.parametrize("content", CONTENTS, ids=len)
@pytest.mark.parametrize("limit", [1, 1000, CHUNK, CHUNK + 1, 5 * CHUNK])
async def test_the_tail_of_a_blob(blobs: Blobs, content: bytes, limit: int) -> None:
    assert await blobs.tail(await blobs.put(content), limit=limit) == content[-limit:]


@pytest.mark.parametrize("content", CONTENTS, ids=len)
async def test_blobs_without_a_seek_table_are_read(blobs: Blobs, content: bytes) -> None:
    digest = written_before(blobs, content)
    assert await blobs.read(digest) == content
    assert await blobs.tail(digest, limit=1000) == content[-1000:]


async def test_the_tail_needs_the_last_frames_only(blobs: Blobs) -> None:
    content = noise(3, 8 * CHUNK)
    digest = await blobs.put(content)
    with blobs.path(digest).open("r+b") as file:
        file.write(bytes(6 * CHUNK))
    assert await blobs.tail(digest, limit=CHUNK) == content[-CHUNK:]
    with pytest.raises(InfraError, match="damaged"):
        await blobs.tail(digest, limit=5 * CHUNK)


async def test_any_zstd_decompresses_a_blob(blobs: Blobs) -> None:
    content = b"line\n" * 700_000
    path = blobs.path(await blobs.put(content))
    done = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True)
    assert done.stdout == content
    assert path.stat().st_mode & 0o777 == 0o640


async def test_reading_writes_nothing_to_the_database(
    blobs: Blobs, database: Database, clock: Clock
) -> None:
    digest = await blobs.put(noise(1))
    clock.now += 500
    with closing(connect(database.path, read_only=True)) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()[0]
        await blobs.read(digest)
        await blobs.tail(digest, limit=10)
        assert await blobs.has(digest)
        assert not await blobs.has("0" * 64)
        assert connection.execute("PRAGMA data_version").fetchone()[0] == before
        await blobs.flush()
        (used,) = connection.execute("SELECT used_at FROM blob").fetchone()
    assert used == clock.now


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 4)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def scramble(path: Path) -> None:
    path.write_bytes(b"no zstandard frame at all")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, empty, flip, scramble, remove])
@pytest.mark.parametrize("content", [noise(7, 3 * KIB), b"some text\n" * 1000])
async def test_what_is_damaged_is_never_taken_for_what_was_kept(
    blobs: Blobs, database: Database, tmp_path: Path, damage: object, content: bytes
) -> None:
    assert callable(damage)
    digest = await blobs.put(content)
    damage(blobs.path(digest))
    with pytest.raises(InfraError, match=digest[:12]):
        await blobs.tail(digest, limit=CHUNK)
    with pytest.raises(InfraError, match=digest[:12]):
        await blobs.read(digest)
    digest = await blobs.put(content)
    damage(blobs.path(digest))
    with pytest.raises(InfraError, match=digest[:12]):
        await blobs.copy(digest, tmp_path / "copy")
    # It counts as gone, so that a kernel is built again; and that makes it whole.
    assert digest not in await known(database)
    await blobs.put(content)
    assert await blobs.read(digest) == content


async def test_a_blob_that_never_was_is_trouble_of_the_lab(blobs: Blobs) -> None:
    with pytest.raises(InfraError, match="is gone from"):
        await blobs.read("0" * 64)


async def test_what_a_crash_left_is_swept(blobs: Blobs, database: Database, clock: Clock) -> None:
    assert await blobs.sweep() == 0
    kept = await blobs.put(noise(1))
    (blobs.directory / "part-abc").write_bytes(b"half")
    # Killed between the file and its row: nothing would ever take it away.
    orphan = blobs.path("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"whole")
    assert await blobs.sweep() == 2
    assert files(blobs) == {kept} == await known(database)
    assert list(blobs.directory.glob("part-*")) == []


async def test_every_row_has_its_file_whatever_happens_at_once(
    blobs: Blobs, database: Database, clock: Clock
) -> None:
    """What the budget takes may be what somebody puts again at that very moment."""
    contents = [noise(number, 3 * KIB) for number in range(6)]
    for _ in range(15):
        clock.now += KEEP_SECONDS + 1
        async with asyncio.TaskGroup() as group:
            for content in contents:
                group.create_task(blobs.put(content))
        assert files(blobs) == await known(database)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("nothing may be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


async def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tiny_disk: Path, tmp_path: Path, database: Database, clock: Clock
) -> None:
    blobs = Blobs(tiny_disk / "blobs", database=database, budget=1 << 30, clock=clock)
    kept = await blobs.put(noise(1, 300 * KIB))
    with pytest.raises(DiskFullError, match="make room"):
        await blobs.put(noise(2, 2048 * KIB))
    assert [path.name for path in blobs.directory.iterdir() if path.is_file()] == []
    assert files(blobs) == {kept} == await known(database)
    assert await blobs.read(kept) == noise(1, 300 * KIB)
    big = Blobs(tmp_path / "big", database=database, budget=1 << 30, clock=clock)
    digest = await big.put(noise(3, 2048 * KIB))
    with pytest.raises(DiskFullError):
        await big.copy(digest, tiny_disk / "copy")
    assert digest in await known(database)
