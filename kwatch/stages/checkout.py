# SPDX-License-Identifier: GPL-2.0-or-later
"""checkout: the series on a commit, by ``git am -3`` in a scratch worktree."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

from kwatch.adapters.process import failure
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.log.build import lab_trouble
from kwatch.domain.log.line import clean
from kwatch.domain.source.message import Mail, parse
from kwatch.domain.source.series import PatchFate, PatchResult
from kwatch.domain.trial.observation import CheckoutResult
from kwatch.errors import InfraError
from kwatch.store import history, versions

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.adapters.git import Git
    from kwatch.adapters.process import Completed
    from kwatch.domain.lab.job import Job
    from kwatch.store.database import Database, Transaction

# The result must be the same commit whenever it is made.
_IDENTITY = {
    "GIT_COMMITTER_NAME": "kwatch",
    "GIT_COMMITTER_EMAIL": "kwatch@localhost",
}

# What git am says of a file where there is no three-way merge that could leave conflicts.
_REFUSED = re.compile(
    r"^error: (?:patch failed: (.+):\d+|.* lacking or useless \((.+)\)\.)$", re.MULTILINE
)

_NO_PATCHES: tuple[PatchResult, ...] = ()


async def run(job: Job, *, git: Git, scratch: Path, database: Database) -> CheckoutResult | None:
    """Apply the series of the variant that wants the checkout ``job.key``."""
    inputs = await database.read(_inputs, job.key)
    if inputs is None:
        return None
    commit, mbox = inputs
    started = time.monotonic()
    result, patches, finding = commit, _NO_PATCHES, None
    if mbox is not None:
        tree = await git.worktree(scratch, commit)
        result, patches, finding = await _apply(tree, mbox)
    tree_id = None
    if finding is None:
        tree_id = await git.resolve(f"{result}^{{tree}}")
        await git.pin(f"refs/kwatch/checkout/{job.key}", result)
    return CheckoutResult(
        key=job.key,
        result=result if finding is None else None,
        tree_id=tree_id,
        patches=patches,
        finding=finding,
        took=time.monotonic() - started,
    )


def _inputs(tx: Transaction, key: str) -> tuple[str, bytes | None] | None:
    observation = history.wanted(tx, JobKind.CHECKOUT, key)
    if observation is None:
        return None
    variant = history.variant(tx, observation.trial.variant)
    mbox = versions.mbox(tx, variant.series.digest) if variant.series else None
    return observation.trial.commit, mbox


async def _apply(tree: Git, mbox: bytes) -> tuple[str, tuple[PatchResult, ...], Finding | None]:
    """The commit that is the result (if all went well), each patch's fate, and what failed."""
    subjects = _subjects(mbox)
    base = await tree.resolve("HEAD")
    if base is None:
        raise InfraError(f"the scratch worktree {tree.directory} has no HEAD: remove the folder")
    applied = await tree.run(
        "am", "-3", "--quiet", "--patch-format=mboxrd", "--committer-date-is-author-date",
        "--no-gpg-sign", stdin=mbox, env=_IDENTITY, check=False,
    )  # fmt: skip
    head = await tree.resolve("HEAD") or base
    if applied.status == 0:
        return head, _fates(subjects, len(subjects)), None
    if applied.status < 0 or lab_trouble(applied.stderr):
        raise failure(applied)
    number = await _applied(tree)
    conflict = await _conflict(tree, applied)
    await tree.run("am", "--abort", check=False)
    said = [clean(line) for line in (applied.stdout + applied.stderr).decode(
        "utf-8", "replace").splitlines()]  # fmt: skip
    failed = subjects[number] if number < len(subjects) else "the series"
    finding = Finding(
        kind=FindingKind.APPLY,
        title=f"patch {number + 1}/{len(subjects)} does not apply: {failed}",
        file=conflict[0] if conflict else None,
        excerpt=tuple([*said[-20:], *(f"conflict in {path}" for path in conflict)][:40]),
    )
    return base, _fates(subjects, number), finding


async def _applied(tree: Git) -> int:
    """How many patches the ``am`` under way is through with: HEAD lacks those it could skip."""
    counter = await tree.run("rev-parse", "--git-path", "rebase-apply/next")
    with contextlib.suppress(OSError, ValueError):
        return max(int((tree.directory / counter.text()).read_text()) - 1, 0)
    return 0


async def _conflict(tree: Git, applied: Completed) -> list[str]:
    """The files in which the three-way merge left conflicts, or which there was none for."""
    listed = await tree.run("diff", "--name-only", "--diff-filter=U", "-z", check=False)
    files = listed.text().split("\0")[:-1] or [
        merged or refused
        for merged, refused in _REFUSED.findall(applied.stderr.decode("utf-8", "replace"))
    ]
    return [clean(name) for name in files[:20]]


def _fates(subjects: list[str], applied: int) -> tuple[PatchResult, ...]:
    fates = [PatchFate.APPLIED] * applied + [PatchFate.CONFLICT]
    return tuple(
        PatchResult(
            subject=subject, fate=fates[number] if number < len(fates) else PatchFate.UNTRIED
        )
        for number, subject in enumerate(subjects)
    )


def _subjects(mbox: bytes) -> list[str]:
    """The titles of the patches of a series. Those that the operator keeps were never mailed."""
    mails = [parse(b"Message-ID: <never@mailed>\n" + raw) for raw in split(mbox)]
    return [mail.title if isinstance(mail, Mail) else "(unreadable)" for mail in mails]


def split(mbox: bytes) -> list[bytes]:
    """The mails of an mboxrd file; quoted From lines stay quoted."""
    mails: list[list[bytes]] = []
    for line in mbox.splitlines(keepends=True):
        if line.startswith(b"From "):
            mails.append([])
        elif mails:
            mails[-1].append(line)
    return [b"".join(mail) for mail in mails]
