# SPDX-License-Identifier: GPL-2.0-or-later
"""reread: what an older reader read, the present one reads again, a few logs at a time.

Without it a better reader would find the oldest of bugs to be new with the next tag.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.coverage.linkaudit import LINK_AUDIT
from kwatch.domain.facts import Reread
from kwatch.domain.finding import FindingKind
from kwatch.domain.log.addresses import with_names
from kwatch.domain.log.build import build_findings, read_build_log
from kwatch.domain.log.console import read_console
from kwatch.domain.log.scan import READER_VERSION
from kwatch.domain.run import CONSOLE, LOG
from kwatch.domain.trial.case_results import results_of
from kwatch.domain.trial.diagnosis import besides, examine, others_of
from kwatch.domain.trial.steps import BootResult, BuildResult
from kwatch.errors import InfraError
from kwatch.store import steps

if TYPE_CHECKING:
    from kwatch.domain.lab.job import Job
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database

log = logging.getLogger(__name__)

BATCH = 25
LOG_LIMIT = 1 << 28


async def run(_job: Job, *, blobs: Blobs, database: Database) -> Reread | None:
    """Read the newest logs that the present reader has not read."""
    results = await database.read(steps.unread, READER_VERSION, BATCH)
    if not results:
        return None
    log.info("reading %d logs again with reader %d", len(results), READER_VERSION)
    return Reread(
        results=tuple([await _again(result, blobs) for result in results]),
        reader=READER_VERSION,
        more=len(results) == BATCH,
    )


async def _again(result: BuildResult | BootResult, blobs: Blobs) -> BuildResult | BootResult:
    name = LOG if isinstance(result, BuildResult) else CONSOLE
    digest = result.artifacts.get(name)
    if digest is None or not await blobs.has(digest):
        return result
    try:
        said = await blobs.read(digest, limit=LOG_LIMIT)
    except InfraError as error:
        # It stays as it was read before, and holds up no other.
        log.warning("%s", error)
        return result
    if isinstance(result, BuildResult):
        return await asyncio.to_thread(_of_build, result, said)
    return await asyncio.to_thread(_of_boot, result, said)


def _of_build(result: BuildResult, said: bytes) -> BuildResult:
    """The outcome of a build is not up to the reader."""
    found = build_findings(said)
    if result.finding is None or result.finding.rule == LINK_AUDIT:
        return replace(result, others=besides(result.finding, found))
    finding = read_build_log(said)
    finding = result.finding if finding.kind is FindingKind.HOST else finding
    return replace(result, finding=finding, others=besides(finding, found))


def _of_boot(result: BootResult, said: bytes) -> BootResult:
    """Where exactly it is, an image has told that is gone by now."""
    console = read_console(with_names(said, result.names))
    finding = examine(
        BootEnd(result.end),
        result.milestone,
        console,
        result.statuses,
        result.autopsy,
        test_results=result.test_results,
    )
    before = result.finding
    if finding and before and finding.line is None and finding.place == before.place:
        finding = replace(finding, file=before.file, line=before.line)
    return replace(
        result,
        finding=finding,
        others=others_of(finding, console, result.test_results),
        cases=results_of(console.cases),
    )
