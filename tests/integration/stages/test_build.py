# SPDX-License-Identifier: GPL-2.0-or-later
"""The build stage on this machine: real git, make, clang and sandbox, on the toy kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.git import Git
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.adapters.kernel.buildtools import identify
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.kconfig import KconfigRecipe
from kwatch.domain.recipe.toolchain import Environment
from kwatch.domain.run import LOG
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.steps import BuildResult, CheckoutResult
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.domain.verdict.question import Goal, Phase
from kwatch.errors import InfraError
from kwatch.stages import build
from kwatch.store import investigations, motion, recipes, steps
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.stages.jobs import NOW, keep, next_of, want
from tests.lab.toy import history as toy
from tests.unit.domain.trials import BOOT, BUILD, SERIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kwatch.domain.recipe.build import BuildRecipe
    from kwatch.domain.recipe.toolchain import Toolchain, ToolchainVersions
    from kwatch.store.database import Transaction

if shutil.which("bwrap") is None:
    pytest.skip("bubblewrap is not installed", allow_module_level=True)

TOY = replace(BUILD, kconfig=KconfigRecipe(base="tinyconfig", fragments=()))
FIRST = Sample()
OURS, OTHER, CONTROL = SERIES.digest, "5" * 64, None
# Writes wherever a Makefile can write, and says what it finds there.
PLANTING = """
WRITABLE := $(wildcard $(objtree) /build/ccache)
$(info planted here: $(wildcard $(WRITABLE:=/planted)) of $(WRITABLE))
$(shell for folder in $(WRITABLE); do touch $$folder/planted; done)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """What the stage works with, and the toy kernel's repository."""

    source: Path
    git: Git
    host: Host
    pool: Pool
    blobs: Blobs
    database: Database
    scratch: Path

    async def commit(self, name: str, text: str) -> str:
        """Add ``text`` to the toy's Makefile; the commit."""
        old = "include $(wildcard $(objtree)/.config)\n"
        toy.commit(self.source, branch="lib", subject=name, edits={"Makefile": (old, old + text)})
        return await self.fetched()

    async def fetched(self) -> str:
        await self.git.fetch(str(self.source), ["+HEAD:refs/kwatch/head"])
        return (await self.git.run("rev-parse", "refs/kwatch/head")).text()

    async def build(
        self,
        commit: str,
        series: str | None = OURS,
        *,
        recipe: BuildRecipe = TOY,
        sample: Sample = FIRST,
        verification: int | None = None,
    ) -> BuildResult:
        """Have the stage build a commit that a series is said to be on.

        A lane wants it, or the investigation ``verification``.
        """
        source = with_series(commit, series)
        trial = Trial(source=source, build=recipe.digest, boot=BOOT.digest, sample=sample)

        def checked_out(tx: Transaction) -> None:
            # A tree of its own for each, or the second would find the build of the first.
            result = CheckoutResult(
                key=source.key, result=commit, tree_id=source.key[:40], patches=(), finding=None,
                took=1.0,
            )  # fmt: skip
            steps.put_checkout(tx, result, now=NOW)
            if verification is None:
                want(tx, trial, build=recipe)
            else:
                recipes.put(tx, recipe, BOOT)
                asker = str(verification)
                number = motion.want(tx, trial, JobKind.INVESTIGATE, asker, now=NOW)
                investigations.note_step(tx, verification, number, Phase.VERIFY, now=NOW)

        await self.database.write(checked_out)
        job = await next_of(self.database, JobKind.BUILD)
        found = await build.run(
            job, git=self.git, pool=self.pool, blobs=self.blobs, database=self.database,
            scratch=self.scratch,
        )  # fmt: skip
        assert found is not None
        assert found.recipe == recipe.digest
        await keep(self.database, job, found)
        return found.result

    async def verification(self) -> int:
        """An investigation that has come to its clean builds."""

        def put(tx: Transaction) -> int:
            row = tx.execute(
                "INSERT INTO investigation (goal, question, phase, opened_at)"
                " VALUES (?, '{}', ?, ?) RETURNING id",
                (Goal.CAUSE, Phase.VERIFY, time.time()),
            ).fetchone()
            return int(row["id"])

        return await self.database.write(put)

    async def caches(self) -> dict[str, Mapping[str, int]]:
        """What ccache counted in each compiler cache of the host, by its name."""
        folder = Path(await self.host.account.path("ccache"))
        found: dict[str, Mapping[str, int]] = {}
        for cache in sorted(folder.iterdir()):
            printed = subprocess.run(
                ["ccache", "--dir", cache, "--print-stats"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            rows = (line.split("\t") for line in printed.stdout.splitlines())
            found[cache.name] = {name: int(value) for name, value in rows}
        return found

    async def seen(self, result: BuildResult) -> str:
        """What a PLANTING Makefile found before anything was made."""
        log = (await self.blobs.read(result.artifacts[LOG])).decode()
        found = re.search(r"^planted here: (.*)$", log, re.MULTILINE)
        assert found is not None, log
        return found[1]


@pytest.fixture
async def builds(tmp_path: Path, database: Database) -> AsyncIterator[Builds]:
    source = tmp_path / "source"
    toy.make_repository(source)
    git = Git(tmp_path / "linux.git")
    await git.create()
    spec = HostSpec(
        name="here", directory=str(tmp_path / "host"), arch="x86_64", slots={Slot.BUILD: 1}
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with Host(spec) as host:
        pool = Pool([host], clock=time.time)
        await pool.admit("here")
        blobs = Blobs(tmp_path / "blobs", database=database, budget=1 << 30, clock=time.time)
        yield Builds(
            source=source, git=git, host=host, pool=pool, blobs=blobs, database=database,
            scratch=scratch,
        )  # fmt: skip
        await host.runs.reap(())


async def test_what_a_series_writes_is_read_by_no_other_build(builds: Builds) -> None:
    first = await builds.commit("plant", PLANTING)
    empty = " of /build/out /build/ccache"
    for series in (OURS, OTHER, CONTROL):
        result = await builds.build(first, series)
        assert (result.milestone, result.finding) == (Milestone.LINKED, None)
        assert await builds.seen(result) == empty
    # Its own folders it has again.
    second = await builds.commit("again", "# more\n")
    for series in (OURS, OTHER, CONTROL):
        assert await builds.seen(await builds.build(second, series)) == (
            "/build/out/planted /build/ccache/planted" + empty
        )


async def test_a_rebuild_from_nothing_uses_no_compiler_cache(builds: Builds) -> None:
    says = "$(info ccache is off: $(CCACHE_DISABLE))\n"
    commit = await builds.commit("plant", PLANTING + says)
    one = await builds.build(commit)
    again = await builds.build(commit, sample=Sample(rebuild=1))
    assert await builds.seen(again) == " of /build/out"
    assert "\nccache is off: 1\n" in (await builds.blobs.read(again.artifacts[LOG])).decode()
    # All that differs is where it came from.
    for name in ("image", "vmlinux", "config"):
        assert again.artifacts[name] == one.artifacts[name]


async def test_clean_builds_of_a_verification_share_a_cache_that_began_empty(
    builds: Builds,
) -> None:
    parent = await builds.commit("plant", PLANTING)
    culprit = await builds.commit("again", "# more\n")
    one = await builds.build(culprit)
    number = await builds.verification()
    clean = Sample(rebuild=1)
    first = await builds.build(culprit, sample=clean, verification=number)
    (name,) = (name for name in await builds.caches() if name.startswith("clean-"))
    counted = (await builds.caches())[name]
    # The cache of the series was full of it, and of what its Makefiles had planted.
    assert await builds.seen(first) == " of /build/out /build/ccache"
    assert counted["direct_cache_hit"] == counted["preprocessed_cache_hit"] == 0
    assert counted["cache_miss"] > 5
    second = await builds.build(parent, sample=clean, verification=number)
    assert await builds.seen(second) == "/build/ccache/planted of /build/out /build/ccache"
    after = (await builds.caches())[name]
    assert after["direct_cache_hit"] == counted["cache_miss"]
    assert after["cache_miss"] == counted["cache_miss"]
    # All that differs is where it came from.
    for artifact in ("image", "vmlinux", "config"):
        assert first.artifacts[artifact] == one.artifacts[artifact]


async def test_no_other_build_reads_the_cache_of_a_verification(builds: Builds) -> None:
    commit = await builds.commit("plant", PLANTING)
    nothing = " of /build/out /build/ccache"
    one, two = await builds.verification(), await builds.verification()
    clean = Sample(rebuild=1)
    for series, number in ((OURS, one), (CONTROL, one), (OTHER, two)):
        found = await builds.build(commit, series, sample=clean, verification=number)
        assert await builds.seen(found) == nothing
    # One that goes on from what a clean build made has the cache of its series all the same.
    again = await builds.build(commit, OURS)
    assert await builds.seen(again) == "/build/out/planted" + nothing
    # A tag that is built anew has none.
    again = await builds.build(commit, OURS, sample=Sample(rebuild=2))
    assert await builds.seen(again) == " of /build/out"


async def test_a_toolchain_links_with_both_of_its_linkers(builds: Builds) -> None:
    commit = await builds.fetched()
    toolchain = replace(TOY.toolchain, linker_objects="ld.bfd")
    one = await builds.build(commit)
    both = await builds.build(commit, recipe=replace(TOY, toolchain=toolchain))
    assert both.finding is None
    assert both.artifacts["vmlinux"] != one.artifacts["vmlinux"]
    assert both.environment.splitlines()[0].endswith("for vmlinux.o)")
    assert "GNU ld" in both.environment


async def test_other_programs_of_the_same_version_build_from_nothing(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade of packages in /usr cannot be had here. Kbuild compares versions alone."""
    first = await builds.commit("plant", PLANTING)
    before = await builds.build(first)
    assert re.fullmatch(r"[0-9a-f]{16}", before.environment_digest)

    async def upgraded(host: Host, toolchain: Toolchain) -> tuple[ToolchainVersions, Environment]:
        versions, found = await identify(host, toolchain)
        compiler, *others = found.parts
        return versions, Environment(parts=(replace(compiler, content="0" * 64), *others))

    monkeypatch.setattr(build, "identify", upgraded)
    after = await builds.build(await builds.commit("again", "# more\n"))
    # No version differs, only the identity of them all.
    lines = [one.environment.splitlines() for one in (before, after)]
    assert lines[0][:-1] == lines[1][:-1]
    assert [found[-1] for found in lines] == [
        f"environment: {one.environment_digest}" for one in (before, after)
    ]
    assert after.environment_digest != before.environment_digest
    # ccache compares the compiler's content by itself.
    assert (await builds.seen(after)).split(" of ")[0] == "/build/ccache/planted"


async def test_a_trial_that_compares_is_built_by_no_other_tools(builds: Builds) -> None:
    """A step of a search takes the tools of the tag that failed: others would be another result."""
    commit = await builds.fetched()
    one = await builds.build(commit)
    sample = Sample(rebuild=1, environment=one.environment_digest)
    same = await builds.build(commit, sample=sample)
    assert same.environment_digest == one.environment_digest
    with pytest.raises(InfraError, match=r"other tools .* than the trial compares with"):
        await builds.build(commit, sample=replace(sample, environment="0" * 16))


async def test_an_override_of_one_option_is_another_build(builds: Builds) -> None:
    commit = await builds.fetched()
    one = await builds.build(commit)
    less = await builds.build(commit, recipe=replace(TOY, options=(("PRINTK_TIME", "n"),)))
    assert (one.finding, less.finding) == (None, None)
    config = (await builds.blobs.read(less.artifacts["config"])).decode()
    assert "# CONFIG_PRINTK_TIME is not set\n" in config
    assert less.artifacts["image"] != one.artifacts["image"]


async def test_what_a_build_warns_of_is_kept_beside_what_fails_it(builds: Builds) -> None:
    warns = "$(info drivers/serial.c:3:1: warning: this is only odd [-Wodd])\n"
    fails = "$(info lib/sort.c:7:2: error: no such thing)\n$(error it cannot go on)\n"
    for number, (text, is_cause) in enumerate([(warns, False), (warns + fails, True)]):
        result = await builds.build(await builds.commit(f"c{number}", text))
        assert (result.finding is not None) is is_cause
        assert ("drivers/serial.c", "this is only odd [-Wodd]") in [
            (one.file, one.title) for one in result.others
        ]
        # They are rows of the history, and come back with the build.
        stored = await builds.database.read(steps.build, result.row)
        assert stored == result
