# SPDX-License-Identifier: GPL-2.0-or-later
"""collect: coverage out of a raw profile, with the LLVM tools of the toolchain that built it."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kwatch.adapters import llvm
from kwatch.adapters.kernel import kbuild
from kwatch.adapters.kernel.sandbox import Sandbox
from kwatch.domain.coverage.profile_header import HEADER_BYTES, Malformed, check_profile
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.recipe.variant import Variant
from kwatch.domain.trial.observation import BootResult, BuildResult, Collection
from kwatch.errors import InfraError
from kwatch.store import history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.adapters.host.host import Host
    from kwatch.adapters.host.pool import Pool
    from kwatch.domain.coverage.figures import Coverage
    from kwatch.domain.lab.job import Job
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

PROFILE_LIMIT = 1 << 30
EXPORT_LIMIT = 1 << 28
PIECE = 1 << 20
DEADLINE = 1800.0
SHORT = 60.0
# $0 what the folders of all attempts begin with, $1 folder; a killed attempt left its own behind.
MAKE_FOLDER = 'rm -rf -- "$0"-* && mkdir -p "$1"'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    variant: Variant
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
    profile = await blobs.read(inputs.boot.artifacts["profile"], limit=PROFILE_LIMIT)
    header = check_profile(profile[:HEADER_BYTES], len(profile))
    if isinstance(header, Malformed):
        finding = _finding(header.reason)
    else:
        host = pool.with_tools(inputs.build.host)
        digest = inputs.build.artifacts["vmlinux"]
        try:
            vmlinux = await host.cache.obtain(digest, partial(blobs.copy, digest), scratch)
            coverage = await _report(host, job, inputs.variant, vmlinux, profile)
        except _RejectedError as rejection:
            finding = _finding(str(rejection))
    return Collection(
        key=job.key, finding=finding, coverage=coverage, took=time.monotonic() - started
    )


def _inputs(tx: Transaction, key: str) -> _Inputs | None:
    observation = history.wanted(tx, JobKind.COLLECT, key)
    if observation is None:
        return None
    build = history.build(tx, observation.build_key)
    boot = history.boot(tx, key)
    if build is None or boot is None:
        return None
    return _Inputs(variant=history.variant(tx, observation.trial.variant), build=build, boot=boot)


def _finding(reason: str) -> Finding:
    return Finding(kind=FindingKind.COVERAGE, title=f"the coverage profile is no good: {reason}")


async def _report(host: Host, job: Job, variant: Variant, vmlinux: str, profile: bytes) -> Coverage:
    tools = llvm.Llvm(suffix=variant.toolchain.llvm_suffix)
    profraw = await host.cache.put_bytes(profile)
    mine = await host.account.path(f"collect/{job.id}")
    folder = f"{mine}-{job.attempt}"
    await host.account.run(["sh", "-c", MAKE_FOLDER, mine, folder], timeout=SHORT)
    sandbox = Sandbox(
        read_only={"/in/vmlinux": vmlinux, "/in/profraw": profraw},
        writable={"/out": folder},
    )
    profdata = PurePosixPath("/out/profdata")
    try:
        merged = await host.account.run(
            sandbox.command(tools.merge_command(PurePosixPath("/in/profraw"), profdata)),
            timeout=DEADLINE,
            check=False,
        )
        if merged.status != 0:
            _reject(host, merged.stderr, llvm.explain_merge_failure(_text(merged.stderr)))
        exported = await host.account.run(
            sandbox.command(tools.export_command(profdata, PurePosixPath("/in/vmlinux"))),
            timeout=DEADLINE,
            limit=EXPORT_LIMIT,
            check=False,
        )
        if exported.status != 0:
            _reject(host, exported.stderr, llvm.explain_export_failure(_text(exported.stderr)))
    finally:
        with contextlib.suppress(InfraError):
            await host.account.run(["rm", "-rf", "--", folder], timeout=SHORT)
    foreign = llvm.mismatched_functions(_text(exported.stderr))
    if foreign:
        raise _RejectedError(f"{foreign} functions are not those of the kernel that was booted")
    return await llvm.read_export(_pieces(exported.stdout), kbuild.ROOTS)


def _reject(host: Host, stderr: bytes, explanation: str | None) -> None:
    """Tell a profile that is rejected from a tool that is broken."""
    if explanation is not None:
        raise _RejectedError(explanation)
    raise InfraError(
        f"{host.name}: the LLVM tools failed: {_text(stderr)[-1000:].strip()}", host=host.name
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]
