# SPDX-License-Identifier: GPL-2.0-or-later
"""build: configure and make a kernel on a host, and keep what came out of it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwatch.adapters.host.runs import Cancellation, cancellation_of_job
from kwatch.adapters.kernel import caches, kbuild
from kwatch.adapters.kernel.buildtools import identify
from kwatch.adapters.kernel.image import audit
from kwatch.domain.coverage.linkaudit import lost_instrumentation
from kwatch.domain.digest import digest
from kwatch.domain.facts import Built
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.host import UNLABELLED, Need, Slot
from kwatch.domain.lab.job import Handle, JobKind
from kwatch.domain.log.build import build_findings, read_build_log
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import SOURCES, config_digest, dropped, merge, parse
from kwatch.domain.run import LOG, Output, RunEnd, RunReason, RunSpec
from kwatch.domain.trial.diagnosis import besides
from kwatch.domain.trial.steps import BuildResult, build_key
from kwatch.domain.trial.trial import Trial
from kwatch.errors import DiskFullError, InfraError, is_disk_full
from kwatch.store import queue, recipes, steps, verifications

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.adapters.git import Git
    from kwatch.adapters.host.host import Host
    from kwatch.adapters.host.pool import Lease, Pool
    from kwatch.adapters.kernel.kbuild import BuildSlot
    from kwatch.domain.lab.job import Job
    from kwatch.domain.recipe.toolchain import Environment
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

MIB = 1 << 20
LOG_LIMIT = 256 * MIB
FILE_LIMIT = 4096 * MIB
CONFIG_LIMIT = 8 * MIB
DEADLINE = 4 * 3600.0
# The phase of a build that is worth waiting for after a restart.
MAKE = "make"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    commit: str
    key: str
    trial: Trial
    recipe: BuildRecipe
    verification: str | None

    def cache(self, domain: str) -> str | None:
        """The compiler cache. A build from nothing reads none that was filled for anything else.

        It is not part of the key: it does not change the result.
        """
        if not self.trial.sample.rebuild:
            return domain
        return None if self.verification is None else caches.name(self.verification, domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What came out of the slot, before anything is kept."""

    milestone: Milestone
    finding: Finding | None
    log: bytes
    config: str | None = None


async def run(
    job: Job,
    *,
    git: Git,
    pool: Pool,
    blobs: Blobs,
    database: Database,
    scratch: Path,
    labels: Mapping[str, frozenset[str]] = UNLABELLED,
) -> Built | None:
    """Build the kernel that ``job.key`` names.

    ``labels`` are those that a host must have, by the digest of the recipe.
    """
    inputs = await database.read(_inputs, job.key)
    if inputs is None:
        return None
    started = time.monotonic()
    need = Need(
        slot=Slot.BUILD,
        arch=inputs.recipe.arch,
        labels=labels.get(inputs.recipe.digest, frozenset()),
    )
    async with pool.lease(need, prefer=job.handle) as lease:
        versions, environment = await identify(lease.host, inputs.recipe.toolchain)
        builder = _Builder(
            job=job,
            lease=lease,
            inputs=inputs,
            git=git,
            database=database,
            environment=environment,
        )
        _must_be_asked_for(inputs.trial, environment, lease.host.name)
        slot = await builder.slot()
        made = await builder.adopt(slot)
        if made is None:
            await builder.fill(slot)
            made = await builder.make(slot)
        artifacts = {LOG: await blobs.put(made.log)}
        if made.config is not None:
            artifacts["config"] = await blobs.put(made.config.encode())
        if made.finding is None:
            image = ARCHES[inputs.recipe.arch].image
            artifacts |= await _outputs(lease.host, slot.output, image, blobs, scratch)
    result = BuildResult(
        key=inputs.key,
        milestone=made.milestone,
        finding=made.finding,
        config_digest=config_digest(made.config) if made.config is not None else None,
        dropped=_dropped(inputs.recipe, made.config),
        artifacts=artifacts,
        host=lease.host.name,
        others=besides(made.finding, await asyncio.to_thread(build_findings, made.log)),
        environment="\n".join((str(versions), *environment.describe())),
        environment_digest=environment.digest,
        took=time.monotonic() - started,
    )
    return Built(result=result, recipe=inputs.recipe.digest)


class _Builder:
    """One attempt at one build, in one slot of one host."""

    def __init__(
        self,
        *,
        job: Job,
        lease: Lease,
        inputs: _Inputs,
        git: Git,
        database: Database,
        environment: Environment,
    ) -> None:
        self._job = job
        self._host = lease.host
        self._number = lease.slot
        self._inputs = inputs
        self._git = git
        self._database = database
        self._environment = environment
        self._facts: Mapping[str, Any] | None = None
        self._log: list[bytes] = []

    async def slot(self) -> BuildSlot:
        """Where the build is made: an output folder for each kind of build.

        make does not notice a compiler of the same version and other content: another environment
        is another kind.
        """
        inputs = self._inputs
        domain = kbuild.trust_domain(inputs.trial.source)
        kind = digest(
            "output folder",
            1,
            {
                "recipe": inputs.recipe.digest,
                "domain": domain,
                "environment": self._environment.digest,
            },
        )
        return await kbuild.slot(
            self._host,
            self._number,
            recipe=kind[:12],
            cache=inputs.cache(domain),
            tools=await kbuild.linkers(self._host, inputs.recipe.toolchain),
        )

    async def adopt(self, slot: BuildSlot) -> _Made | None:
        """Follow a ``make`` that the last daemon left, if it still runs or ended by itself."""
        handle = self._job.handle
        if handle is None or handle.host != self._host.name or handle.slot != self._number:
            return None
        if not await self._host.runs.adopt(handle.run_id):
            return None
        if not handle.run_id.endswith(MAKE):
            # It must not write into the slot any more.
            await self._host.runs.discard(handle.run_id)
            return None
        log.info("%s: going on with %s", self._host.name, handle.run_id)
        try:
            return await self._made(slot, await self._supervise(handle.run_id, argv=()))
        except Exception:
            # The next attempt starts from the beginning.
            await self._database.write(queue.remember, self._job, None)
            raise

    async def fill(self, slot: BuildSlot) -> None:
        """Have the source in the slot."""
        repository = await kbuild.push(self._git, self._host, self._inputs.commit)
        await kbuild.fill(
            self._host,
            slot,
            repository,
            self._inputs.commit,
            is_fresh=self._inputs.trial.sample.rebuild > 0,
        )

    async def make(self, slot: BuildSlot) -> _Made:
        """Configure and build. A build that fails is data."""
        # Steps of a bisection seldom differ in what decides a configuration, and making one takes
        # as long as building what they do differ in.
        sources = await self._git.digest(self._inputs.commit, SOURCES)
        key = digest(
            "configuration", 1, {"sources": sources, "environment": self._environment.digest}
        )
        if not await kbuild.is_configured(self._host, slot, key):
            await kbuild.configured(self._host, slot, None)
            if not await self._configure(slot):
                return self._failed(Milestone.CHECKOUT)
            await kbuild.configured(self._host, slot, key)
        end = await self._run(slot, MAKE, ARCHES[self._inputs.recipe.arch].target, "vmlinux")
        return await self._made(slot, end)

    async def _configure(self, slot: BuildSlot) -> bool:
        """Make the ``.config`` that the recipe of the slot's output asks for; whether that went."""
        recipe = self._inputs.recipe
        base = recipe.kconfig.base
        if isinstance(base, str):
            if (await self._run(slot, "base", base)).status != 0:
                return False
            text = (await self._host.account.read(f"{slot.output}/.config", CONFIG_LIMIT)).decode()
        else:
            text = base.text
        await self._host.account.write(
            f"{slot.output}/.config", merge(text, recipe.fragments).encode()
        )
        return (await self._run(slot, "config", "olddefconfig")).status == 0

    async def _made(self, slot: BuildSlot, end: RunEnd) -> _Made:
        await kbuild.finish(self._host, slot)
        config = (await self._host.account.read(f"{slot.output}/.config", CONFIG_LIMIT)).decode()
        if end.status != 0:
            return self._failed(Milestone.CONFIG, config=config)
        lost = lost_instrumentation(await audit(self._host, slot.output))
        return _Made(
            milestone=Milestone.COMPILED if lost else Milestone.LINKED,
            finding=lost,
            log=b"".join(self._log),
            config=config,
        )

    async def _run(self, slot: BuildSlot, phase: str, *targets: str) -> RunEnd:
        """One ``make``, supervised; its output goes into the log.

        The slots of a host share its processors.
        """
        facts = await self._probe()
        argv = slot.sandbox().command(
            kbuild.make_command(
                self._inputs.recipe.toolchain,
                self._inputs.recipe.arch,
                *targets,
                jobs=max(1, int(facts["cpus"]) // self._host.spec.slots.get(Slot.BUILD, 1)),
                launcher="ccache" if "ccache" in facts["tools"] else "",
            )
        )
        run_id = f"build-{self._job.id}-{self._job.attempt}-{phase}"
        handle = Handle(host=self._host.name, run_id=run_id, slot=self._number)
        await self._database.write(queue.remember, self._job, handle)
        return await self._supervise(run_id, argv)

    async def _probe(self) -> Mapping[str, Any]:
        """What the host is and has, asked once."""
        if self._facts is None:
            self._facts = await self._host.account.probe()
        return self._facts

    async def _supervise(self, run_id: str, argv: tuple[str, ...]) -> RunEnd:
        spec = RunSpec(argv=argv, deadline=DEADLINE, limits={LOG: LOG_LIMIT}, nice=5)
        # What comes before make is done again sooner than it is adopted.
        cancellation = cancellation_of_job() if run_id.endswith(MAKE) else Cancellation()
        end = await self._host.runs.supervised(run_id, spec, self._hear, cancellation=cancellation)
        await self._host.runs.discard(run_id)
        if end.reason is not RunReason.EXITED:
            raise InfraError(
                f"{self._host.name}: {run_id} was ended by the lab ({end.reason.value}"
                f"{': ' + end.detail if end.detail else ''}) after {end.took:.0f} s",
                host=self._host.name,
            )
        return end

    async def _hear(self, output: Output) -> None:
        self._log.append(output.data)

    def _failed(self, milestone: Milestone, *, config: str | None = None) -> _Made:
        whole = b"".join(self._log)
        finding = read_build_log(whole)
        if finding.kind is FindingKind.HOST:
            kind = DiskFullError if is_disk_full(finding.title) else InfraError
            raise kind(
                f"{self._host.name}: this says nothing about the kernel: {finding.title}: see to"
                " the memory, the disk and the sandbox of the host",
                host=self._host.name,
            )
        if finding.kind is FindingKind.LINK:
            milestone = Milestone.COMPILED
        return _Made(milestone=milestone, finding=finding, log=whole, config=config)


def _must_be_asked_for(trial: Trial, environment: Environment, host: str) -> None:
    """Raise InfraError where a trial needs other tools than the host has."""
    asked = trial.sample.environment
    if asked and asked != environment.digest:
        raise InfraError(
            f"{host}: other tools ({environment.digest}) than the trial compares with ({asked}):"
            " they were upgraded meanwhile, or hosts have different versions",
            host=host,
        )


def _inputs(tx: Transaction, key: str) -> _Inputs | None:
    trial = steps.wanted(tx, JobKind.BUILD, key)
    if trial is None:
        return None
    checkout = steps.checkout(tx, trial.source.key)
    if checkout is None or checkout.result is None or checkout.tree_id is None:
        return None
    return _Inputs(
        commit=checkout.result,
        key=build_key(checkout.tree_id, trial),
        trial=trial,
        recipe=recipes.build(tx, trial.build),
        verification=verifications.of_build(tx, key),
    )


async def _outputs(
    host: Host, folder: str, image: str, blobs: Blobs, scratch: Path
) -> Mapping[str, str]:
    """The digests of what a build leaves in its output folder, by their names."""
    files = {"image": image, "vmlinux": "vmlinux", "system-map": "System.map"}
    return {
        name: await _keep(host, f"{folder}/{path}", blobs, scratch) for name, path in files.items()
    }


async def _keep(host: Host, path: str, blobs: Blobs, scratch: Path) -> str:
    """Keep a file of the host; its SHA-256. What is known already does not travel again.

    The host keeps a copy as well: it is asked for the coverage of what it built, and often boots
    it.
    """
    digest = await host.cache.keep(path)
    if await blobs.has(digest):
        return digest
    with tempfile.TemporaryDirectory(dir=scratch, prefix="fetch-") as folder:
        target = Path(folder) / "file"
        await host.account.get(path, target, FILE_LIMIT)
        return await blobs.put(target)


def _dropped(recipe: BuildRecipe, config: str | None) -> tuple[str, ...]:
    """What was asked of Kconfig and did not survive."""
    if config is None:
        return ()
    survived = parse(config, ".config").values
    return tuple(str(line) for line in dropped(recipe.kconfig.asked, survived))
