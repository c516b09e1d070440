# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage of a real profile, with the real tools in the real sandbox of a host."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.adapters.process import run
from kwatch.domain.coverage.figures import Count
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.lab.job import Job, JobKind
from kwatch.errors import InfraError
from kwatch.stages import collect
from kwatch.store.blobs import Blobs
from tests.unit.domain import trials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.domain.coverage.figures import Coverage
    from kwatch.store.database import Database

SOURCES = Path(__file__).parents[1] / "adapters" / "profiled"
INSTRUMENT = ("-O0", "-fprofile-instr-generate", "-fcoverage-mapping", "-fcoverage-mcdc")
JOB = Job(id=1, kind=JobKind.COLLECT, key="b", attempt=1, failures=0)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    spec = HostSpec(
        name="here",
        directory=str(tmp_path / "here"),
        arch=platform.machine(),
        slots={Slot.BUILD: 1, Slot.BOOT: 1},
    )
    pool = Pool([Host(spec)], clock=time.time)
    yield pool
    await pool.close()


async def built(folder: Path, *, fresh: bool = True) -> tuple[bytes, bytes]:
    """An instrumented program and the profile of one run of it."""
    for source in SOURCES.iterdir() if fresh else ():
        shutil.copy(source, folder)
    for command in (
        ("clang-22", *INSTRUMENT, "-c", "decisions.c", "-o", "decisions.o"),
        ("clang-22", "-O1", "-c", "profile.c", "-o", "profile.o"),
        ("clang-22", "decisions.o", "profile.o", "-o", "decisions"),
        ("./decisions", "kernel.profraw"),
    ):
        await run(command, cwd=folder, timeout=60)
    return (folder / "decisions").read_bytes(), (folder / "kernel.profraw").read_bytes()


async def collected(
    tmp_path: Path, database: Database, pool: Pool, image: bytes, profile: bytes
) -> Coverage:
    blobs = Blobs(tmp_path / "blobs", database=database, budget=1 << 30, clock=time.time)
    folder = tmp_path / "collect-1"
    folder.mkdir()
    build = trials.build("b1", artifacts={"vmlinux": await blobs.put(image)})
    inputs = collect._Inputs(
        toolchain=trials.TOOLCHAIN,
        build=replace(build, host="here"),
        boot=trials.boot("b", build.row, artifacts={"profile": await blobs.put(profile)}),
    )
    return await collect._coverage(
        JOB, inputs, pool=pool, blobs=blobs, scratch=tmp_path, folder=folder
    )


async def test_a_profile_becomes_figures(tmp_path: Path, database: Database, pool: Pool) -> None:
    image, profile = await built(tmp_path)
    coverage = await collected(tmp_path, database, pool, image, profile)
    assert coverage.totals.functions == Count(covered=3, total=4)
    # Nothing is left on the host but its cache, and no copy of profile or export here.
    assert list((tmp_path / "here" / "collect").iterdir()) == []
    assert [path.name for path in (tmp_path / "collect-1").iterdir()] == ["export.json"]


async def test_a_profile_that_was_cut_off_is_rejected(
    tmp_path: Path, database: Database, pool: Pool
) -> None:
    image, profile = await built(tmp_path)
    with pytest.raises(collect._RejectedError, match="truncated"):
        await collected(tmp_path, database, pool, image, profile[:-9])


async def test_a_profile_of_another_image_is_rejected(
    tmp_path: Path, database: Database, pool: Pool
) -> None:
    _, profile = await built(tmp_path)
    source = tmp_path / "decisions.c"
    source.write_text(source.read_text().replace("a && b", "a && b && a < 9"))
    other, _ = await built(tmp_path, fresh=False)
    with pytest.raises(collect._RejectedError, match="1 functions are not those"):
        await collected(tmp_path, database, pool, other, profile)


async def test_an_export_over_the_limit_is_no_rejection(
    tmp_path: Path, database: Database, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "EXPORT_LIMIT", 512)
    image, profile = await built(tmp_path)
    with pytest.raises(InfraError, match="LLVM tools failed"):
        await collected(tmp_path, database, pool, image, profile)
