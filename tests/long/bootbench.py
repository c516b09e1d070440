# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot stage on this machine, with kernels that are there already."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.guest.environment import KnownEnvironments
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.facts import Built
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.lab.job import JobKind
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from kwatch.domain.source.source import Source
from kwatch.domain.trial.steps import BootResult
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.stages import boot
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.stages.jobs import keep, next_of, want
from tests.unit.domain import trials

if TYPE_CHECKING:
    from typing import Self

    from kwatch.domain.facts import EnvironmentGone
    from kwatch.domain.lab.job import Job
    from tests.lab.sshd import SshHost

# That of arm64 is fetched by tests/lab/setup.sh.
ARM64_FOLDER = Path("/var/tmp/kwatch-arm64")
BUSYBOX = {"x86_64": Path("/bin/busybox"), "arm64": ARM64_FOLDER / "busybox"}
FIRST = Sample()
PROFILE = BootProfile(
    recipe=BootRecipe(accelerator=Accelerator.TCG, memory_mib=512),
    care=BootCare(
        deadlines=Deadlines(kernel=20.0, init=60.0, tests=60.0, collect=20.0, total=200.0,
                            tcg_factor=1.0)
    ),
)  # fmt: skip


def changed(profile: BootProfile, **changes: object) -> BootProfile:
    """The profile with fields of its recipe or its care changed."""
    names = {one.name for one in fields(BootRecipe)}
    recipe = {name: value for name, value in changes.items() if name in names}
    care = {name: value for name, value in changes.items() if name not in names}
    return BootProfile(
        recipe=replace(profile.recipe, **recipe),  # type: ignore[arg-type]
        care=replace(profile.care, **care),  # type: ignore[arg-type]
    )


@dataclass(slots=True, kw_only=True)
class BootBench:
    """A store, a pool of one host, and kernels to boot there."""

    database: Database
    pool: Pool
    blobs: Blobs
    scratch: Path
    cares: dict[str, BootCare] = field(default_factory=dict)
    known: KnownEnvironments = field(default_factory=KnownEnvironments)
    booted: int = 0

    @classmethod
    async def open(cls, folder: Path, server: SshHost | None = None) -> Self:
        """A bench with an empty history; its host is this machine, or what ``server`` leads to."""
        if server is None:
            spec = HostSpec(
                name="here",
                directory=str(folder / "host"),
                arch=platform.machine(),
                slots={Slot.BOOT: 1, Slot.BUILD: 1},
            )
        else:
            spec = server.spec(folder / "host", "here")
        spec = replace(spec, accelerators=frozenset({"tcg"}), emulates=frozenset({"arm64"}))
        database = await Database.open(folder / "history.sqlite")
        pool = Pool([Host(spec)], clock=time.time)
        await pool.admit("here")
        blobs = Blobs(folder / "blobs", database=database, budget=8 << 30, clock=time.time)
        scratch = folder / "scratch"
        scratch.mkdir()
        return cls(database=database, pool=pool, blobs=blobs, scratch=scratch)

    async def close(self) -> None:
        """End all connections."""
        await self.pool.close()
        await self.database.close()

    async def boot(self, image: Path, vmlinux: Path, profile: BootProfile) -> BootResult:
        """Boot a kernel as the daemon does."""
        return await self.run(await self.wish(image, vmlinux, profile))

    async def wish(self, image: Path, vmlinux: Path, profile: BootProfile) -> Job:
        """The job to boot a kernel, all that comes before being done."""
        await self.built(image, vmlinux, profile)
        return await next_of(self.database, JobKind.BOOT)

    async def built(
        self, image: Path, vmlinux: Path, profile: BootProfile, sample: Sample = FIRST
    ) -> int:
        """A trial of a source of its own that was built to this kernel; its number."""
        self.booted += 1
        build = replace(trials.BUILD, arch=profile.recipe.arch)
        trial = Trial(
            source=Source(base=f"c{self.booted}"),
            build=build.digest,
            boot=profile.recipe.digest,
            sample=sample,
        )
        self.cares[trial.boot] = profile.care
        number = await self.database.write(want, trial, build=build, boot=profile.recipe)
        job = await next_of(self.database, JobKind.CHECKOUT)
        await keep(self.database, job, trials.checkout(job.key, f"tree-{self.booted}"))
        job = await next_of(self.database, JobKind.BUILD)
        artifacts = {
            "image": await self.blobs.put(image),
            "vmlinux": await self.blobs.put(vmlinux),
        }
        result = trials.build(job.key, artifacts=artifacts)
        await keep(self.database, job, Built(result=result, recipe=build.digest))
        return number

    async def attempt(self, job: Job) -> BootResult | EnvironmentGone | None:
        """What the stage says to such a job."""
        return await boot.run(
            job,
            pool=self.pool,
            blobs=self.blobs,
            database=self.database,
            scratch=self.scratch,
            busybox={arch: path.read_bytes() for arch, path in BUSYBOX.items() if path.exists()},
            accelerators=Accelerators(),
            known=self.known,
            cares=self.cares,
        )

    async def run(self, job: Job) -> BootResult:
        """Carry out such a job."""
        result = await self.attempt(job)
        assert isinstance(result, BootResult)
        await keep(self.database, job, result)
        return result
