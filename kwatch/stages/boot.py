# SPDX-License-Identifier: GPL-2.0-or-later
"""boot: start a kernel in QEMU on a host, watch it, and keep what it said."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.guest.environment import KnownEnvironments, identify
from kwatch.adapters.guest.initramfs import build_initramfs, digest_of_user_space
from kwatch.adapters.guest.recording import Recording
from kwatch.adapters.guest.session import Session
from kwatch.adapters.host.runs import cancellation_of_job
from kwatch.adapters.kernel.image import Image, located, names_of
from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.ending import BootVerdict
from kwatch.domain.boot.phase import usual
from kwatch.domain.deadguest import profile_counters, progress
from kwatch.domain.facts import EnvironmentGone
from kwatch.domain.lab.host import UNLABELLED, Need, Slot
from kwatch.domain.lab.job import Handle, Job, JobKind
from kwatch.domain.log.addresses import MAX_ADDRESSES, bare_addresses, with_names
from kwatch.domain.log.console import ConsoleReader
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from kwatch.domain.recipe.boot_environment import BootEnvironment
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.run import CONSOLE
from kwatch.domain.trial.case_results import results_of
from kwatch.domain.trial.diagnosis import examine, others_of
from kwatch.domain.trial.steps import BootResult, BuildResult, boot_row, inputs_of
from kwatch.domain.trial.trial import Trial
from kwatch.errors import InfraError
from kwatch.store import good_boots, live, queue, recipes, steps, trials
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.adapters.host.pool import Lease, Pool
    from kwatch.domain.deadguest.autopsy import Autopsy
    from kwatch.domain.log.scan import Reading
    from kwatch.store.database import Transaction

log = logging.getLogger(__name__)

NO_CARES: Mapping[str, BootCare] = MappingProxyType({})
# A kernel's profile is some 100 MB.
PROFILE_LIMIT = 1 << 29


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    build: BuildResult
    trial: Trial
    recipe: BootRecipe
    toolchain: Toolchain


async def run(
    job: Job,
    *,
    pool: Pool,
    blobs: Blobs,
    database: Database,
    scratch: Path,
    busybox: Mapping[str, bytes],
    accelerators: Accelerators,
    known: KnownEnvironments,
    cares: Mapping[str, BootCare] = NO_CARES,
    labels: Mapping[str, frozenset[str]] = UNLABELLED,
) -> BootResult | EnvironmentGone | None:
    """Boot the kernel that ``job.key`` names; store/live says where it can be followed.

    Where it asks for a boot environment, hosts that have another one are passed over.

    ``cares`` and ``labels`` say how it is watched and what a host must have, by the digest of the
    boot recipe.
    """
    inputs = await database.read(_inputs, job.key)
    if inputs is None:
        return None
    care = cares.get(inputs.trial.boot) or BootCare()
    profile = BootProfile(recipe=inputs.recipe, care=care)
    image = partial(_image, inputs, pool=pool, blobs=blobs, scratch=scratch)
    with Recording(folder=live.folder(scratch, job.key)) as heard:
        booter = _Booter(
            job=job, inputs=inputs, profile=profile, heard=heard, image=image, blobs=blobs,
            database=database, scratch=scratch, busybox=busybox[profile.recipe.arch],
            accelerators=accelerators, known=known,
        )  # fmt: skip
        asked = inputs.trial.sample.boot_environment
        need, booted = _need(inputs, labels), None
        tried, passed_over = frozenset[str](), known.without(asked)
        while booted is None:
            need = replace(need, without=tried | passed_over)
            if need.without and not pool.serves(need):
                if not passed_over:
                    log.info("boot environment %s is gone from all hosts", asked)
                    return EnvironmentGone(key=job.key)
                passed_over = frozenset()
                continue
            async with pool.lease(need, prefer=_adoptable(job, need)) as lease:
                booted = await booter.boot(lease)
            tried |= {lease.host.name}
        verdict = booted.verdict
        log.info("%s, %s: %s", booted.host, verdict.end, verdict.reason)
        return await _result(
            inputs, heard, booted, image=image, blobs=blobs, database=database, key=job.key
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Booted:
    verdict: BootVerdict
    host: str
    environment: BootEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class _Booter:
    """One attempt at one boot, on one host after the other."""

    job: Job
    inputs: _Inputs
    profile: BootProfile
    heard: Recording
    image: Callable[[], Awaitable[Image]]
    blobs: Blobs
    database: Database
    scratch: Path
    busybox: bytes
    accelerators: Accelerators
    known: KnownEnvironments

    async def boot(self, lease: Lease) -> _Booted | None:
        """Boot there; None where the trial asks for another environment than the host has."""
        host, profile = lease.host, self.profile
        accelerator = await self.accelerators.best(host, profile)
        arch = ARCHES[profile.recipe.arch]
        user_space = await asyncio.to_thread(digest_of_user_space, arch, self.busybox)
        environment = await identify(host, arch, accelerator, user_space)
        self.known.note(host.name, arch, environment)
        if self.inputs.trial.sample.boot_environment not in {"", environment.digest}:
            return None
        digest = self.inputs.build.artifacts["image"]
        kernel = await host.cache.obtain(digest, partial(self.blobs.copy, digest), self.scratch)
        initramfs = await host.cache.put_bytes(
            await asyncio.to_thread(_initramfs, profile, self.busybox)
        )
        run_id = await _run_id(self.job, lease, environment.digest, self.database)
        phases = await self.database.read(good_boots.phases, self.inputs.trial.boot, accelerator)
        session = Session(
            host,
            profile=profile,
            accelerator=accelerator,
            heard=self.heard,
            image=self.image,
            usual=usual(phases),
            cancellation=cancellation_of_job(),
        )
        verdict = await session.run(run_id, kernel=kernel, initramfs=initramfs)
        _must_be_of_the_kernel(verdict, self.heard, host.name)
        return _Booted(verdict=verdict, host=host.name, environment=environment)


def _adoptable(job: Job, need: Need) -> Handle | None:
    """What the last daemon left, where its host will do."""
    return job.handle if job.handle and job.handle.host not in need.without else None


async def _run_id(job: Job, lease: Lease, environment: str, database: Database) -> str:
    """The run of QEMU: that of the last daemon where it still runs, else one to be started.

    One that was started in another environment, before an upgrade, is ended: nobody would know
    what it shows anything about.
    """
    host, run_id = lease.host, f"boot-{job.id}-{job.attempt}"
    handle = Handle(host=host.name, run_id=run_id, slot=lease.slot, environment=environment)
    if job.handle == handle and await host.runs.adopt(run_id):
        log.info("%s: going on with %s", host.name, run_id)
    elif job.handle and job.handle.host == host.name and job.handle.environment != environment:
        await host.runs.discard(job.handle.run_id)
    await database.write(queue.remember, job, handle)
    return run_id


async def _result(
    inputs: _Inputs,
    heard: Recording,
    booted: _Booted,
    *,
    image: Callable[[], Awaitable[Image]],
    blobs: Blobs,
    database: Database,
    key: str,
) -> BootResult:
    """What the boot was, from what the guest said and what was found in it when it had ended."""
    verdict, environment = booted.verdict, booted.environment
    artifacts = await _kept(heard, blobs)
    autopsy = heard.autopsy
    if autopsy is not None:
        good = await database.read(good_boots.profile, inputs.trial.build, inputs.trial.boot)
        autopsy = await _with_whereabouts(autopsy, heard.counters, good, blobs, image)
    names, console = await _read(heard, verdict, image)
    finding = examine(
        verdict.end,
        verdict.milestone,
        console,
        heard.statuses,
        autopsy,
        test_results=inputs.recipe.test_results,
    )
    return BootResult(
        key=boot_row(inputs_of(key), environment.digest),
        build=inputs.build.row,
        end=verdict.end,
        milestone=verdict.milestone,
        finding=await located(finding, image),
        others=others_of(finding, console, inputs.recipe.test_results),
        statuses=heard.statuses,
        autopsy=autopsy,
        names=names,
        artifacts=artifacts,
        host=booted.host,
        accelerator=environment.accelerator,
        environment="\n".join(environment.describe()),
        took=verdict.took,
        boot_seconds=verdict.boot_seconds,
        phases=verdict.phases,
        tests=Counter(case.status for case in console.cases),
        cases=results_of(console.cases),
        test_results=inputs.recipe.test_results,
    )


def _need(inputs: _Inputs, labels: Mapping[str, frozenset[str]]) -> Need:
    recipe = inputs.recipe
    return Need(
        slot=Slot.BOOT,
        arch=recipe.arch,
        accelerator=None if recipe.accelerator is Accelerator.AUTO else recipe.accelerator,
        labels=labels.get(inputs.trial.boot, frozenset()),
        host=inputs.trial.sample.host or None,
        memory=recipe.memory_mib << 20,
    )


async def _kept(heard: Recording, blobs: Blobs) -> Mapping[str, str]:
    """The digests of what the guest said, by its names."""
    artifacts = {CONSOLE: await blobs.put(heard.console)}
    if heard.is_intact:
        artifacts["profile"] = await blobs.put(heard.profile)
    if heard.dump.exists():
        artifacts["dump"] = await blobs.put(heard.dump)
    return artifacts


def _must_be_of_the_kernel(verdict: BootVerdict, heard: Recording, host: str) -> None:
    """Raise InfraError where the end of a boot says something about its host only."""
    if verdict.end.is_infra:
        said = heard.log[-1000:].decode("utf-8", "replace").strip()
        raise InfraError(f"{host}: {verdict.reason}{': ' + said if said else ''}", host=host)


async def _with_whereabouts(
    autopsy: Autopsy,
    now: profile_counters.Counters | None,
    good: str | None,
    blobs: Blobs,
    image: Callable[[], Awaitable[Image]],
) -> Autopsy:
    """The autopsy with where it stopped, beside the profile ``good``, if that can be told."""
    if now is None or good is None:
        return autopsy
    try:
        profile = profile_counters.of_profile(await blobs.read(good, limit=PROFILE_LIMIT))
        if profile is None:
            return autopsy
        before = profile_counters.entries(profile)
        calls = await (await image()).calls(progress.ROOTS, progress.once_only(before))
    except InfraError as error:
        log.warning("where it stopped stays unknown: %s", error)
        return autopsy
    found = progress.find(calls, before, profile_counters.entries(now))
    return replace(autopsy, stopped=str(found or ""))


async def _read(
    heard: Recording, verdict: BootVerdict, image: Callable[[], Awaitable[Image]]
) -> tuple[Mapping[int, str], Reading]:
    """Names for the addresses on a console that has only these, and what it then says."""
    names = await names_of(await asyncio.to_thread(_addresses, heard), image)
    return names, await asyncio.to_thread(_named, heard, names) if names else verdict.console


def _addresses(heard: Recording) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for piece in heard.pieces():
        found |= dict.fromkeys(bare_addresses(piece))
        if len(found) >= MAX_ADDRESSES:
            break
    return tuple(found)[:MAX_ADDRESSES]


def _named(heard: Recording, names: Mapping[int, str]) -> Reading:
    reader = ConsoleReader()
    for piece in heard.pieces():
        reader.feed(with_names(piece, names))
    return reader.finish()


def _inputs(tx: Transaction, key: str) -> _Inputs | None:
    trial = steps.wanted(tx, JobKind.BOOT, key)
    if trial is None:
        return None
    # Builds of the same image are not the same vmlinux: one that is still kept will do.
    builds = [steps.build(tx, one.build_row) for one in trials.waiting(tx, JobKind.BOOT, key)]
    build = next((one for one in builds if one is not None and one.available), None)
    if build is None:
        return None
    return _Inputs(
        build=build,
        trial=trial,
        recipe=recipes.boot(tx, trial.boot),
        toolchain=recipes.build(tx, trial.build).toolchain,
    )


async def _image(inputs: _Inputs, *, pool: Pool, blobs: Blobs, scratch: Path) -> Image:
    """The image that was booted, where the tools are that can read it."""
    host = pool.with_tools(inputs.build.host)
    digest = inputs.build.artifacts["vmlinux"]
    path = await host.cache.obtain(digest, partial(blobs.copy, digest), scratch)
    return Image(host, path, inputs.toolchain)


def _initramfs(profile: BootProfile, busybox: bytes) -> bytes:
    return build_initramfs(
        arch=ARCHES[profile.recipe.arch],
        busybox=busybox,
        commands=profile.recipe.commands,
        counters=profile.recipe.counters,
        command_timeout=timedelta(seconds=profile.care.command_timeout),
    )
