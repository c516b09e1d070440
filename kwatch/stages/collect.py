# SPDX-License-Identifier: GPL-2.0-or-later
"""collect: coverage out of a raw profile, with the LLVM tools of the toolchain that built it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kwatch.adapters import llvm
from kwatch.adapters.coverage_export import read_export
from kwatch.adapters.kernel import kbuild
from kwatch.adapters.kernel.sandbox import Sandbox
from kwatch.domain.coverage.profile_header import HEADER_BYTES, Malformed, check_profile
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.trial.steps import BootResult, BuildResult, Collection
from kwatch.errors import InfraError
from kwatch.store import recipes, steps, trials

if TYPE_CHECKING:
    from kwatch.adapters.host.host import Host
    from kwatch.adapters.host.pool import Pool
    from kwatch.domain.coverage.figures import Coverage
    from kwatch.domain.lab.job import Job
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

PROFILE_LIMIT = 1 << 30
EXPORT_LIMIT = 1 << 28
DEADLINE = 1800.0
SHORT = 60.0
# $0 what the folders of all attempts begin with, $1 folder; a killed attempt left its own behind.
MAKE_FOLDER = 'rm -rf -- "$0"-* && mkdir -p "$1"'
# In the sandbox: $0 limit in blocks of 512 bytes, $1... command. A file takes no memory anywhere.
EXPORT_TO_FILE = 'ulimit -f "$0" && exec "$@" >/out/export.json'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    toolchain: Toolchain
    build: BuildResult
    boot: BootResult


class _RejectedError(Exception):
    """The tools do not take what the guest gave: data, told in the finding."""


async def run(
    job: Job, *, pool: Pool, blobs: Blobs, database: Database, scratch: Path
) -> Collection | None:
    """Read the profile of the boot that ``job.key`` names."""
    inputs = await database.read(_inputs, job.key)
    if inputs is None:
        return None
    started = time.monotonic()
    coverage, finding = None, None
    with tempfile.TemporaryDirectory(dir=scratch, prefix="collect-") as name:
        try:
            coverage = await _coverage(
                job, inputs, pool=pool, blobs=blobs, scratch=scratch, folder=Path(name)
            )
        except _RejectedError as rejection:
            finding = _finding(str(rejection))
    return Collection(
        key=job.key, finding=finding, coverage=coverage, took=time.monotonic() - started
    )


def _inputs(tx: Transaction, key: str) -> _Inputs | None:
    trial = steps.wanted(tx, JobKind.COLLECT, key)
    boot = steps.boot(tx, key)
    if trial is None or boot is None:
        return None
    # Builds of the same image share their boots: any of them has the map of the profile.
    rows = [boot.build, *(one.build_row for one in trials.waiting(tx, JobKind.COLLECT, key))]
    builds = [steps.build(tx, row) for row in rows]
    build = next((one for one in builds if one is not None and one.available), None)
    if build is None:
        return None
    toolchain = recipes.build(tx, trial.build).toolchain
    return _Inputs(toolchain=toolchain, build=build, boot=boot)


def _finding(reason: str) -> Finding:
    return Finding(kind=FindingKind.COVERAGE, title=f"the coverage profile is no good: {reason}")


async def _coverage(
    job: Job, inputs: _Inputs, *, pool: Pool, blobs: Blobs, scratch: Path, folder: Path
) -> Coverage:
    """Profile and export pass through files in ``folder``: either may have a gigabyte."""
    profile, digest = folder / "profile", inputs.boot.artifacts["profile"]
    await blobs.copy(digest, profile)
    if (malformed := await asyncio.to_thread(_check, profile)) is not None:
        raise _RejectedError(malformed)
    host = pool.with_tools(inputs.build.host)
    image = inputs.build.artifacts["vmlinux"]
    vmlinux = await host.cache.obtain(image, partial(blobs.copy, image), scratch)
    profraw = await host.cache.put(digest, profile)
    profile.unlink()
    export = folder / "export.json"
    await _export(host, job, inputs.toolchain, vmlinux=vmlinux, profraw=profraw, export=export)
    return await read_export(export, kbuild.ROOTS)


def _check(profile: Path) -> str | None:
    """Why a profile is not handed to the tools, or None."""
    size = profile.stat().st_size
    if size > PROFILE_LIMIT:
        return f"it has {size} bytes, more than {PROFILE_LIMIT}"
    with profile.open("rb") as file:
        header = check_profile(file.read(HEADER_BYTES), size)
    return header.reason if isinstance(header, Malformed) else None


async def _export(
    host: Host, job: Job, toolchain: Toolchain, *, vmlinux: str, profraw: str, export: Path
) -> None:
    """Run the tools on the host and fetch what llvm-cov exported."""
    tools = llvm.Llvm(suffix=toolchain.llvm_suffix)
    mine = await host.account.path(f"collect/{job.id}")
    folder = f"{mine}-{job.attempt}"
    await host.account.run(["sh", "-c", MAKE_FOLDER, mine, folder], timeout=SHORT)
    sandbox = Sandbox(
        read_only={"/in/vmlinux": vmlinux, "/in/profraw": profraw},
        writable={"/out": folder},
    )
    profdata = PurePosixPath("/out/profdata")
    merge = tools.merge_command(PurePosixPath("/in/profraw"), profdata)
    write = tools.export_command(profdata, PurePosixPath("/in/vmlinux"))
    to_file = ("sh", "-c", EXPORT_TO_FILE, str(EXPORT_LIMIT // 512), *write)
    try:
        merged = await host.account.run(sandbox.command(merge), timeout=DEADLINE, check=False)
        if merged.status != 0:
            _reject(host, merged.stderr, llvm.explain_merge_failure(_text(merged.stderr)))
        exported = await host.account.run(sandbox.command(to_file), timeout=DEADLINE, check=False)
        if exported.status != 0:
            _reject(host, exported.stderr, llvm.explain_export_failure(_text(exported.stderr)))
        foreign = llvm.mismatched_functions(_text(exported.stderr))
        if foreign:
            raise _RejectedError(f"{foreign} functions are not those of the kernel that was booted")
        await host.account.get(f"{folder}/export.json", export, EXPORT_LIMIT)
    finally:
        with contextlib.suppress(InfraError):
            await host.account.run(["rm", "-rf", "--", folder], timeout=SHORT)


def _reject(host: Host, stderr: bytes, explanation: str | None) -> None:
    """Tell a profile that is rejected from a tool that is broken."""
    if explanation is not None:
        raise _RejectedError(explanation)
    raise InfraError(
        f"{host.name}: the LLVM tools failed: {_text(stderr)[-1000:].strip()}", host=host.name
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
