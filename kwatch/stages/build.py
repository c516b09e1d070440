# SPDX-License-Identifier: GPL-2.0-or-later
"""build: configure and make a kernel on a host, and keep what came out of it."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters import kbuild, llvm
from kwatch.adapters.host import OnCancel
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.host import Need, Slot
from kwatch.domain.job import Handle, JobKind
from kwatch.domain.kconfig import config_digest, dropped, merge, parse
from kwatch.domain.log.build import lab_trouble, read_build_log
from kwatch.domain.milestone import Milestone
from kwatch.domain.observation import BuildResult, Trial
from kwatch.domain.run import LOG, Output, RunEnd, RunReason, RunSpec
from kwatch.domain.toolchain import ToolchainVersions
from kwatch.domain.variant import Variant, digest_of
from kwatch.errors import DiskFullError, InfraError
from kwatch.store import history, queue

if TYPE_CHECKING:
    from kwatch.adapters.git import Git
    from kwatch.adapters.host import Host
    from kwatch.adapters.kbuild import BuildSlot
    from kwatch.adapters.pool import Lease, Pool
    from kwatch.domain.job import Job
    from kwatch.domain.toolchain import Toolchain
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

MIB = 1 << 20
LOG_LIMIT = 256 * MIB
FILE_LIMIT = 4096 * MIB
CONFIG_DEADLINE = 900.0
BUILD_DEADLINE = 4 * 3600.0
SHORT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    commit: str
    trial: Trial
    variant: Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What came out of the slot, before anything is kept."""

    milestone: Milestone
    finding: Finding | None
    log: bytes
    config: str | None = None


async def run(
    job: Job, *, git: Git, pool: Pool, blobs: Blobs, database: Database, scratch: Path
) -> BuildResult | None:
    """Build the kernel that ``job.key`` names."""
    inputs = await database.read(_inputs, job.key)
    if inputs is None:
        return None
    started = time.monotonic()
    need = Need(slot=Slot.BUILD, arch=inputs.variant.arch)
    async with pool.lease(need, prefer=job.handle) as lease:
        versions = await probe_toolchain(lease.host, inputs.variant.toolchain)
        builder = _Builder(job=job, lease=lease, inputs=inputs, database=database)
        slot = await builder.prepare(git)
        made = await builder.make(slot)
        artifacts = {LOG: await blobs.put(made.log)}
        if made.config is not None:
            artifacts["config"] = await blobs.put(made.config.encode())
        if made.finding is None:
            files = {
                "image": kbuild.IMAGES[inputs.variant.arch],
                "vmlinux": "vmlinux",
                "system-map": "System.map",
            }
            for name, path in files.items():
                artifacts[name] = await _keep(lease.host, f"{slot.output}/{path}", blobs, scratch)
    return BuildResult(
        key=job.key,
        milestone=made.milestone,
        finding=made.finding,
        config_digest=config_digest(made.config) if made.config is not None else None,
        dropped=_dropped(inputs.variant, made.config),
        artifacts=artifacts,
        host=lease.host.name,
        environment=str(versions),
        took=time.monotonic() - started,
    )


async def probe_toolchain(host: Host, toolchain: Toolchain) -> ToolchainVersions:
    """Ask each program of a toolchain what it is: versions are probed, not believed."""
    found = {}
    for program in {toolchain.compiler, toolchain.linker, toolchain.linker_objects}:
        answered = await host.run(llvm.version_command(program), timeout=SHORT, check=False)
        if answered.status != 0:
            raise InfraError(
                f"{host.name}: {program} does not run ({answered.text()[:200]}"
                f"{answered.stderr[:200].decode('utf-8', 'replace').strip()}): install it there,"
                " or correct the toolchain in the configuration",
                host=host.name,
            )
        found[program] = llvm.parse_version(answered.text())
    return ToolchainVersions(
        compiler=found[toolchain.compiler],
        linker_objects=found[toolchain.linker_objects],
        linker=found[toolchain.linker],
    )


class _Builder:
    """One attempt at one build, in one slot of one host."""

    def __init__(self, *, job: Job, lease: Lease, inputs: _Inputs, database: Database) -> None:
        self._job = job
        self._host = lease.host
        self._slot = lease.slot
        self._inputs = inputs
        self._database = database
        self._log: list[bytes] = []

    async def prepare(self, git: Git) -> BuildSlot:
        """Have the source in the slot."""
        variant, commit = self._inputs.variant, self._inputs.commit
        repository = await kbuild.push(git, self._host, commit)
        return await kbuild.prepare_slot(
            self._host,
            self._slot,
            repository,
            commit,
            recipe=digest_of(
                {
                    "kconfig": variant.kconfig.digest,
                    "arch": variant.arch,
                    "toolchain": variant.toolchain,
                    "series": variant.series is not None,
                }
            )[:12],
            # A rebuild is made from nothing; so is one that takes up where a killed one stopped
            # in the middle of writing, which make cannot tell from a whole one.
            is_fresh=self._inputs.trial.rebuild > 0,
        )

    async def make(self, slot: BuildSlot) -> _Made:
        """Configure and build. A build that fails is data."""
        variant = self._inputs.variant
        base = variant.kconfig.base
        if isinstance(base, str):
            if (await self._run(slot, "base", base, deadline=CONFIG_DEADLINE)).status != 0:
                return self._failed(Milestone.CHECKOUT)
            text = (await self._host.read(f"{slot.output}/.config", 8 * MIB)).decode()
        else:
            text = base.text
        await self._host.write(
            f"{slot.output}/.config", merge(text, variant.kconfig.fragments).encode()
        )
        if (await self._run(slot, "config", "olddefconfig", deadline=CONFIG_DEADLINE)).status != 0:
            return self._failed(Milestone.CHECKOUT)
        config = (await self._host.read(f"{slot.output}/.config", 8 * MIB)).decode()
        targets = (kbuild.IMAGE_TARGETS[variant.arch], "vmlinux")
        end = await self._run(slot, "make", *targets, deadline=BUILD_DEADLINE)
        if end.status != 0:
            return self._failed(Milestone.CONFIG, config=config)
        return _Made(
            milestone=Milestone.LINKED, finding=None, log=b"".join(self._log), config=config
        )

    async def _run(self, slot: BuildSlot, phase: str, *targets: str, deadline: float) -> RunEnd:
        """One ``make``, supervised; its output goes into the log."""
        host = self._host
        facts = await host.probe()
        argv = slot.sandbox().command(
            kbuild.make_command(
                self._inputs.variant.toolchain,
                self._inputs.variant.arch,
                *targets,
                jobs=max(1, int(facts["nproc"]) // host.spec.slots.get(Slot.BUILD, 1)),
                has_ccache=True,
            )
        )
        run_id = f"build-{self._job.id}-{self._job.attempt}-{phase}"
        handle = Handle(host=host.name, run_id=run_id, slot=self._slot)
        await self._database.write(queue.remember, self._job, handle)
        end = await host.supervised(
            run_id,
            RunSpec(argv=argv, deadline=deadline, limits={LOG: LOG_LIMIT}, nice=5),
            self._hear,
            on_cancel=OnCancel.STOP,
        )
        if end.reason is not RunReason.EXITED:
            raise InfraError(
                f"{host.name}: make {' '.join(targets)} was ended by the lab ({end.reason.value}"
                f"{': ' + end.detail if end.detail else ''}) after {end.took:.0f} s",
                host=host.name,
            )
        return end

    async def _hear(self, output: Output) -> None:
        self._log.append(output.data)

    def _failed(self, milestone: Milestone, *, config: str | None = None) -> _Made:
        whole = b"".join(self._log)
        text = whole.decode("utf-8", "replace")
        trouble = lab_trouble(text)
        if trouble is not None:
            kind = DiskFullError if "No space left" in trouble else InfraError
            raise kind(f"{self._host.name}: {trouble}", host=self._host.name)
        finding = read_build_log(text)
        if finding.kind is FindingKind.LINK:
            milestone = Milestone.COMPILED
        return _Made(milestone=milestone, finding=finding, log=whole, config=config)


def _inputs(tx: Transaction, key: str) -> _Inputs | None:
    observation = history.wanted(tx, JobKind.BUILD, key)
    if observation is None:
        return None
    checkout = history.checkout(tx, observation.checkout_key)
    if checkout is None or checkout.result is None:
        return None
    return _Inputs(
        commit=checkout.result,
        trial=observation.trial,
        variant=history.variant(tx, observation.trial.variant),
    )


async def _keep(host: Host, path: str, blobs: Blobs, scratch: Path) -> str:
    """Fetch a file from the host and keep it; its SHA-256."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="fetch-") as folder:
        target = Path(folder) / "file"
        await host.get(path, target, FILE_LIMIT)
        return await blobs.put(target)


def _dropped(variant: Variant, config: str | None) -> tuple[str, ...]:
    """What was asked of Kconfig and did not survive."""
    if config is None:
        return ()
    survived = parse(config, ".config").values
    return tuple(str(line) for line in dropped(variant.kconfig.asked, survived))
